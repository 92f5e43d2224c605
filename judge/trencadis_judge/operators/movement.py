"""Operators that only move numbers: shapes, slices, joins."""

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
from trencadis_judge.values import Value, value_of

__all__ = ["CHANNELS_FIRST", "CHANNELS_LAST", "OPERATORS", "join", "moved"]

Array = npt.NDArray[Any]
INDEX = np.dtype(np.int64)

CHANNELS_FIRST, CHANNELS_LAST = "\0ChannelsFirst", "\0ChannelsLast"
"""Kinds that no file has, for operators that are written as others."""


def moved(value: Value, move: Callable[[Array], Array]) -> Value:
    """Apply a move to numbers and to their errors."""
    error = None if value.error is None else np.asarray(move(value.error))
    return Value(np.asarray(move(value.array)), value.dtype, error, value.grid)


def join(values: list[Value], combine: Callable[[list[Array]], Array]) -> Value:
    """Combine several tensors of one type into one."""
    error = None
    if any(value.error is not None for value in values):
        error = np.asarray(combine([value.errors for value in values]))
    grids = [value.grid for value in values]
    grid = None if error is not None or None in grids else min(g for g in grids if g is not None)
    array = np.asarray(combine([value.array for value in values]))
    return Value(array, values[0].dtype, error, grid)


