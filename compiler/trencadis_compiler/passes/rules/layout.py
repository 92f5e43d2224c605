"""Flatten, Reshape, Squeeze, Unsqueeze and Transpose: which axis of the map is where."""

import math
from dataclasses import replace

import numpy as np

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.operator import Operator, integer, integers
from trencadis_compiler.passes.base.shapes import flattened, reshaped, squeezed, unsqueezed
from trencadis_compiler.passes.base.state import (
    AXES,
    ActivationMap,
    QuantisedConstant,
    Source,
    State,
    Unsupported,
)

__all__ = ["OPERATORS"]

OTHER_BATCH = 7
"""A size of batches that are open, for which a reshape must keep samples apart as well."""


def _reshape(context: Context, node: Node) -> State:
    value = context.state(node, 0)
    if isinstance(value, np.ndarray):
        return value.reshape(_new_shape(context, node, value.shape))
    if isinstance(value, QuantisedConstant):
        if value.scale.size > 1:
            raise Unsupported(node, "reshapes weights with a scale per kernel; store them so")
        shape = _new_shape(context, node, value.integers.shape)
        return replace(value, integers=value.integers.reshape(shape), axis=0)
    source = context.map(node)
    batch, *sizes = _new_shape(context, node, (source.batch, *source.shape)) or (0,)
    if batch != source.batch or math.prod(sizes) != math.prod(source.shape) or not sizes:
        raise Unsupported(
            node,
            f"reshapes {['N', *source.shape]} to {[batch, *sizes]}; keep the batch axis",
        )
    computed = len(node.inputs) > 1 and node.inputs[1] not in context.graph.constants
    if source.source.tensor.shape[0] is None and not computed:  # else of one sample's own shape
        several = _new_shape(context, node, (OTHER_BATCH, *source.shape))
        if several != (OTHER_BATCH, *sizes):
            raise Unsupported(
                node,
                f"makes one of all samples ({['N', *source.shape]} to {[batch, *sizes]}); keep the "
                "batch axis, or give its size with --input-shape",
            )
    letters = "".join(source.axes)
    if source.draft is None and letters in AXES.values() and len(sizes) in AXES:
        # Nothing depends on the names of the source's axes yet.
        fresh = ActivationMap.fresh(source.source.tensor, sizes)
        axes = Source(source.source.tensor, fresh.source.axes)
        if letters == source.source.axes:
            return replace(source, source=axes, axes=fresh.axes, sizes=fresh.sizes)
    if len(sizes) == 1:
        return replace(source, axes=(letters,))
    found = _with_sizes(source, sizes)
    if found is None:
        raise Unsupported(
            node,
            f"reshapes {['N', *source.shape]} to {['N', *sizes]}; the overlay keeps maps as "
            "channels, rows and columns, or flattens them",
        )
    return found


def _with_sizes(source: ActivationMap, sizes: list[int]) -> ActivationMap | None:
    """The map with axes of size 1 more or less, if that is all that is different."""
    letters = "".join(source.axes)
    full = [letter for letter in letters if source.sizes[letter] > 1]
    kept = [size for size in sizes if size > 1]
    if kept != [source.sizes[letter] for letter in full] or len(sizes) not in AXES:
        return None
    names = AXES[len(sizes)]
    new = dict(zip(names, sizes, strict=True))
    if full == ["C"]:
        # A vector keeps its letter wherever its numbers are; the axes of size 1 get the others.
        others = iter(names.replace("C", ""))
        axes = tuple("C" if size > 1 else next(others) for size in sizes)
        return replace(source, axes=axes, sizes=dict(zip(axes, sizes, strict=True)))
    if "".join(full) == "".join(c for c in names if c in full) and all(
        new[c] == source.sizes[c] for c in full
    ):
        return replace(source, axes=tuple(names), sizes=new)
    return None


def _new_shape(context: Context, node: Node, old: tuple[int, ...]) -> tuple[int, ...]:
    """The shape a node gives a tensor of shape `old`."""
    if node.op_type == "Flatten":
        return flattened(node, old)
    if node.op_type == "Reshape":
        shape = context.constant(node, 1)
        if shape is None or shape.dtype.kind != "i":
            raise Unsupported(node, "it has no shape; export the model again")
        return reshaped(node, old, shape)
    axes = context.constant(node, 1) if len(node.inputs) > 1 else node.attributes.get("axes")
    numbers = [] if axes is None else [int(axis) for axis in np.ravel(axes)]
    return (squeezed if node.op_type == "Squeeze" else unsqueezed)(node, old, numbers)


def _transpose(context: Context, node: Node) -> State:
    value = context.state(node, 0)
    if isinstance(value, (np.ndarray, QuantisedConstant)):
        array = value if isinstance(value, np.ndarray) else value.integers
        order = _order(node, array.ndim)
        if isinstance(value, np.ndarray):
            return value.transpose(order)
        axis = order.index(value.axis % array.ndim) if value.scale.size > 1 else value.axis
        return replace(value, integers=array.transpose(order), axis=axis)
    source = context.map(node)
    order = _order(node, len(source.axes) + 1)
    if order[0] != 0:
        raise Unsupported(node, f"permutation {order} moves the batch or does not fit")
    return replace(source, axes=tuple(source.axes[i - 1] for i in order[1:]))


def _order(node: Node, rank: int) -> list[int]:
    order = [int(i) for i in node.attributes.get("perm", range(rank - 1, -1, -1))]
    if sorted(order) != list(range(rank)):
        raise Unsupported(node, f"permutation {order} moves the batch or does not fit")
    return order


OPERATORS = {
    "Flatten": Operator(_reshape, (1, 1), {"axis": integer()}),
    "Reshape": Operator(_reshape, (2, 2), {"allowzero": integer(0, 1)}),
    "Squeeze": Operator(_reshape, (1, 2), {"axes": integers()}),
    "Transpose": Operator(_transpose, (1, 1), {"perm": integers()}),
    "Unsqueeze": Operator(_reshape, (1, 2), {"axes": integers()}),
}
