"""MaxPool and GlobalMaxPool: the largest of several sums, before they are requantised."""

from dataclasses import replace

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.network import Pool
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.operator import Operator, integer, integers, text
from trencadis_compiler.passes.base.shapes import padding, window
from trencadis_compiler.passes.base.state import State, Unsupported

__all__ = ["OPERATORS"]


def _max_pool(context: Context, node: Node) -> State:
    source = context.map(node)
    if source.draft is None:
        raise Unsupported(node, "pools a tensor that no layer before it makes")
    if source.draft.winners is not None:
        raise Unsupported(node, "pools after k-WTA; pool first, then select winners")
    if not source.draft.monotone or any(function.decreases for function in source.functions):
        raise Unsupported(node, "pools after a function that decreases somewhere; pool first")
    if source.axes not in (("C", "W"), ("C", "H", "W")):
        raise Unsupported(node, f"its input has axes {source.axes}; it needs channels first")
    one_dimensional = len(source.axes) == 2
    size = (source.sizes.get("H", 1), source.sizes["W"])
    if node.op_type == "GlobalMaxPool":
        kernel, stride = size, (1, 1)
    else:
        if "kernel_shape" not in node.attributes:
            raise Unsupported(node, "it has no kernel_shape; export the model again")
        kernel = window(node, "kernel_shape", one_dimensional)
        stride = window(node, "strides", one_dimensional)
    if window(node, "dilations", one_dimensional) != (1, 1):
        raise Unsupported(node, "dilated pooling is not supported; pool without")
    if any(padding(node, size, kernel, stride, (1, 1), one_dimensional)):
        raise Unsupported(node, "padded pooling is not supported; pad the map, or pool without")
    if any(have < want for have, want in zip(size, kernel, strict=True)):
        raise Unsupported(node, f"its window {kernel} is larger than the map {size}")
    if node.attributes.get("ceil_mode", 0) and any(
        (have - want) % step for have, want, step in zip(size, kernel, stride, strict=True)
    ):
        raise Unsupported(node, "windows that reach over the edge (ceil_mode) are not supported")
    rows, columns = (
        (have - want) // step + 1 for have, want, step in zip(size, kernel, stride, strict=True)
    )
    sizes = source.sizes | ({"W": columns} if one_dimensional else {"H": rows, "W": columns})
    # Pooling what is pooled is pooling with a larger window.
    before = source.draft.pool or Pool()
    (high, wide), (down, across) = before.kernel, before.stride
    pool = Pool(
        (high + (kernel[0] - 1) * down, wide + (kernel[1] - 1) * across),
        (down * stride[0], across * stride[1]),
    )
    return replace(source, sizes=sizes, draft=replace(source.draft, pool=pool))


OPERATORS = {
    "MaxPool": Operator(
        _max_pool,
        (1, 1),
        {
            "auto_pad": text(),
            "ceil_mode": integer(0, 1),
            "dilations": integers(),
            "kernel_shape": integers(),
            "pads": integers(),
            # The order of the second output, which is never used.
            "storage_order": integer(),
            "strides": integers(),
        },
    ),
    "GlobalMaxPool": Operator(_max_pool, (1, 1)),
}
