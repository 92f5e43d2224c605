"""A network's values layer by layer, beside those of the float model it stands for."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.compiled import (
    CompiledNetwork,
    CutSegment,
    HostSegment,
    OverlaySegment,
    Segment,
)
from trencadis_format.errors import InputError
from trencadis_format.tensor_formats import MapFormat, OutputFormat
from trencadis_host.held import watch_layers
from trencadis_host.measure.onnx_model import OnnxModel
from trencadis_host.measure.trace_sums import PairSums, ValueSums

__all__ = ["float_names", "trace_layers"]

Array = npt.NDArray[Any]

PART = 16
"""Samples that are computed at a time: so many of every tensor are held at once."""

HIGHEST_KEY = 255

SUFFIXES = (
    "_dequantised",
    "_quantised",
    "_DequantizeLinear_Output",
    "_QuantizeLinear_Output",
    "_quantized",
    ".dequantised",
    ".quantised",
)
"""Suffixes that quantisers append to a tensor's name."""


def trace_layers(
    network: CompiledNetwork, feed: Mapping[str, Array], float_model: Path | None = None
) -> list[dict[str, Any]]:
    """Compute a network on the emulator, and say what every layer makes.

    Parameters
    ----------
    network : CompiledNetwork
        The network.
    feed : mapping of str to array, shape (samples, ...)
        Its inputs by name.
    float_model : Path, optional
        An ONNX file that takes the same inputs, whose tensors are compared.

    Returns
    -------
    list of dict
        A row for each layer of the overlay and for each tensor that the host makes, in the order
        of computing, JSON-ready; None stands for what is not known.
        `layer`, `place`, `tensor` (its name in the compiled model), `cycles` (predicted, per
        inference); of the tensor's finite values, `low`, `high`, `nonzero` (share), `saturated`
        (share at an end of the 8 bits that is not zero) and `not_finite` (count); beside the
        float model, `float_tensor`, `correlation` (of all numbers, less each element's mean over
        the samples) and `error` (root mean square, as a share of the float tensor's range).

    Raises
    ------
    InputError
        If the inputs are not the model's, or the float model cannot be run on them.
    """
    rows = list(_rows(network))
    names = {row.tensor: float_names(row.tensor) for row in rows if row.tensor}
    original = None
    if float_model is not None:
        wanted = dict.fromkeys(name for found in names.values() for name in found)
        original = OnnxModel(float_model, list(feed), inner=list(wanted))
        if not original.inner:
            raise InputError(
                f"{float_model}: has none of the tensors of the layers, such as "
                f"{list(wanted)[-1]!r}; give the model that was quantised, its names unchanged"
            )
    for part in _parts(network, feed):
        found: dict[str, Array] = {}
        if original is not None:
            found = original.run(part, [*original.inner])
        by_place = {(id(row.segment), row.number): row for row in rows}

        def seen(
            segment: OverlaySegment,
            number: int,
            form: MapFormat,
            keys: Array,
            found: Mapping[str, Array] = found,
            by_place: Mapping[tuple[int, int | str], _Row] = by_place,
        ) -> None:
            by_place[id(segment), number].add_keys(keys, form, found)

        held = watch_layers(network, part, seen)
        for row in rows:
            if row.last:
                row.add_tensor(held[row.tensor], found)
    return [row.figures() for row in rows]


def float_names(tensor: str) -> list[str]:
    """Names that a tensor may have in the float model, the likeliest first."""
    names = [tensor]
    while True:
        shorter = next((names[-1].removesuffix(s) for s in SUFFIXES if names[-1].endswith(s)), "")
        if not shorter:
            return names
        names.append(shorter)


