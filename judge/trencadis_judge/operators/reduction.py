"""Operators over whole axes: sums, means, extremes, order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import (
    Context,
    Inputs,
    Operator,
    constant_integers,
    integers_of,
    refuse,
    required,
)
from trencadis_judge.node import Node
from trencadis_judge.operators.arithmetic import divide, integer_value, multiply
from trencadis_judge.values import Value, is_real, limits

__all__ = ["OPERATORS", "mean_over", "sum_over"]

Reals = npt.NDArray[np.float64]
Axes = tuple[int, ...]


def _axes(node: Node, inputs: Inputs, rank: int) -> Axes | None:
    """Axes of a reduction; None if nothing is reduced at all."""
    axes = constant_integers(node, inputs, 1, "axes")
    if not axes:
        return None if node.attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))
    # An axis that is named twice is reduced once, as in onnxruntime.
    return tuple(dict.fromkeys(axis % rank for axis in axes))


def sum_over(context: Context, value: Value, axes: Axes, keep: bool) -> Value:
    """Sum over axes."""
    array = value.array.sum(axes, keepdims=keep)
    error = None if value.error is None else value.error.sum(axes, keepdims=keep)
    if not is_real(value.dtype):
        return integer_value(array, value.dtype, error)
    count = max(1, value.array.size // max(1, np.size(array)))
    terms = np.abs(value.array).sum(axes, keepdims=keep)
    return context.precision.result(
        array, value.dtype, error, value.grid, roundings=float(count), terms=terms
    )


def mean_over(context: Context, value: Value, axes: Axes, keep: bool) -> Value:
    """Mean over axes."""
    total = sum_over(context, value, axes, keep)
    count = value.array.size // max(1, total.array.size)
    number = np.array(count, total.array.dtype)
    return divide(context, total, Value(number, value.dtype, None, 0))


def _extreme_over(context: Context, value: Value, axes: Axes, keep: bool, largest: bool) -> Value:
    function: Any = np.max if largest else np.min
    array = np.asarray(function(value.array, axis=axes, keepdims=keep))
    error = None if value.error is None else np.asarray(value.error.max(axes, keepdims=keep))
    return Value(array, value.dtype, error, value.grid)


def _reducer(reduce: Callable[[Context, Value, Axes, bool], Value]) -> Operator:
    def evaluate(context: Context, node: Node, inputs: Inputs) -> Value:
        value = required(node, inputs, 0)
        axes = _axes(node, inputs, value.array.ndim)
        if axes is None:
            return value
        return reduce(context, value, axes, bool(node.attributes.get("keepdims", 1)))

    return evaluate


def _product(context: Context, value: Value, axes: Axes, keep: bool) -> Value:
    array = np.asarray(value.array.prod(axes, keepdims=keep))
    if not is_real(value.dtype):
        return integer_value(array, value.dtype)
    error = None
    if value.error is not None:
        high = (np.abs(value.array) + value.error).prod(axes, keepdims=keep)
        error = np.asarray(high - np.abs(array))
    count = max(1, value.array.size // max(1, array.size))
    return context.precision.result(array, value.dtype, error, None, roundings=float(count))


def _absolute(value: Value) -> Value:
    return Value(np.abs(value.array), value.dtype, value.error, value.grid)


def _root(context: Context, value: Value) -> Value:
    array = np.sqrt(value.array)
    error = None
    if value.error is not None:
        error = np.sqrt(np.maximum(value.array, 0) + value.error) - np.sqrt(
            np.maximum(value.array - value.error, 0)
        )
    return context.precision.result(array, value.dtype, error, None)


def _logarithm(context: Context, value: Value) -> Value:
    with np.errstate(all="ignore"):
        array = np.log(value.array)
        error = None
        if value.error is not None:
            room = value.array - value.error
            error = np.where(room > 0, value.error / np.maximum(room, 1e-300), np.inf)
    return context.precision.result(array, value.dtype, error, None, terms=np.abs(array) * 4 + 4)


def _log_sum_exp(context: Context, value: Value, axes: Axes, keep: bool) -> Value:
    top = value.array.max(axes, keepdims=True)
    array = np.log(np.exp(value.array - top).sum(axes, keepdims=True)) + top
    array = array if keep else np.squeeze(array, axes)
    error = None if value.error is None else value.error.max(axes, keepdims=keep)
    terms = np.abs(array) * 8 + 16 + value.array.size / max(1, array.size)
    return context.precision.result(array, value.dtype, error, None, terms=terms)


def _arg_extreme(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    axis = int(node.attributes.get("axis", 0))
    keep = bool(node.attributes.get("keepdims", 1))
    sign = 1 if node.op_type == "ArgMax" else -1
    array = sign * value.array
    if node.attributes.get("select_last_index", 0):
        index = array.shape[axis] - 1 - np.argmax(np.flip(array, axis), axis)
    else:
        index = np.argmax(array, axis)
    index = np.expand_dims(index, axis)
    error = None
    if value.error is not None:
        best = np.take_along_axis(array, index, axis)
        reach = array + value.error >= best - np.take_along_axis(value.error, index, axis)
        unsure = reach.sum(axis, keepdims=True) > 1
        error = np.where(unsure, np.inf, 0.0)
        error = (error if keep else np.squeeze(error, axis)) if unsure.any() else None
    return Value(index if keep else np.squeeze(index, axis), np.dtype(np.int64), error)


def _top_k(context: Context, node: Node, inputs: Inputs) -> tuple[Value, ...]:
    """Evaluate TopK; equal numbers in the order of their indices."""
    value = required(node, inputs, 0)
    axis = int(node.attributes.get("axis", -1))
    if node.version >= 10:
        k = integers_of(node, required(node, inputs, 1))[0]
    else:
        k = int(node.attributes["k"])
    keys = value.array if not node.attributes.get("largest", 1) else -value.array
    if value.dtype.kind == "u":
        limits(value.dtype)
    order = np.argsort(keys, axis, kind="stable")
    index = np.take(order, range(k), axis)
    array = np.take_along_axis(value.array, index, axis)
    index_error = error = None
    if value.error is not None:
        # Order statistics move by no more than the largest error of their row.
        worst = value.error.max(axis, keepdims=True)
        error = np.broadcast_to(worst, array.shape)
        ranked = np.take_along_axis(value.array, order, axis)
        gaps = np.abs(np.diff(ranked, axis=axis)) > 2 * worst
        before = np.insert(gaps, 0, True, axis)
        after = np.concatenate([gaps, np.ones_like(np.take(before, [0], axis))], axis)
        sure = np.take(before & after, range(k), axis)
        index_error = None if sure.all() else np.where(sure, 0.0, np.inf)
        if node.attributes.get("sorted", 1) == 0:
            raise refuse(node, "unsorted winners of numbers that are not exact")
    return (
        Value(array, value.dtype, error, value.grid),
        Value(index.astype(np.int64), np.dtype(np.int64), index_error),
    )


OPERATORS: dict[str, Operator] = {
    "ArgMax": _arg_extreme,
    "ArgMin": _arg_extreme,
    "ReduceL1": _reducer(lambda c, v, axes, keep: sum_over(c, _absolute(v), axes, keep)),
    "ReduceL2": _reducer(
        lambda c, v, axes, keep: _root(c, sum_over(c, multiply(c, v, v), axes, keep))
    ),
    "ReduceLogSum": _reducer(lambda c, v, axes, keep: _logarithm(c, sum_over(c, v, axes, keep))),
    "ReduceLogSumExp": _reducer(_log_sum_exp),
    "ReduceMax": _reducer(lambda c, v, axes, keep: _extreme_over(c, v, axes, keep, largest=True)),
    "ReduceMean": _reducer(mean_over),
    "ReduceMin": _reducer(lambda c, v, axes, keep: _extreme_over(c, v, axes, keep, largest=False)),
    "ReduceProd": _reducer(_product),
    "ReduceSum": _reducer(sum_over),
    "ReduceSumSquare": _reducer(
        lambda c, v, axes, keep: sum_over(c, multiply(c, v, v), axes, keep)
    ),
    "TopK": _top_k,
}
