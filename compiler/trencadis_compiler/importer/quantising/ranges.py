"""Ranges of tensors on calibration data, by onnxruntime's methods."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_compiler.importer.quantising.insert_quantisers import Range
from trencadis_compiler.importer.quantising.tensor_runs import TensorRuns
from trencadis_compiler.importer.samples import Samples
from trencadis_format.onnxruntime_door import load_quantiser

__all__ = ["METHODS", "Method", "find_ranges"]

Floats = npt.NDArray[np.float64]

Method = Literal["min-max", "entropy", "percentile"]

METHODS: tuple[str, ...] = get_args(Method)

HISTOGRAM_BINS = {"entropy": 128, "percentile": 2048}

CHUNK = 8
"""Samples whose tensors are kept at a time."""


def find_ranges(
    model: onnx.ModelProto,
    names: Sequence[str],
    samples: Samples,
    *,
    method: Method,
    percentile: float,
    label: str,
) -> Mapping[str, Range]:
    """Find the range of each tensor.

    Parameters
    ----------
    model : ModelProto
        The float model.
    names : sequence of str
        Tensors of float32.
    samples : Samples
        Inputs.
    method : str
        "min-max": all numbers that occur. "entropy": the range whose int8 steps tell most about the
        numbers (Kullback-Leibler). "percentile": all but a few of the largest.
    percentile : float
        For that method: per cent of the numbers that are within the range.
    label : str
        What the model is, for messages.

    Returns
    -------
    mapping of str to Range
        Without the tensors that have numbers that are not finite, as masks of attention do.

    Raises
    ------
    CompileError
        If the model cannot be run.
    """
    runs = TensorRuns(model, names, label)
    lows = dict.fromkeys(names, np.inf)
    highs = dict.fromkeys(names, -np.inf)
    moments = {name: np.zeros(3) for name in names}
    unbounded: set[str] = set()
    collector = None if method == "min-max" else _collector(method, percentile)
    for start in range(0, samples.count, CHUNK):
        gathered: dict[str, list[Any]] = {name: [] for name in names}
        for tensors in runs(samples.part(start, start + CHUNK)):
            for name, array in tensors.items():
                if not array.size:
                    continue
                if name in unbounded or not np.isfinite(array).all():
                    unbounded.add(name)
                    continue
                lows[name] = min(lows[name], float(array.min()))
                highs[name] = max(highs[name], float(array.max()))
                gathered[name].append(array)
                numbers = array.astype(np.float64)
                moments[name] += (numbers.size, numbers.sum(), np.square(numbers).sum())
        if collector is not None:
            with redirect_stdout(StringIO()):  # it prints what it is about to do
                collector.collect({name: many for name, many in gathered.items() if many})
    found = {
        name: Range(lows[name], highs[name], _variance(moments[name]))
        for name in names
        if name not in unbounded
    }
    if collector is None:
        return {name: r if r.low <= r.high else Range(0, 0) for name, r in found.items()}
    with redirect_stdout(StringIO()):
        results = collector.compute_collection_result()
    return {name: _narrowed(whole, results.get(name)) for name, whole in found.items()}


def _variance(moments: Floats) -> float:
    count, total, squares = (float(number) for number in moments)
    return max(squares / count - (total / count) ** 2, 0.0) if count else 0.0


def _collector(method: str, percentile: float) -> Any:
    bins = HISTOGRAM_BINS[method]
    return load_quantiser().calibrate.HistogramCollector(
        method, False, bins, 128, percentile, "same"
    )


def _narrowed(whole: Range, result: Any) -> Range:
    """A histogram's range, within what occurs."""
    if result is None or not whole.low <= whole.high:
        return Range(0, 0)
    low, high = (float(np.asarray(bound).reshape(-1)[0]) for bound in result[:2])
    low, high = max(whole.low, low), min(whole.high, high)
    return Range(low, high, whole.variance) if low < high else whole
