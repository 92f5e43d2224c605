"""Common parts of all operators that begin a layer: weights, biases, scales, and the draft."""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.passes.base.constants import aligned
from trencadis_compiler.passes.base.context import Context, fraction
from trencadis_compiler.passes.base.state import (
    ActivationMap,
    Draft,
    QuantisedConstant,
    SparseWeights,
    Unsupported,
)

__all__ = [
    "MAX_KERNELS",
    "begin",
    "bias_of",
    "channels_first",
    "kernel_scales",
    "weights_of",
]

MAX_MAP = 1 << 26
"""Values of a padded map; larger ones are not cut."""

MAX_KERNELS = 1 << 27
"""Weights of a layer, zeros included; no engine holds as many."""


def begin(
    node: Node,
    source: ActivationMap,
    *,
    scales: tuple[Fraction, ...],
    bias: tuple[Fraction, ...],
    kernels: Kernels,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> ActivationMap:
    """Start a layer on its input.

    Raises
    ------
    Unsupported
        If its windows do not fit the map, or the map is larger than any overlay's.
    """
    in_shape = source.map_shape
    assert source.quantisation is not None
    rows, columns = (
        (size + before + after - step * (window - 1) - 1) // down + 1
        for size, before, after, step, window, down in zip(
            in_shape[1:], pads[:2], pads[2:], dilation, kernels.shape[2:], stride, strict=True
        )
    )
    if rows < 1 or columns < 1 or min(kernels.shape) < 1:
        raise Unsupported(
            node, f"its window of {kernels.shape[2:]} does not fit the map of {in_shape[1:]}"
        )
    padded = (in_shape[1] + pads[0] + pads[2]) * (in_shape[2] + pads[1] + pads[3])
    if padded * in_shape[0] > MAX_MAP:
        raise Unsupported(
            node,
            f"its padded input map has {padded * in_shape[0]} values, more than any overlay holds;"
            " use smaller inputs or paddings",
        )
    draft = Draft(
        name=node.name,
        reads=source,
        weights=kernels,
        weight_scale=scales,
        bias=bias,
        stride=stride,
        dilation=dilation,
        padding=pads,
        in_shape=in_shape,
        input=source.quantisation,
    )
    sizes = {"C": kernels.shape[0], "W": columns}
    if any("H" in axis for axis in source.axes):
        sizes["H"] = rows
    return ActivationMap(
        tensor=node.outputs[0],
        source=source.source,
        axes=source.axes,
        sizes=sizes,
        batch=source.batch,
        draft=draft,
    )


def channels_first(node: Node, source: ActivationMap) -> ActivationMap:
    """A map whose tensor has channels first; that of a source has its axes named by place."""
    usual = {2: ("C", "W"), 3: ("C", "H", "W")}.get(len(source.axes))
    if usual and source.is_whole:
        source = source.renamed(usual)
    if source.axes != usual:
        raise Unsupported(node, f"its input has axes {source.axes}; it needs channels first")
    return source


def weights_of(context: Context, node: Node, position: int) -> QuantisedConstant:
    """The quantised weights that a node reads."""
    value = context.state(node, position)
    if isinstance(value, np.ndarray):
        raise Unsupported(
            node,
            "its weights are not quantised; quantise the model (QDQ), or give --calibration data "
            "to have that done",
        )
    if not isinstance(value, QuantisedConstant):
        raise Unsupported(node, "its weights are computed by the model; they must be constant")
    low, high = int(value.integers.min(initial=0)), int(value.integers.max(initial=0))
    if low < -128 or high > 127:
        raise Unsupported(
            node,
            f"weights less their zero point are in {low}..{high}; the overlay takes int8 with "
            "zero point 0",
        )
    return value


def kernel_scales(
    node: Node, weights: QuantisedConstant | SparseWeights, outputs: int
) -> tuple[Fraction, ...]:
    """A scale for every kernel."""
    many = weights.scale.size
    if many not in (1, outputs) or (many > 1 and weights.axis % weights.integers.ndim):
        raise Unsupported(
            node,
            f"{many} weight scales for {outputs} kernels; the overlay takes one for all or one "
            "per kernel",
        )
    every = np.broadcast_to(weights.scale, outputs)
    return tuple(weights.factor * fraction(scale) for scale in every)


def bias_of(
    context: Context, node: Node, outputs: int, factor: Fraction = Fraction(1)
) -> tuple[Fraction, ...]:
    """The bias of every kernel, times a factor."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return (Fraction(0),) * outputs
    value = context.state(node, 2)
    numbers: list[Any]
    if isinstance(value, np.ndarray):
        if value.dtype.kind != "f" or not np.all(np.isfinite(value)):
            raise Unsupported(node, "its bias must be of finite real numbers")
        shape = value.shape
        numbers = [fraction(number) for number in value.ravel()]
    elif isinstance(value, QuantisedConstant):
        shape = value.integers.shape
        aligned_scales = aligned(node, value.scale, value.integers, value.axis)
        scales = np.broadcast_to(aligned_scales, shape).ravel()
        numbers = [
            int(number) * fraction(scale) * value.factor
            for number, scale in zip(value.integers.ravel(), scales, strict=True)
        ]
    else:
        raise Unsupported(node, "its bias is computed by the model; it must be constant")
    if len(shape) > 1 and math.prod(shape[:-1]) != 1:
        raise Unsupported(node, f"its bias has shape {list(shape)}; it needs one number per kernel")
    if len(numbers) not in (1, outputs):
        raise Unsupported(node, f"{len(numbers)} biases for {outputs} kernels")
    every = numbers if len(numbers) == outputs else numbers * outputs
    return tuple(factor * number for number in every)
