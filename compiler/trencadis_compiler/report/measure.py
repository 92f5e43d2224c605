"""Speed of what runs on this machine: the whole model and the host segments, by onnxruntime."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_format.compiled import HostSegment, Segment
from trencadis_format.onnxruntime_door import Mode, exact_mode, open_session

__all__ = ["host_seconds", "model_seconds"]

Array = npt.NDArray[Any]

BUDGET_S = 1.0
MIN_RUNS = 3
MAX_RUNS = 50

MAX_WRITTEN_OUT_BYTES = 1 << 30
"""Bytes of sparse constants written out, as onnxruntime does, above which a model is not run."""

TYPES = {"float": "float32", "double": "float64"}


def model_seconds(model: onnx.ModelProto, mode: Mode = Mode.FAST) -> float | None:
    """Median seconds of one inference of a model, its batch 1; None if it cannot be run.

    A model whose sparse constants take more than `MAX_WRITTEN_OUT_BYTES` dense is not run.

    Inputs are zeros: of dense operators the time does not depend on them.

    Parameters
    ----------
    model : ModelProto
        The model.
    mode : Mode
        How onnxruntime computes; by default as fast as it can.
    """
    sparse = sum(math.prod(tensor.dims) for tensor in model.graph.sparse_initializer)
    if sparse > MAX_WRITTEN_OUT_BYTES:
        return None
    try:
        session = open_session(model.SerializeToString(), mode)
        feed = {node.name: _zeros(node) for node in session.get_inputs()}
        return _median(lambda: session.run(None, feed))
    except Exception:  # onnxruntime raises classes of its own; a figure that lacks is no failure
        return None


def host_seconds(segments: Sequence[Segment]) -> float | None:
    """Median seconds of all host segments together; None if one cannot be run by itself."""
    total = 0.0
    for segment in segments:
        if isinstance(segment, HostSegment):
            model = onnx.load_from_string(segment.model)
            seconds = model_seconds(model, exact_mode(node.op_type for node in model.graph.node))
            if seconds is None:
                return None
            total += seconds
    return total


def _zeros(node: Any) -> Array:
    name = node.type.removeprefix("tensor(").removesuffix(")")
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in node.shape]
    return np.zeros(shape, TYPES.get(name, name))


def _median(run: Callable[[], object]) -> float:
    run()
    times: list[float] = []
    until = time.perf_counter() + BUDGET_S
    while len(times) < MIN_RUNS or (time.perf_counter() < until and len(times) < MAX_RUNS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)
