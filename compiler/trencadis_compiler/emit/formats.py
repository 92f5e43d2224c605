"""Formats of a compiled network for the host: of its inputs, and of its outputs."""

import math
from dataclasses import asdict, dataclass
from fractions import Fraction

from trencadis_compiler.emit.groups import requantiser_groups
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer, Network, Value
from trencadis_compiler.mapping.place import Placement
from trencadis_format.overlay import MAX_RATIO_BITS
from trencadis_format.tensor_formats import InputFormat, MapFormat, OutputFormat

__all__ = [
    "OutputLayout",
    "inner_maps",
    "input_format",
    "output_format",
    "output_layout",
    "output_scales",
]

MIN_SCALE = math.ulp(0.0)
"""The smallest float64 number above zero: what scales below it are told to be."""


@dataclass(frozen=True)
class OutputLayout:
    """Layout of the activations of an output sample.

    Attributes
    ----------
    piece_bytes, pieces : int
        Bytes of a piece, pieces of a sample.
    places : int
        Activations or sums of a position, padding included.
    order : tuple of int
        For every channel, its place among the activations or sums of a position.
    """

    piece_bytes: int
    pieces: int
    places: int
    order: tuple[int, ...]


def output_layout(placement: Placement) -> OutputLayout:
    """Layout of the activations of the last layer, for the host."""
    placed = placement.output_producer
    layer, requantisers = placed.layer, placed.config.requantisers
    channels, rows, columns = layer.out_shape
    if layer.requantised is None:
        order = [0] * channels
        for row, groups in enumerate(requantiser_groups(placed.plan)):
            for column, channel in enumerate(groups):
                if channel is not None:
                    order[channel] = row * requantisers + column
        places = placed.requantise_rows * requantisers
        pieces = rows * columns * placed.requantise_rows * 4
    else:
        order = list(range(channels))
        places = placed.vector_rows * requantisers
        pieces = rows * columns * placed.vector_rows
    return OutputLayout(requantisers, pieces, places, tuple(order))


def input_format(value: Value) -> InputFormat:
    """Format by which the tensor that a network reads becomes keys."""
    assert value.quantisation is not None, "layers read keys"
    channels, rows, columns = value.shape
    return InputFormat(
        name=value.tensor.name,
        dtype=value.tensor.dtype,
        shape=value.tensor.shape,
        axes=value.axes,
        channels=channels,
        rows=rows,
        columns=columns,
        scale=float(value.quantisation.scale),
        zero_key=value.quantisation.zero_key,
        key_offset=value.quantisation.key_offset,
        nonzeros=value.nonzeros or 0,
    )


def inner_maps(network: Network) -> tuple[MapFormat, ...]:
    """Maps that layers make and other layers read, in order."""
    found = []
    for layer in network.layers:
        value = network.value(layer.target)
        if value.name not in network.outputs:
            assert value.quantisation is not None, "layers read keys"
            found.append(
                MapFormat(
                    name=value.tensor.name,
                    shape=value.tensor.shape,
                    axes=value.axes,
                    scale=float(value.quantisation.scale),
                    zero_key=value.quantisation.zero_key,
                )
            )
    return tuple(found)


def output_format(network: Network, placement: Placement) -> OutputFormat:
    """Format by which the tensor that a network makes is read."""
    layout, value = output_layout(placement), network.output
    last = network.producer(value.name)
    assert last is not None
    quantisation = value.quantisation
    channels, rows, columns = value.shape
    return OutputFormat(
        name=value.tensor.name,
        dtype=value.tensor.dtype,
        shape=value.tensor.shape,
        axes=value.axes,
        channels=channels,
        rows=rows,
        columns=columns,
        piece_bytes=layout.piece_bytes,
        pieces=layout.pieces,
        places=layout.places,
        order=layout.order,
        raw=quantisation is None,
        integer=value.integer,
        zero_key=quantisation.zero_key if quantisation else 0,
        key_offset=quantisation.key_offset if quantisation else 0,
        **asdict(output_scales(last)),
    )


@dataclass(frozen=True)
class OutputScales:
    """Meaning of the keys or sums of an output: fields of `OutputFormat`."""

    scales: tuple[float, ...]
    offsets: tuple[float, ...] = ()
    numerators: tuple[int, ...] = ()
    addends: tuple[int, ...] = ()
    denominators: tuple[int, ...] = ()


def output_scales(last: Layer) -> OutputScales:
    """Meaning of the keys or sums that a layer makes.

    Raises
    ------
    CompileError
        If float64 does not reach that far.
    """
    if last.output is not None:
        return OutputScales((float(last.output.scale),))
    exact = [last.input.exact_scale * of for of in last.weight_scale]
    try:
        scales = tuple(float(scale) or MIN_SCALE for scale in exact)
        offsets = tuple(float(bias) for bias in last.bias)
    except OverflowError as error:
        raise CompileError(
            f"layer {last.name!r}: its outputs are beyond what float64 holds; scale the model down"
        ) from error
    if all(Fraction(number) == of for number, of in zip(scales, exact, strict=True)) and all(
        Fraction(number) == of for number, of in zip(offsets, last.bias, strict=True)
    ):
        return OutputScales(scales, offsets)
    common = [
        math.lcm(scale.denominator, bias.denominator)
        for scale, bias in zip(exact, last.bias, strict=True)
    ]
    if max(number.bit_length() for number in common) > MAX_RATIO_BITS:
        raise CompileError(
            f"layer {last.name!r}: its scales are not exact in {MAX_RATIO_BITS} bits; quantise its "
            "output"
        )
    return OutputScales(
        scales,
        offsets,
        tuple(int(scale * of) for scale, of in zip(exact, common, strict=True)),
        tuple(int(bias * of) for bias, of in zip(last.bias, common, strict=True)),
        tuple(common),
    )