class _Row:
    """A result of a layer, or of the host.

    Parameters
    ----------
    segment : Segment
        Where it is.
    number : int or str
        Number of the layer in its segment; of the host, the tensor.
    layer, place, tensor : str
        See `trace_layers`.
    cycles : float, optional
        Likewise.
    last : bool
        The tensor leaves the segment.
    """

    def __init__(
        self,
        segment: Segment,
        number: int | str,
        layer: str,
        tensor: str,
        cycles: float | None,
        *,
        last: bool,
    ) -> None:
        self.segment, self.number, self.tensor, self.last = segment, number, tensor, last
        self._layer, self._cycles = layer, cycles
        self._values, self._pairs = ValueSums(), PairSums()
        self._float = ""

    def add_keys(self, keys: Array, form: MapFormat, found: Mapping[str, Array]) -> None:
        """Add a map's keys."""
        real = (keys - form.zero_key) * form.scale
        self._values.add(real, _saturated(keys, form.zero_key))
        self._compare(real, found)

    def add_tensor(self, array: Array, found: Mapping[str, Array]) -> None:
        """Add what leaves the segment, as the model declares it."""
        real, saturated = array, None
        if not isinstance(self.segment, HostSegment):
            form = _output(self.segment)
            if not form.raw:
                scale, zero = form.scales[0], form.zero_key
                if form.integer:
                    keys = array.astype(np.int64) + form.key_offset
                    real = (keys - zero) * scale
                else:
                    keys = np.rint(array.astype(np.float64) / scale) + zero
                saturated = _saturated(keys, zero)
        self._values.add(real, saturated)
        self._compare(real, found)

    def _compare(self, real: Array, found: Mapping[str, Array]) -> None:
        for name in float_names(self.tensor) if real.dtype.kind == "f" else ():
            original = found.get(name)
            if original is not None and original.dtype.kind == "f":
                if self._pairs.add(original, real):
                    self._float = name
                return

    def figures(self) -> dict[str, Any]:
        """The row."""
        return {
            "layer": self._layer,
            "place": "host" if isinstance(self.segment, HostSegment) else "overlay",
            "tensor": self.tensor,
            "cycles": self._cycles,
            **self._values.row(),
            "float_tensor": self._float,
            **self._pairs.row(),
        }


def _saturated(keys: Array, zero: int) -> int:
    """Keys at an end of 8 bits, which stand for whatever is beyond; zero stands for itself."""
    ends = [end for end in (0, HIGHEST_KEY) if end != zero]
    return int(sum(np.count_nonzero(keys == end) for end in ends))


def _output(segment: OverlaySegment | CutSegment) -> OutputFormat:
    return segment.output if isinstance(segment, CutSegment) else segment.overlay.output


def _rows(network: CompiledNetwork) -> Iterator[_Row]:
    """A row for every layer and every tensor that the host makes."""
    for segment in network.segments:
        if isinstance(segment, HostSegment):
            for name in segment.outputs:
                yield _Row(segment, name, name, name, None, last=True)
            continue
        tensors = [*_inner(segment), segment.outputs[0]]
        layers = _layers(segment)
        for number, tensor in enumerate(tensors):
            last = number == len(tensors) - 1
            known = len(layers) == len(tensors)
            layer, cycles = layers[number] if known else (f"layer {number}", None)
            yield _Row(segment, number, layer, tensor, cycles, last=last)


def _inner(segment: OverlaySegment | CutSegment) -> list[str]:
    """Tensors that the layers of a segment make, or its stages, but the last one."""
    if isinstance(segment, CutSegment):
        return [""] * (len(segment.stages) - 1)
    return [form.name for form in segment.maps]


def _layers(segment: OverlaySegment | CutSegment) -> list[tuple[str, float | None]]:
    """Names and cycles of a segment's layers, or its stages, as its report has them."""
    if isinstance(segment, CutSegment):
        names = [", ".join(stage.layers) for stage in segment.stages]
        entries = segment.report.get("pieces", [])
    else:
        entries = segment.overlay.report.get("layers", [])
        names = [str(entry["name"]) for entry in entries]
    if len(entries) != len(names):
        return [(name, None) for name in names]
    return [(name, entry["cycles"]) for name, entry in zip(names, entries, strict=True)]


def _parts(network: CompiledNetwork, feed: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The samples, some at a time; all at once where the model's axes may be no batch."""
    arrays = {name: np.asarray(array) for name, array in feed.items()}
    counts = {len(array) if array.ndim else 0 for array in arrays.values()}
    size = network.fixed_batch or PART
    if len(counts) != 1 or 0 in counts or not (network.fixed_batch or network.open_batch):
        yield arrays
        return
    size = -(-PART // size) * size
    for start in range(0, max(counts), size):
        yield {name: array[start : start + size] for name, array in arrays.items()}
