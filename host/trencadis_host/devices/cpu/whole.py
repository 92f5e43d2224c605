"""Layers that were cut into pieces for a core, put together again.

The processor has no core's limits. Weights come from the pieces' images, and what a stage leaves to
the host from its record: nothing is taken from the compiler. Every window of every piece is looked
up in the whole layer, so that a segment is computed whole only where its pieces compute just that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from trencadis_format.cut_segment import CutSegment
from trencadis_format.layer_tables import Selection
from trencadis_format.models.requantise_layer import layer_parameters
from trencadis_format.models.requantise_parameters import InexactError
from trencadis_format.overlay import Overlay
from trencadis_format.pieces import Finish, Piece, Requantisers, Span, Stage
from trencadis_host.devices.cpu.programs import UnsuitableError
from trencadis_host.devices.emulator.decode import DecodedInput, DecodedLayer, decode

__all__ = ["whole_layers"]

Array = npt.NDArray[np.int64]

MAX_WEIGHTS = 1 << 26
"""Weights of a layer, zeros included."""

MAX_WINDOWS = 1 << 26
"""Values of a map that the windows of a layer read, each as often as it is read."""

SUM_BITS = 32
"""Width of a sum that no core has added up."""


@dataclass(frozen=True)
class _Axis:
    """Places of windows along an axis: of output `i` and step `s`, `start + i * stride + steps[s]`.

    Attributes
    ----------
    start, stride : int
        Of the first output's window, and from output to output.
    steps : int64 array, shape (steps,)
        From an output's first window to those over which the maximum is taken.
    """

    start: int
    stride: int
    steps: Array

    def moved(self, by: int) -> "_Axis":
        """The windows of a map that begins elsewhere."""
        return replace(self, start=self.start + by)

    def places(self, outputs: int) -> Array:
        """The first place of all windows, shape (outputs, steps)."""
        return (self.start + np.arange(outputs) * self.stride)[:, None] + self.steps


@dataclass(frozen=True)
class _Layer:
    """A layer by coordinates of its maps, without the padding between rows.

    Attributes
    ----------
    decoded : DecodedLayer
        Its weights and what becomes of sums; the places of windows in it are not used.
    taps : int64 array, shape (window positions, 2)
        Rows and columns of a window.
    rows, columns : _Axis
        Windows.
    shape : (int, int)
        Rows and columns of outputs.
    """

    decoded: DecodedLayer
    taps: Array
    rows: _Axis
    columns: _Axis
    shape: tuple[int, int]


def whole_layers(segment: CutSegment) -> tuple[DecodedInput, list[DecodedLayer]]:
    """The input and the layers of a segment in pieces, as if no piece had been cut.

    Raises
    ------
    UnsuitableError
        If pieces do more, or other things, than layers that are computed whole.
    ValueError
        If an image cannot be decoded.
    """
    layers: list[_Layer] = []
    for number, stage in enumerate(segment.stages):
        later = segment.stages[number + 1 : number + 2]
        found = _stage_layers(segment, stage)
        last = found[-1].decoded
        if later:
            zero = later[0].zero_key
            if last.selection is not Selection.ALL and last.zero != zero:
                raise UnsuitableError("losers become another key than the padding after them")
            if last.raw:
                raise UnsuitableError("sums go from stage to stage")
            found[-1] = replace(found[-1], decoded=replace(last, zero=zero))
        layers += found
    first = segment.stages[0]
    return _laid_out(first.in_shape, first.zero_key, layers)


def _stage_layers(segment: CutSegment, stage: Stage) -> list[_Layer]:
    """The layers of a stage."""
    pieces: dict[int, list[_Layer]] = {}
    for image in stage.images:
        overlay = segment.overlays[image]
        source, decoded = decode(overlay.image, overlay.kernel)
        if source.sparse and overlay.input.nonzeros < overlay.input.channels:
            raise UnsuitableError("a piece refuses inputs of more values")
        pieces[image] = _unplaced(source, decoded, overlay)
    if stage.whole:
        return pieces[stage.images[0]]
    if any(len(layers) != 1 for layers in pieces.values()):
        raise UnsuitableError("a piece of several layers")
    whole = _joined(stage, {image: layers[0] for image, layers in pieces.items()})
    return [whole if stage.join.finish is None else _finished(whole, stage.join.finish)]


def _unplaced(source: DecodedInput, decoded: list[DecodedLayer], overlay: Overlay) -> list[_Layer]:
    """Layers of an image by coordinates of their maps."""
    rows, columns, width, first = source.rows, source.columns, source.width, source.first
    channels = overlay.input.channels
    found = []
    for layer in decoded:
        if layer.weights.shape[2] < channels or layer.weights[:, :, channels:].any():
            raise UnsuitableError("weights are not those of the channels")
        layer = replace(layer, weights=layer.weights[:, :, :channels])
        if layer.raw:
            if any(scale != 1 for scale in overlay.output.scales) or any(overlay.output.offsets):
                raise UnsuitableError("a piece's sums are scaled")
            layer = replace(layer, weights=layer.weights[list(overlay.output.order)])
        found.append(_by_coordinates(layer, (rows, columns), width, first))
        rows, columns = layer.origins.shape[:2]
        width, first, channels = layer.width, layer.first, len(layer.weights)
    return found


def _by_coordinates(layer: DecodedLayer, shape: tuple[int, int], width: int, first: int) -> _Layer:
    """A layer whose windows are places in a padded map of `width`, by rows and columns.

    Raises
    ------
    UnsuitableError
        If windows do not lie regularly.
    """
    outputs = layer.origins.shape[:2]
    anchor, taps = _taps(layer, shape, width, first)
    places = layer.origins + layer.offsets[anchor] - first
    between = [
        int(places[1, 0, 0] - places[0, 0, 0]) if outputs[0] > 1 else width,
        int(places[0, 1, 0] - places[0, 0, 0]) if outputs[1] > 1 else 1,
    ]
    steps = places[0, 0] - places[0, 0, 0]
    top, left = divmod(int(places[0, 0, 0]), width)
    for row, column in ((top, left), (top + 1, left - width)):  # beside a row are two paddings
        found = _Layer(
            layer,
            taps,
            _Axis(row, between[0] // width, steps // width),
            _Axis(column, between[1], steps % width),
            outputs,
        )
        if between[0] % width == 0 and np.array_equal(
            _reads(found, shape), _placed_reads(layer, shape, width, first)
        ):
            return found
    raise UnsuitableError("windows do not lie regularly")


def _taps(layer: DecodedLayer, shape: tuple[int, int], width: int, first: int) -> tuple[int, Array]:
    """The window position that is inside the map most often, and all relative to it.

    Where a position is never inside together with it, the nearest column is taken.
    """
    places = (layer.origins.reshape(-1, 1) + layer.offsets) - first
    y, x = np.divmod(places, width)
    inside = _numbered(y, x, shape) >= 0
    anchor = int(inside.sum(axis=0).argmax())
    apart = layer.offsets - layer.offsets[anchor]
    down = np.rint(apart / width).astype(np.int64)
    both = inside & inside[:, anchor : anchor + 1]
    at = both.argmax(axis=0)
    seen = both.any(axis=0)
    down = np.where(seen, y[at, np.arange(len(at))] - y[at, anchor], down)
    return anchor, np.stack([down, apart - down * width], axis=1)


def _reads(layer: _Layer, shape: tuple[int, int]) -> Array:
    """Values that are read, by number; -1 outside: (rows, columns, steps, window positions)."""
    y = layer.rows.places(layer.shape[0])[:, None, :, None] + layer.taps[:, 0]
    x = layer.columns.places(layer.shape[1])[None, :, :, None] + layer.taps[:, 1]
    return _numbered(y, x, shape)


def _placed_reads(layer: DecodedLayer, shape: tuple[int, int], width: int, first: int) -> Array:
    """Values that are read, as in `_reads`, from places in a padded map."""
    places = layer.origins[..., None] + layer.offsets - first
    return _numbered(places // width, places % width, shape)


def _numbered(y: Array, x: Array, shape: tuple[int, int]) -> Array:
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    return np.where(inside, y * shape[1] + x, -1)


def _joined(stage: Stage, layers: dict[int, _Layer]) -> _Layer:
    """The layer that the pieces of a stage compute together."""
    outputs, rows, columns = stage.join.shape
    channels = stage.in_shape[0]
    one = layers[stage.images[0]]
    origin = _origin(stage.pieces[0], one)
    taps = sorted(
        {
            (y + down, x + right)
            for piece in stage.pieces
            for y, x in [_origin(piece, layers[piece.image])]
            for down, right in layers[piece.image].taps.tolist()
        }
    )
    if outputs * len(taps) * channels > MAX_WEIGHTS:
        raise UnsuitableError("a layer of more weights than are kept dense")
    weights = np.zeros((outputs, len(taps), channels), np.int64)
    done: set[tuple[Span, Span]] = set()
    for piece in stage.pieces:
        layer = layers[piece.image]
        y, x = _origin(piece, layer)
        _check_alike(one, layer)
        part = np.zeros((len(layer.decoded.weights), len(taps), _size(piece.reads.channels)), int)
        numbers = [taps.index((y + down, x + right)) for down, right in layer.taps.tolist()]
        part[:, numbers] = layer.decoded.weights
        block = weights[slice(*piece.writes.channels), :, slice(*piece.reads.channels)]
        channels_of = piece.writes.channels, piece.reads.channels
        if channels_of in done and not np.array_equal(block, part):
            raise UnsuitableError("pieces of one part of a layer have different weights")
        done.add(channels_of)
        block[...] = part
    whole = _Layer(
        decoded=replace(
            one.decoded,
            weights=weights,
            sum_bits=SUM_BITS if stage.join.sums else one.decoded.sum_bits,
            parameters={} if one.decoded.raw else _parameters(stage, layers),
        ),
        taps=np.array(taps, np.int64) - np.array(origin),
        rows=replace(one.rows, start=origin[0]),
        columns=replace(one.columns, start=origin[1]),
        shape=(rows, columns),
    )
    if len(stage.pieces) > 1 and one.decoded.selection is not Selection.ALL:
        raise UnsuitableError("winners are chosen in pieces")
    _check_windows(stage, layers, whole)
    return whole


def _size(span: Span) -> int:
    return span[1] - span[0]


def _origin(piece: Piece, layer: _Layer) -> tuple[int, int]:
    """Place of the first output's window in the whole map."""
    reads, writes = piece.reads, piece.writes
    return (
        layer.rows.start + reads.rows[0] - writes.rows[0] * layer.rows.stride,
        layer.columns.start + reads.columns[0] - writes.columns[0] * layer.columns.stride,
    )


