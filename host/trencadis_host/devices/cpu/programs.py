"""Layers of an image as programs over bytes: where windows begin, how results are written.

Maps are bytes, `[sample][position][channel]`, with the key of zero at every position of padding:
so the zero point needs no arithmetic besides one constant per kernel.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Selection
from trencadis_host.devices.emulator.decode import DecodedInput, DecodedLayer

__all__ = ["LayerProgram", "MapLayout", "PoolProgram", "UnsuitableError", "lower_layers"]

Array = npt.NDArray[np.int64]

SLACK = 64
"""Bytes after a map that may be read, and are not used."""

CHANNEL_ALIGNMENT = 16

POOL_GAIN = 1.3
"""Pooling is a step of its own if that saves this factor of windows."""


class UnsuitableError(ValueError):
    """An image holds what the kernels do not compute; the emulator does."""


@dataclass(frozen=True)
class MapLayout:
    """A map of one sample in memory.

    Attributes
    ----------
    rows, columns, channels : int
        Without padding.
    width : int
        Positions of a padded row.
    first : int
        Position of the first value.
    positions : int
        With padding.
    pitch : int
        Bytes from one position to the next.
    zero : int
        Key of the value zero.
    """

    rows: int
    columns: int
    channels: int
    width: int
    first: int
    positions: int
    pitch: int
    zero: int

    @property
    def stride(self) -> int:
        """Bytes from one sample to the next, a multiple of a cache line."""
        return _rounded(self.positions * self.pitch + SLACK, 64)


@dataclass(frozen=True)
class LayerProgram:
    """One layer, ready for kernels.

    Attributes
    ----------
    weights : int8 array, shape (outputs, window positions, channels)
        The kernels.
    offsets : int64 array, shape (window positions,)
        Positions of a window relative to its first, from 0.
    origins : int64 array, shape (rows, columns)
        Position at which the window of an output's first step begins.
    steps : tuple of int
        Positions from there to the windows over which the maximum is taken; the first is 0.
    source : MapLayout
        What is read.
    target : MapLayout
        What is written: keys, or sums of 32 bits if `raw`.
    sum_bits : int
        Width at which sums wrap around; 32 if no input makes them.
    parameters : dict of int64 array, shape (outputs,)
        Fields of `REQUANTISE`; empty if `raw`.
    low, high : int
        Bounds of keys.
    table : uint8 array, shape (256,), or None
        Keys that take the place of keys.
    selection, k : Selection, int
        Which activations survive.
    survivor_zero : int
        What takes the place of the others.
    """

    weights: npt.NDArray[np.int8]
    offsets: Array
    origins: Array
    steps: tuple[int, ...]
    source: MapLayout
    target: MapLayout
    sum_bits: int
    parameters: dict[str, Array]
    low: int
    high: int
    table: npt.NDArray[np.uint8] | None
    selection: Selection
    k: int
    survivor_zero: int

    @property
    def raw(self) -> bool:
        """The layer gives sums instead of keys."""
        return not self.parameters

    @property
    def winners(self) -> int | None:
        """Activations of a sample that survive; None if that depends on the data alone."""
        return _winners(self.target, self.selection, self.k)

    @property
    def corrections(self) -> Array:
        """Excess of a sum of products with keys over one with values, shape (outputs,)."""
        return self.source.zero * self.weights.astype(np.int64).sum(axis=(1, 2))

    @property
    def reach(self) -> tuple[Array, Array]:
        """Smallest and largest sum of every kernel that an input can make, shape (outputs,)."""
        weights = self.weights.astype(np.int64).reshape(len(self.weights), -1)
        negative = np.minimum(weights, 0).sum(axis=1)
        positive = np.maximum(weights, 0).sum(axis=1)
        least, most = -self.source.zero, 255 - self.source.zero
        return negative * most + positive * least, positive * most + negative * least


@dataclass(frozen=True)
class PoolProgram:
    """The maximum over pooling windows that overlap, of keys: what is before it runs only once.

    Keys never become less as sums grow, so the key of the largest sum is the largest key.

    Attributes
    ----------
    origins, steps, source, target, table, selection, k, survivor_zero
        As in `LayerProgram`.
    """

    origins: Array
    steps: tuple[int, ...]
    source: MapLayout
    target: MapLayout
    table: npt.NDArray[np.uint8] | None
    selection: Selection
    k: int
    survivor_zero: int

    raw = False

    @property
    def winners(self) -> int | None:
        """Activations of a sample that survive; None if that depends on the data alone."""
        return _winners(self.target, self.selection, self.k)


def _winners(target: MapLayout, selection: Selection, k: int) -> int | None:
    return None if selection is Selection.ALL else target.rows * target.columns * k


def lower_layers(
    source: DecodedInput, layers: list[DecodedLayer]
) -> list[LayerProgram | PoolProgram]:
    """Programs of decoded layers, in the order in which a sample passes them.

    Raises
    ------
    UnsuitableError
        If a weight has more than 8 bits, or windows do not lie regularly.
    """
    read = _layout(
        (source.rows, source.columns, source.channels),
        source.width,
        source.first,
        source.zero,
        source.channels,
        _end(layers[0]),
    )
    programs: list[LayerProgram | PoolProgram] = []
    for number, layer in enumerate(layers):
        end = _end(layers[number + 1]) if number + 1 < len(layers) else 0
        programs += _pool_apart(_lower(layer, read, end, f"layer {number}"))
        read = programs[-1].target
    return programs


def _end(layer: DecodedLayer) -> int:
    """Positions up to the last that a layer reads: padding may go on below the rows of a map."""
    return int(layer.origins.max() + layer.offsets.max()) + 1


def _lower(layer: DecodedLayer, source: MapLayout, end: int, name: str) -> LayerProgram:
    outputs, _, channels = layer.weights.shape
    if layer.weights.min(initial=0) < -128 or layer.weights.max(initial=0) > 127:
        raise UnsuitableError(f"{name} has a weight of more than 8 bits")
    if channels < source.channels and layer.weights.size:
        raise UnsuitableError(f"{name} reads {channels} of {source.channels} channels")
    weights = layer.weights[:, :, : source.channels].astype(np.int8)
    if layer.weights[:, :, source.channels :].any():
        raise UnsuitableError(f"{name} has weights of channels that are not there")
    steps = layer.origins - layer.origins[:, :, :1]
    if (steps != steps[0, 0]).any():
        raise UnsuitableError(f"{name} has windows of different shapes")
    rows, columns = layer.origins.shape[:2]
    pitch = _rounded(outputs, CHANNEL_ALIGNMENT) * (4 if layer.raw else 1)
    target = _layout(
        (rows, columns, outputs), layer.width or columns, layer.first, layer.zero, pitch, end
    )
    first = int(layer.offsets.min())
    program = LayerProgram(
        weights=weights,
        offsets=layer.offsets - first,
        origins=layer.origins[:, :, 0] + first,
        steps=tuple(steps[0, 0].tolist()),
        source=source,
        target=target,
        sum_bits=32,
        parameters=layer.parameters,
        low=layer.low,
        high=layer.high,
        table=None if layer.table is None else layer.table.astype(np.uint8),
        selection=layer.selection,
        k=layer.k,
        survivor_zero=layer.zero,
    )
    half = 1 << (layer.sum_bits - 1)
    least, most = program.reach
    if least.min(initial=0) >= -half and most.max(initial=0) < half:
        return program
    return replace(program, sum_bits=layer.sum_bits)


def _pool_apart(program: LayerProgram) -> list[LayerProgram | PoolProgram]:
    """The layer, or the layer without its pooling and that, if windows overlap much."""
    steps = np.array(program.steps)
    windows = np.unique(program.origins[..., None] + steps)
    if program.raw or windows.size * POOL_GAIN >= program.origins.size * len(steps):
        return [program]
    y, x = np.divmod(windows, program.source.width)
    rows, columns = np.unique(y), np.unique(x)
    even = all(len(set(np.diff(axis).tolist())) <= 1 for axis in (rows, columns))
    if not even or rows.size * columns.size != windows.size:
        return [program]
    pitch = program.target.pitch
    shape = (rows.size, columns.size, program.target.channels)
    between = _layout(shape, columns.size, 0, 0, pitch, windows.size)
    places = np.searchsorted(windows, program.origins)
    wide = np.searchsorted(windows, program.origins.ravel()[0] + steps) - places.ravel()[0]
    layer = replace(
        program,
        origins=windows.reshape(rows.size, columns.size),
        steps=(0,),
        target=between,
        table=None,
        selection=Selection.ALL,
    )
    pool = PoolProgram(
        origins=places,
        steps=tuple(wide.tolist()),
        source=between,
        target=program.target,
        table=program.table,
        selection=program.selection,
        k=program.k,
        survivor_zero=program.survivor_zero,
    )
    return [layer, pool]


def _layout(
    shape: tuple[int, int, int], width: int, first: int, zero: int, pitch: int, end: int
) -> MapLayout:
    rows, columns, channels = shape
    top = first // width
    # As much padding below as above and beside is enough for any window.
    height = rows + top + max(top, width - columns) + 1
    positions = max(height * width, end)
    return MapLayout(rows, columns, channels, width, first, positions, pitch, zero)


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
