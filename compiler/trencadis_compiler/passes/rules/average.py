"""AveragePool, GlobalAveragePool, and ReduceMean over all positions, as convolutions.

The kernels have ones on their own channel alone. Kernels of different channels never collide, so
tiles take as many as they have room for.
"""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.operator import Operator, integer, integers, text
from trencadis_compiler.passes.base.shapes import padding, window
from trencadis_compiler.passes.base.state import ActivationMap, State, Unsupported
from trencadis_compiler.passes.rules.layers import MAX_KERNELS, begin, channels_first

__all__ = ["OPERATORS"]

_NO_PADS = (0, 0, 0, 0)


def _average_pool(context: Context, node: Node) -> State:
    source = channels_first(node, context.layer_input(node))
    one_dimensional = len(source.axes) == 2
    size = source.map_shape[1:]
    if "kernel_shape" not in node.attributes:
        raise Unsupported(node, "it has no kernel_shape; export the model again")
    kernel = window(node, "kernel_shape", one_dimensional)
    stride = window(node, "strides", one_dimensional)
    pads = padding(node, size, kernel, stride, (1, 1), one_dimensional)
    if any(pads) and not node.attributes.get("count_include_pad", 0):
        raise Unsupported(
            node,
            "averages at the edge are of fewer values (count_include_pad is 0); set it to 1, or "
            "pool without padding",
        )
    dilations = window(node, "dilations", one_dimensional)
    if node.attributes.get("ceil_mode", 0) or dilations != (1, 1):
        raise Unsupported(node, "ceil_mode and dilations are not supported")
    return _average(node, source, kernel, stride, pads)


def _global_average_pool(context: Context, node: Node) -> State:
    source = channels_first(node, context.layer_input(node))
    return _average(node, source, source.map_shape[1:], (1, 1), _NO_PADS)


def _reduce_mean(context: Context, node: Node) -> State:
    numbers = _mean_axes(context, node)
    if node.attributes.get("noop_with_empty_axes", 0) and not numbers:
        return context.map(node)
    source = channels_first(node, context.layer_input(node))
    rank = len(source.axes) + 1
    if sorted(axis % rank for axis in numbers) != list(range(2, rank)):
        raise Unsupported(
            node,
            f"takes the mean over axes {numbers or 'all'}; the overlay averages over positions, "
            f"axes {list(range(2, rank))}",
        )
    made = _average(node, source, source.map_shape[1:], (1, 1), _NO_PADS)
    if node.attributes.get("keepdims", 1):
        return made
    return replace(made, axes=("C",), sizes={"C": made.sizes["C"]})


def _average(
    node: Node,
    source: ActivationMap,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> ActivationMap:
    channels = source.sizes["C"]
    if channels * math.prod(kernel) > MAX_KERNELS:
        raise Unsupported(
            node,
            f"averages {channels} channels over windows of {kernel}, more than any overlay holds; "
            "pool in two steps",
        )
    return begin(
        node,
        source,
        scales=(Fraction(1, math.prod(kernel)),) * channels,
        bias=(Fraction(0),) * channels,
        kernels=Kernels.diagonal(channels, kernel),
        stride=stride,
        dilation=(1, 1),
        pads=pads,
    )


def _mean_axes(context: Context, node: Node) -> list[int]:
    """Axes of a ReduceMean as they are written; none if it names none."""
    axes = context.constant(node, 1) if len(node.inputs) > 1 else node.attributes.get("axes")
    return [] if axes is None else [int(axis) for axis in np.ravel(axes)]


OPERATORS = {
    "AveragePool": Operator(
        _average_pool,
        (1, 1),
        {
            "auto_pad": text(),
            "ceil_mode": integer(0, 1),
            "count_include_pad": integer(0, 1),
            "dilations": integers(),
            "kernel_shape": integers(),
            "pads": integers(),
            "strides": integers(),
        },
    ),
    "GlobalAveragePool": Operator(_global_average_pool, (1, 1)),
    "ReduceMean": Operator(
        _reduce_mean,
        (1, 2),
        {
            "axes": integers(),
            "keepdims": integer(0, 1),
            "noop_with_empty_axes": integer(0, 1),
        },
    ),
}