def _reshape(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    shape = constant_integers(node, inputs, 1, "shape")
    if shape is None:
        raise refuse(node, "it has no shape")
    if not node.attributes.get("allowzero", 0):
        shape = [value.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return moved(value, lambda array: array.reshape(shape))


def _flatten(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    axis = int(node.attributes.get("axis", 1))
    axis = axis + value.array.ndim if axis < 0 else axis
    rows = int(np.prod(value.shape[:axis], dtype=np.int64))
    columns = int(np.prod(value.shape[axis:], dtype=np.int64))
    return moved(value, lambda array: array.reshape(rows, columns))


def _transpose(context: Context, node: Node, inputs: Inputs) -> Value:
    order = node.attributes.get("perm")
    return moved(required(node, inputs, 0), lambda array: np.transpose(array, order))


def _squeeze(context: Context, node: Node, inputs: Inputs) -> Value:
    axes = constant_integers(node, inputs, 1, "axes")
    return moved(
        required(node, inputs, 0),
        lambda array: np.squeeze(array, None if axes is None else tuple(axes)),
    )


def _unsqueeze(context: Context, node: Node, inputs: Inputs) -> Value:
    axes = constant_integers(node, inputs, 1, "axes", [])
    return moved(required(node, inputs, 0), lambda array: np.expand_dims(array, tuple(axes or ())))


def _slice(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    starts = constant_integers(node, inputs, 1, "starts", []) or []
    ends = constant_integers(node, inputs, 2, "ends", []) or []
    axes = constant_integers(node, inputs, 3, "axes") or list(range(len(starts)))
    steps = constant_integers(node, inputs, 4, "steps") or [1] * len(starts)
    slices = [slice(None)] * value.array.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = value.shape[axis]
        if step < 0:
            first = min(max(start + size if start < 0 else start, -1), size - 1)
            last = end + size if end < 0 else end
            stop = None if last < 0 else last
            slices[axis] = slice(first, stop, step) if first >= 0 else slice(0, 0)
        else:
            slices[axis] = slice(start, end, step)
    return moved(value, lambda array: array[tuple(slices)])


def _concat(context: Context, node: Node, inputs: Inputs) -> Value:
    axis = int(node.attributes.get("axis", 1))
    values = [required(node, inputs, i) for i in range(len(inputs))]
    return join(values, lambda arrays: np.concatenate(arrays, axis))


def _split(context: Context, node: Node, inputs: Inputs) -> tuple[Value, ...]:
    value = required(node, inputs, 0)
    axis = int(node.attributes.get("axis", 0))
    sizes = constant_integers(node, inputs, 1, "split")
    if sizes is None:
        count = int(node.attributes.get("num_outputs", len(node.outputs)))
        share = -(-value.shape[axis] // count)
        sizes = [share] * (count - 1) + [value.shape[axis] - share * (count - 1)]
    ends = np.cumsum(sizes)
    slices = [slice(None)] * value.array.ndim
    parts = []
    for end, size in zip(ends.tolist(), sizes, strict=True):
        part = list(slices)
        part[axis] = slice(end - size, end)
        parts.append(moved(value, lambda array, part=tuple(part): array[part]))
    return tuple(parts)


def _pad(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    pads = constant_integers(node, inputs, 1, "pads") or []
    rank = value.array.ndim
    axes = [a % rank for a in constant_integers(node, inputs, 3, "axes", list(range(rank))) or []]
    count = len(axes)
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + count])
    cuts = tuple(
        slice(max(0, -a), size - max(0, -b))
        for (a, b), size in zip(widths, value.shape, strict=True)
    )
    widths = [(max(0, a), max(0, b)) for a, b in widths]
    mode = node.attributes.get("mode", "constant")
    if mode in ("reflect", "edge", "wrap"):
        return moved(value, lambda array: np.pad(array[cuts], widths, mode=mode))
    if mode != "constant":
        raise refuse(node, f"mode {mode!r}")
    fill = inputs[2] if len(inputs) > 2 else None
    if fill is None:
        number = np.array(node.attributes.get("value", 0.0), value.array.dtype)
        fill = Value(number, value.dtype, None, -149 if number else 0)

    def combine(arrays: list[Array]) -> Array:
        inner, number = arrays
        return np.pad(inner[cuts], widths, constant_values=number.reshape(-1)[0])

    return join([value, fill], combine)


def _expand(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    shape = np.broadcast_shapes(value.shape, tuple(integers_of(node, required(node, inputs, 1))))
    return moved(value, lambda array: np.broadcast_to(array, shape))


def _tile(context: Context, node: Node, inputs: Inputs) -> Value:
    repeats = integers_of(node, required(node, inputs, 1))
    return moved(required(node, inputs, 0), lambda array: np.tile(array, repeats))


def _identity(context: Context, node: Node, inputs: Inputs) -> Value:
    return required(node, inputs, 0)


def _dropout(context: Context, node: Node, inputs: Inputs) -> Value | tuple[Value, ...]:
    value = required(node, inputs, 0)
    training = inputs[2] if len(inputs) > 2 else None
    ratio = inputs[1] if len(inputs) > 1 else None
    if training is not None and bool(training.array) and (ratio is None or ratio.array != 0):
        raise refuse(node, "it is in training mode: its output is random")
    # Before opset 12 nothing says what the mask is when nothing is dropped: runtimes give zeros.
    kind = np.dtype(np.bool_) if node.version >= 10 else value.dtype
    fill = np.full(value.shape, node.version >= 12, value_of(np.zeros(0, kind)).array.dtype)
    return (value, Value(fill, kind))


def _shape(context: Context, node: Node, inputs: Inputs) -> Value:
    sizes = required(node, inputs, 0).shape
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return Value(np.array(sizes[start:end], np.int64), INDEX)


def _size(context: Context, node: Node, inputs: Inputs) -> Value:
    return Value(np.array(required(node, inputs, 0).array.size, np.int64), INDEX)


def _constant(context: Context, node: Node, inputs: Inputs) -> Value:
    for name, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return value_of(np.asarray(node.attributes[name], dtype))
    raise refuse(node, "it is no number or tensor of numbers")


def _constant_of_shape(context: Context, node: Node, inputs: Inputs) -> Value:
    shape = integers_of(node, required(node, inputs, 0))
    number = np.asarray(node.attributes.get("value", np.zeros(1, np.float32)))
    return value_of(np.full(shape, number.reshape(())))


def _depth_to_space(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    block = int(node.attributes["blocksize"])
    n, c, h, w = value.shape
    if node.op_type == "SpaceToDepth":
        shape = (n, c, h // block, block, w // block, block)
        depth_first = node.attributes.get("mode", "DCR") == "DCR"
        order = (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4)
        result = (n, c * block * block, h // block, w // block)
    else:
        depth_first = node.attributes.get("mode", "DCR") == "DCR"
        inner = c // (block * block)
        shape = (n, block, block, inner, h, w) if depth_first else (n, inner, block, block, h, w)
        order = (0, 3, 4, 1, 5, 2) if depth_first else (0, 1, 4, 2, 5, 3)
        result = (n, inner, h * block, w * block)
    return moved(value, lambda array: array.reshape(shape).transpose(order).reshape(result))


def _channels(context: Context, node: Node, inputs: Inputs) -> Value:
    source, target = (-1, 1) if node.op_type == CHANNELS_FIRST else (1, -1)
    return moved(required(node, inputs, 0), lambda array: np.moveaxis(array, source, target))


OPERATORS: dict[str, Operator] = {
    CHANNELS_FIRST: _channels,
    CHANNELS_LAST: _channels,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _depth_to_space,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
