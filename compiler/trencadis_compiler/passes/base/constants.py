"""Operators on constants: what exporters leave of shape arithmetic and of quantising weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.errors import Unsupported
from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.sparse_constant import SparseConstant

__all__ = ["FOLDED", "aligned", "fold", "quantise_constant"]

Array = npt.NDArray[Any]

FOLDED = ("Concat", "Gather", "Shape", "Slice")
"""Operators that are only taken where all their inputs are constants, or for their shape."""


def fold(node: Node, inputs: Sequence[Array]) -> Array:
    """The output of one of `FOLDED`; a Shape gets an array of that shape.

    Raises
    ------
    Unsupported
        If the inputs do not fit the operator.
    """
    axis = int(node.attributes.get("axis", 0))
    try:
        if node.op_type == "Shape":
            rank = inputs[0].ndim
            start, end = node.attributes.get("start", 0), node.attributes.get("end", rank)
            return np.array(inputs[0].shape[int(start) : int(end)], np.int64)
        if node.op_type == "Concat":
            return np.concatenate(inputs, axis)
        if node.op_type == "Gather":
            return np.asarray(np.take(inputs[0], inputs[1].astype(np.int64), axis))
        return _slice(inputs)
    except (IndexError, ValueError, TypeError) as error:
        raise Unsupported(node, f"its inputs do not fit it ({error})") from error


def _slice(inputs: Sequence[Array]) -> Array:
    data, starts, ends = inputs[0], inputs[1].ravel(), inputs[2].ravel()
    axes = inputs[3].ravel() if len(inputs) > 3 else np.arange(len(starts))
    steps = inputs[4].ravel() if len(inputs) > 4 else np.ones(len(starts), np.int64)
    where: list[slice[Any, Any, Any]] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where[int(axis)] = slice(int(start), int(end), int(step))
    return data[tuple(where)]


def quantise_constant(
    node: Node,
    value: Array,
    scale: npt.NDArray[np.float32],
    zero: Array,
    axis: int,
    limits: tuple[int, int],
) -> npt.NDArray[np.int64]:
    """QuantizeLinear of a constant.

    Raises
    ------
    Unsupported
        If it is not made of finite numbers, or the scale does not fit it.
    """
    if value.dtype.kind != "f" or not np.all(np.isfinite(value)):
        raise Unsupported(node, "quantises a constant that is not of finite real numbers")
    numbers = value.astype(np.float64) / aligned(node, scale, value, axis).astype(np.float64)
    return np.clip(np.rint(numbers) + aligned(node, zero, value, axis), *limits).astype(np.int64)


def aligned(node: Node, numbers: Array, value: Array | SparseConstant, axis: int) -> Array:
    """One number for all, or one for every index of an axis, shaped to broadcast."""
    if numbers.size == 1:
        return numbers.reshape([1] * value.ndim)
    if not -value.ndim <= axis < value.ndim or numbers.size != value.shape[axis]:
        raise Unsupported(
            node,
            f"{numbers.size} scales for axis {axis} of a tensor of shape "
            f"{list(value.shape)}; it needs one for all or one an index",
        )
    shape = [1] * value.ndim
    shape[axis] = numbers.size
    return numbers.reshape(shape)