def _check_alike(one: _Layer, other: _Layer) -> None:
    """Check that two images compute parts of the same layer."""
    first, second = one.decoded, other.decoded
    axes = ((one.rows, other.rows), (one.columns, other.columns))
    if (
        any(a.stride != b.stride or not np.array_equal(a.steps, b.steps) for a, b in axes)
        or (first.raw, first.low, first.high, first.selection, first.k, first.sum_bits)
        != (second.raw, second.low, second.high, second.selection, second.k, second.sum_bits)
        or not np.array_equal(_table(first), _table(second))
    ):
        raise UnsuitableError("pieces of a layer differ in more than their weights")


def _table(layer: DecodedLayer) -> Array:
    return np.arange(256) if layer.table is None else layer.table


def _parameters(stage: Stage, layers: dict[int, _Layer]) -> dict[str, Array]:
    """Requantisation of all channels of a stage whose pieces give keys."""
    outputs = stage.join.shape[0]
    parameters: dict[str, Array] = {}
    for piece in stage.pieces:
        for name, values in layers[piece.image].decoded.parameters.items():
            field = parameters.setdefault(name, np.zeros(outputs, np.int64))
            field[slice(*piece.writes.channels)] = values
    return parameters


def _check_windows(stage: Stage, layers: dict[int, _Layer], whole: _Layer) -> None:
    """Check that every window of every piece reads what the whole layer's does.

    Pieces of the same channels may overlap; each part of the channels is computed once, and for
    every output.
    """
    rows, columns = whole.shape
    shape = stage.in_shape[1], stage.in_shape[2]
    if rows * columns * len(whole.rows.steps) * len(whole.taps) > MAX_WINDOWS:
        raise UnsuitableError("too many windows to check")
    wanted = _reads(whole, shape)
    order = {(down, right): i for i, (down, right) in enumerate(whole.taps.tolist())}
    covered: dict[tuple[Span, Span], npt.NDArray[np.bool_]] = {}
    for piece in stage.pieces:
        layer, reads = layers[piece.image], piece.reads
        # What is outside the region is zero to the piece, whatever the map has there.
        own = _reads(layer, (_size(reads.rows), _size(reads.columns)))
        y, x = np.divmod(own, _size(reads.columns))
        found = np.where(own < 0, -1, _numbered(y + reads.rows[0], x + reads.columns[0], shape))
        y, x = _origin(piece, layer)
        y, x = y - whole.rows.start, x - whole.columns.start
        taps = [order[y + down, x + right] for down, right in layer.taps.tolist()]
        at, part = [], []
        for (first, last), size in ((piece.writes.rows, rows), (piece.writes.columns, columns)):
            inside = np.arange(max(first, 0), min(last, size))
            at.append(inside)
            part.append(inside - first)
        if not np.array_equal(found[np.ix_(*part)], wanted[np.ix_(*at)][..., taps]):
            raise UnsuitableError("a piece's windows are not those of the whole layer")
        key = piece.writes.channels, reads.channels
        there = covered.setdefault(key, np.zeros(whole.shape, bool))
        if stage.join.sums and there[np.ix_(*at)].any():
            raise UnsuitableError("sums are added twice")
        there[np.ix_(*at)] = True
    times = np.zeros((stage.join.shape[0], stage.in_shape[0] if stage.join.sums else 1), np.int64)
    for (writes, reads), there in covered.items():
        if not there.all():
            raise UnsuitableError("pieces leave outputs out")
        times[slice(*writes), slice(*reads) if stage.join.sums else slice(None)] += 1
    if times.max() > 1 or (times.min() < 1 and not stage.join.sums):
        raise UnsuitableError("pieces leave channels out, or compute them twice")


