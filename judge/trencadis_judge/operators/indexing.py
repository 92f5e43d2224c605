"""Operators that read or write elements by index."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, integers_of, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.operators.movement import join, moved
from trencadis_judge.values import Value, is_real

__all__ = ["OPERATORS"]

Array = npt.NDArray[Any]


def _indices(node: Node, inputs: Inputs, position: int, size: int | None = None) -> Array:
    value = required(node, inputs, position)
    if value.error is not None:
        raise refuse(node, "its indices are not certain")
    array = value.array.astype(np.int64)
    if size is None:
        return array
    if array.size and (array.min() < -size or array.max() >= size):
        raise refuse(node, f"an index outside {size} elements")
    return np.where(array < 0, array + size, array)


def _gather(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    axis = int(node.attributes.get("axis", 0))
    indices = _indices(node, inputs, 1, value.shape[axis])
    return moved(value, lambda array: np.take(array, indices, axis))


def _gather_elements(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    axis = int(node.attributes.get("axis", 0))
    indices = _indices(node, inputs, 1, value.shape[axis])
    cut = tuple(
        slice(None) if i == axis % value.array.ndim else slice(0, size)
        for i, size in enumerate(indices.shape)
    )
    return moved(value, lambda array: np.take_along_axis(array[cut], indices, axis))


def _gather_nd(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    indices = _indices(node, inputs, 1)
    batch = int(node.attributes.get("batch_dims", 0))

    def gather(array: Array) -> Array:
        if not batch:
            return array[tuple(np.moveaxis(indices, -1, 0))]
        flat = array.reshape(-1, *array.shape[batch:])
        rows = indices.reshape(-1, *indices.shape[batch:])
        found = [a[tuple(np.moveaxis(i, -1, 0))] for a, i in zip(flat, rows, strict=True)]
        return np.stack(found).reshape(*array.shape[:batch], *found[0].shape)

    return moved(value, gather)


def _reduce(node: Node, target: Array, places: Any, updates: Array) -> Array:
    reduction = node.attributes.get("reduction", "none")
    result = target.copy()
    if reduction == "none":
        result[places] = updates
        return result
    functions = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    if reduction not in functions:
        raise refuse(node, f"reduction {reduction!r}")
    functions[reduction].at(result, places, updates)
    return result


def _scatter(node: Node, value: Value, updates: Value, places: Any) -> Value:
    if node.attributes.get("reduction", "none") == "none":
        return join([value, updates], lambda arrays: _reduce(node, arrays[0], places, arrays[1]))
    if value.error is not None or updates.error is not None:
        raise refuse(node, "its reduction of numbers that are not exact")
    array = _reduce(node, value.array, places, updates.array)
    if is_real(value.dtype) and node.attributes["reduction"] in ("add", "mul"):
        error = np.abs(array) * 2.0**-20
        return Value(array, value.dtype, error)
    grids = (value.grid, updates.grid)
    grid = None if None in grids else min(g for g in grids if g is not None)
    return Value(array, value.dtype, None, grid)


def _scatter_elements(context: Context, node: Node, inputs: Inputs) -> Value:
    value, updates = required(node, inputs, 0), required(node, inputs, 2)
    axis = int(node.attributes.get("axis", 0)) % value.array.ndim
    indices = _indices(node, inputs, 1, value.shape[axis])
    places: list[Any] = list(np.indices(indices.shape))
    places[axis] = indices
    return _scatter(node, value, updates, tuple(places))


def _scatter_nd(context: Context, node: Node, inputs: Inputs) -> Value:
    value, updates = required(node, inputs, 0), required(node, inputs, 2)
    indices = _indices(node, inputs, 1)
    return _scatter(node, value, updates, tuple(np.moveaxis(indices, -1, 0)))


def _one_hot(context: Context, node: Node, inputs: Inputs) -> Value:
    depth = integers_of(node, required(node, inputs, 1))[0]
    values = required(node, inputs, 2)
    indices = required(node, inputs, 0).array.astype(np.int64)
    axis = int(node.attributes.get("axis", -1))
    indices = np.where(indices < 0, indices + depth, indices)
    axis = axis % (indices.ndim + 1)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = depth
    hot = np.expand_dims(indices, axis) == np.arange(depth).reshape(shape)
    return Value(np.where(hot, values.array[1], values.array[0]), values.dtype, None, values.grid)


def _range(context: Context, node: Node, inputs: Inputs) -> Value:
    start, limit, delta = (required(node, inputs, i) for i in range(3))
    count = max(0, int(np.ceil((limit.array - start.array) / delta.array)))
    if is_real(start.dtype):
        array = start.array + np.arange(count) * delta.array
        size = np.abs(start.array) + count * np.abs(delta.array)
        terms = np.broadcast_to(size, array.shape)
        return context.precision.result(
            array, start.dtype, None, None, roundings=count or 1, terms=terms
        )
    return Value(start.array + np.arange(count) * delta.array, start.dtype)


def _non_zero(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    if value.error is not None:
        raise refuse(node, "its input is not exact")
    return Value(np.array(np.nonzero(value.array), np.int64), np.dtype(np.int64))


def _trilu(context: Context, node: Node, inputs: Inputs) -> Value:
    k = 0
    if len(inputs) > 1 and inputs[1] is not None:
        k = integers_of(node, inputs[1])[0]
    cut = np.triu if node.attributes.get("upper", 1) else np.tril
    return moved(required(node, inputs, 0), lambda array: cut(array, k))


def _cumulate(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    axis = integers_of(node, required(node, inputs, 1))[0]
    reverse, exclusive = node.attributes.get("reverse", 0), node.attributes.get("exclusive", 0)

    def total(array: Array) -> Array:
        array = np.flip(array, axis) if reverse else array
        sums = np.cumsum(array, axis)
        sums = sums - array if exclusive else sums
        return np.flip(sums, axis) if reverse else sums

    if not is_real(value.dtype):
        return Value(total(value.array), value.dtype)
    error = None if value.error is None else total(value.error)
    count = float(value.shape[axis])
    return context.precision.result(
        total(value.array),
        value.dtype,
        error,
        value.grid,
        roundings=count,
        terms=total(np.abs(value.array)),
    )


OPERATORS: dict[str, Operator] = {
    "CumSum": _cumulate,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "Range": _range,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Trilu": _trilu,
}
