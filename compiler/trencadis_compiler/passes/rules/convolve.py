"""Conv, in one and two dimensions, grouped and depthwise as well."""

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.operator import Operator, integer, integers, text
from trencadis_compiler.passes.base.shapes import padding, window
from trencadis_compiler.passes.base.state import State, Unsupported
from trencadis_compiler.passes.rules.layers import (
    MAX_KERNELS,
    begin,
    bias_of,
    channels_first,
    kernel_scales,
    weights_of,
)
from trencadis_compiler.passes.rules.views import spread, through_view

__all__ = ["OPERATORS"]


def _convolve(context: Context, node: Node) -> State:
    whole, picked, around = through_view(context.layer_input(node, views=True))
    source = channels_first(node, whole)
    weights = weights_of(context, node, 1)
    one_dimensional = len(source.axes) == 2
    rank = 1 if one_dimensional else 2
    kernels = weights.integers
    if kernels.ndim != rank + 2:
        raise Unsupported(node, f"{kernels.ndim - 2} dimensions of windows on a map with {rank}")
    groups = int(node.attributes.get("group", 1))
    channels = source.sizes["C"] if picked is None else len(picked)
    if groups < 1 or channels != kernels.shape[1] * groups or kernels.shape[0] % groups:
        raise Unsupported(
            node,
            f"kernels {list(kernels.shape)} in {groups} groups do not fit {channels} channels; "
            "export the model again",
        )
    if kernels.size > MAX_KERNELS:
        raise Unsupported(
            node,
            f"{kernels.size} weights, more than any overlay holds; use a smaller layer",
        )
    shape = list(node.attributes.get("kernel_shape", kernels.shape[2:]))
    if shape != list(kernels.shape[2:]):
        raise Unsupported(
            node, f"its kernel_shape {shape} is not that of its weights {list(kernels.shape)}"
        )
    scales = kernel_scales(node, weights, len(kernels))
    if one_dimensional:
        kernels = kernels[:, :, None, :]
    stride, dilation = (window(node, name, one_dimensional) for name in ("strides", "dilations"))
    rows, columns = (((0, 0), around[1]) if one_dimensional else around)[-2:]
    size = (source.map_shape[1] + sum(rows), source.map_shape[2] + sum(columns))
    top, left, bottom, right = padding(
        node, size, kernels.shape[2:], stride, dilation, one_dimensional
    )
    return begin(
        node,
        source,
        scales=scales,
        bias=bias_of(context, node, len(kernels)),
        kernels=spread(node, Kernels.of(kernels).ungrouped(groups), picked, source.sizes["C"]),
        stride=stride,
        dilation=dilation,
        pads=(top + rows[0], left + columns[0], bottom + rows[1], right + columns[1]),
    )


OPERATORS = {
    "Conv": Operator(
        _convolve,
        (2, 3),
        {
            "auto_pad": text(),
            "dilations": integers(),
            "group": integer(),
            "kernel_shape": integers(),
            "pads": integers(),
            "strides": integers(),
        },
    )
}