def _finished(layer: _Layer, finish: Finish) -> _Layer:
    """The layer with what is left to do when its pieces are joined."""
    decoded = layer.decoded
    if finish.whole:
        raise UnsuitableError("winners of a whole map")
    if finish.selection is not Selection.ALL:
        if decoded.selection is not Selection.ALL:
            raise UnsuitableError("winners are chosen twice")
        decoded = replace(decoded, selection=finish.selection, k=finish.k, zero=finish.zero_key)
    if finish.pool_kernel != (1, 1) or finish.pool_stride != (1, 1):
        if decoded.table is not None:
            raise UnsuitableError("keys are looked up before pooling")
        layer = _pooled(layer, finish)
    if finish.requantisers is not None:
        decoded = replace(
            decoded,
            parameters=_exact_lines(decoded, finish.requantisers),
            low=finish.requantisers.low,
            high=finish.requantisers.high,
            table=None if finish.table is None else np.array(finish.table, np.int64),
        )
    return replace(layer, decoded=decoded)


def _pooled(layer: _Layer, finish: Finish) -> _Layer:
    """The layer with a maximum over windows of its outputs."""
    steps = []
    shape = []
    for axis, size, kernel, stride in zip(
        (layer.rows, layer.columns),
        layer.shape,
        finish.pool_kernel,
        finish.pool_stride,
        strict=True,
    ):
        steps.append(np.arange(kernel) * axis.stride)
        shape.append((size - kernel) // stride + 1)
    down = (layer.rows.steps + steps[0][:, None, None] + 0 * steps[1][:, None]).ravel()
    right = (layer.columns.steps + 0 * steps[0][:, None, None] + steps[1][:, None]).ravel()
    return replace(
        layer,
        rows=_Axis(layer.rows.start, layer.rows.stride * finish.pool_stride[0], down),
        columns=_Axis(layer.columns.start, layer.columns.stride * finish.pool_stride[1], right),
        shape=(shape[0], shape[1]),
    )


def _exact_lines(layer: DecodedLayer, requantisers: Requantisers) -> dict[str, Array]:
    """Fields of `REQUANTISE` with the steps of exact lines, for all sums that inputs can make."""
    weights = layer.weights.reshape(len(layer.weights), -1)
    # Values are keys less the key of zero, so any of -255..255.
    most = 255 * np.abs(weights).sum(axis=1)
    lines = [
        (Fraction(slope), Fraction(intercept))
        for slope, intercept in zip(requantisers.slopes, requantisers.intercepts, strict=True)
    ]
    if int(most.max(initial=0)) >= 1 << (SUM_BITS - 1):
        raise UnsuitableError("sums of more than 32 bits")
    try:
        found = layer_parameters(
            lines, requantisers.low, requantisers.high, requantisers.zero_key, -most, most
        )
    except InexactError as error:
        raise UnsuitableError(str(error)) from error
    return {
        "multiplier": np.array([one.multiplier for one in found], np.int64),
        "offset": np.array([one.offset for one in found], np.int64),
        "shift": np.array([one.shift for one in found], np.int64),
        "ties": np.array([int(one.ties) for one in found], np.int64),
    }


def _laid_out(
    shape: tuple[int, int, int], zero: int, layers: Sequence[_Layer]
) -> tuple[DecodedInput, list[DecodedLayer]]:
    """The layers with padded maps between them."""
    channels, rows, columns = shape
    width, first = _padding(layers[0], columns)
    source = DecodedInput(rows, columns, channels, width, first, zero, sparse=False)
    found = []
    for number, layer in enumerate(layers):
        y, x = layer.rows.places(layer.shape[0]), layer.columns.places(layer.shape[1])
        origins = first + y[:, None] * width + x
        offsets = layer.taps[:, 0] * width + layer.taps[:, 1]
        if number + 1 < len(layers):
            width, first = _padding(layers[number + 1], layer.shape[1])
        else:
            width, first = 0, 0
        found.append(
            replace(layer.decoded, origins=origins, offsets=offsets, width=width, first=first)
        )
    return source, found


def _padding(layer: _Layer, columns: int) -> tuple[int, int]:
    """Positions of a padded row of the map that a layer reads, and that of its first value."""
    y, x = layer.rows.places(layer.shape[0]), layer.columns.places(layer.shape[1])
    above = max(0, -int(y.min() + layer.taps[:, 0].min()))
    left = max(0, -int(x.min() + layer.taps[:, 1].min()))
    right = max(0, int(x.max() + layer.taps[:, 1].max()) - columns + 1)
    width = columns + max(left, right)
    return width, above * width + left
