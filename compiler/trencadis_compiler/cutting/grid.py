"""One layer cut by rows and columns, output channels and input channels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from trencadis_compiler.ir.network import Layer, Pool
from trencadis_format.pieces import Finish, Join, Piece, Region, Requantisers, Span, Stage

__all__ = ["Grid", "cut_layer", "largest_part", "select_on_host", "without_winners"]


@dataclass(frozen=True)
class Grid:
    """Into how many parts a layer is cut, by axis.

    Attributes
    ----------
    row_strips, column_strips : int
        Strips of the output map; their input regions overlap by the halo of the window.
    output_groups : int
        Number of groups of kernels.
    input_groups : int
        Number of groups of input channels; their sums are added on the host.
    """

    row_strips: int = 1
    column_strips: int = 1
    output_groups: int = 1
    input_groups: int = 1

    @property
    def images(self) -> int:
        """Device images: strips share one."""
        return self.output_groups * self.input_groups

    @property
    def pieces(self) -> int:
        """Pieces in all."""
        return self.row_strips * self.column_strips * self.images


def cut_layer(layer: Layer, grid: Grid, first_image: int = 0) -> tuple[tuple[Layer, ...], Stage]:
    """The layers that the device images of a cut layer compute, and how they are joined.

    Parameters
    ----------
    layer : Layer
        What to cut.
    grid : Grid
        How.
    first_image : int
        Number of the first image.
    """
    base, rows, columns = _base(layer, grid)
    out_channels, out_rows, out_columns = base.out_shape
    parts: list[Layer] = []
    pieces: list[Piece] = []
    for channels_in in _groups(layer.in_shape[0], grid.input_groups):
        for channels_out in _groups(out_channels, grid.output_groups):
            image = first_image + len(parts)
            parts.append(_part(base, channels_in, channels_out, rows, columns))
            for down in _spans(base, 0, out_rows, rows):
                for right in _spans(base, 1, out_columns, columns):
                    reads = Region(channels_in, down[0], right[0])
                    pieces.append(Piece(image, reads, Region(channels_out, down[1], right[1])))
    join = Join(base.out_shape, base.requantised is None, _finish(layer, base))
    stage = Stage((layer.name,), layer.in_shape, layer.input.zero_key, tuple(pieces), join)
    return tuple(parts), stage


def largest_part(layer: Layer, grid: Grid) -> Layer:
    """The layer of the first device image: no other one has more channels."""
    base, rows, columns = _base(layer, grid)
    inputs = _groups(layer.in_shape[0], grid.input_groups)[0]
    return _part(base, inputs, _groups(layer.out_shape[0], grid.output_groups)[0], rows, columns)


def _base(layer: Layer, grid: Grid) -> "tuple[Layer, _Strip | None, _Strip | None]":
    """The layer without what is left to the host, and the sizes of strips."""
    # The host takes all activations of a part's last layer. Sums of parts are neither pooled nor
    # requantised before they are added.
    base = without_winners(layer)
    if grid.input_groups > 1:
        base = replace(base, pool=Pool(), requantised=None, table=None, output=None)
    if grid.row_strips * grid.column_strips == 1:
        return base, None, None
    _, rows, columns = base.out_shape
    return (
        base,
        _strip(base, 0, math.ceil(rows / grid.row_strips)),
        _strip(base, 1, math.ceil(columns / grid.column_strips)),
    )


@dataclass(frozen=True)
class _Strip:
    """Rows (or columns) of a strip's output map and of its padded input map."""

    outputs: int
    inputs: int
    step: int
    """Input rows from one output row to the next."""


def _strip(layer: Layer, axis: int, outputs: int) -> _Strip:
    kernel, stride = layer.weights.shape[2 + axis], layer.stride[axis]
    reach = (kernel - 1) * layer.dilation[axis]
    pool, pool_stride = layer.pool.kernel[axis], layer.pool.stride[axis]
    sums = (outputs - 1) * pool_stride + pool
    return _Strip(outputs, (sums - 1) * stride + reach + 1, pool_stride * stride)


def _spans(
    layer: Layer, axis: int, outputs: int, strip: _Strip | None
) -> Iterator[tuple[Span, Span]]:
    """Input and output rows (or columns) of every strip: outside the map are those of padding."""
    if strip is None:
        yield (0, layer.in_shape[1 + axis]), (0, outputs)
        return
    for start in range(0, outputs, strip.outputs):
        low = start * strip.step - layer.padding[axis]
        yield (low, low + strip.inputs), (start, start + strip.outputs)


def _part(
    layer: Layer, inputs: Span, outputs: Span, rows: _Strip | None, columns: _Strip | None
) -> Layer:
    """The layer of a device image: some of the channels; of strips, without padding."""
    chosen = slice(*outputs)
    part = replace(
        layer,
        weights=layer.weights.part(outputs, inputs),
        weight_scale=layer.weight_scale[chosen],
        bias=layer.bias[chosen],
        in_shape=(inputs[1] - inputs[0], *layer.in_shape[1:]),
    )
    if rows is None or columns is None:
        return part
    shape = (part.in_shape[0], rows.inputs, columns.inputs)
    return replace(part, in_shape=shape, padding=(0, 0, 0, 0))


def _groups(channels: int, groups: int) -> list[Span]:
    """Spans of channels, as even as they come."""
    size = math.ceil(channels / groups)
    return [(start, min(start + size, channels)) for start in range(0, channels, size)]


def without_winners(layer: Layer) -> Layer:
    """The layer with every activation; itself if it has no k-WTA."""
    return layer if layer.winners is None else replace(layer, winners=None)


def select_on_host(layer: Layer) -> Finish | None:
    """Work that is left on a layer's activations without its k-WTA; None if there is none."""
    winners, output = layer.winners, layer.output
    if winners is None or output is None:
        return None
    return Finish(
        selection=winners.selection, k=winners.k, whole=winners.whole, zero_key=output.zero_key
    )


def _finish(layer: Layer, part: Layer) -> Finish | None:
    """Work that the parts leave to the host."""
    selected = select_on_host(layer)
    if part.requantised is layer.requantised:
        if part.pool != layer.pool:  # sums that leave the network as they are
            return Finish(pool_kernel=layer.pool.kernel, pool_stride=layer.pool.stride)
        return selected
    return replace(
        selected or Finish(),
        pool_kernel=layer.pool.kernel,
        pool_stride=layer.pool.stride,
        requantisers=_requantisers(layer),
        table=None if layer.table is None else tuple(int(key) for key in layer.table),
    )


def _requantisers(layer: Layer) -> Requantisers:
    """The exact lines from sums of the whole layer to keys."""
    assert layer.requantised is not None
    lines = layer.real_keys
    return Requantisers(
        slopes=tuple(str(slope) for slope, _ in lines),
        intercepts=tuple(str(intercept) for _, intercept in lines),
        low=layer.low,
        high=layer.high,
        zero_key=layer.requantised.zero_key,
    )
