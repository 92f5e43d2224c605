"""Normalisations and Softmax."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.operators.arithmetic import add, divide, multiply
from trencadis_judge.operators.reduction import mean_over
from trencadis_judge.values import Value, real_value

__all__ = ["OPERATORS"]

Reals = npt.NDArray[np.float64]

FLUSHED = 2.0**-126
"""Powers below the least normal float32 are 0 in runtimes whose vectors have no others."""


def _number(number: float, dtype: np.dtype[Any]) -> Value:
    return real_value(np.array(float(np.float32(number))), dtype)


def _shaped(value: Value, shape: tuple[int, ...]) -> Value:
    error = None if value.error is None else value.error.reshape(shape)
    return Value(value.array.reshape(shape), value.dtype, error, value.grid)


def _square_root(context: Context, value: Value) -> Value:
    array = np.sqrt(value.array)
    error = None
    if value.error is not None:
        low = np.sqrt(np.maximum(value.array - value.error, 0))
        error = np.maximum(array - low, np.sqrt(value.array + value.error) - array)
    grid = None
    if value.error is None and np.all(array * array == value.array):
        grid = real_value(array, value.dtype).grid
        if grid is not None and np.all(np.frexp(array)[0] * (1 << 26) % 1 == 0):
            return Value(array, value.dtype, None, grid)
    return context.precision.result(array, value.dtype, error, None)


def _batch_normalization(context: Context, node: Node, inputs: Inputs) -> Value:
    if node.attributes.get("training_mode", 0):
        raise refuse(node, "it is in training mode")
    value = required(node, inputs, 0)
    shape = (1, -1, *(1,) * (value.array.ndim - 2))
    gain, offset, mean, variance = (_shaped(required(node, inputs, i), shape) for i in range(1, 5))
    epsilon = _number(node.attributes.get("epsilon", 1e-5), variance.dtype)
    spread = _square_root(context, add(context, variance, epsilon))
    centred = add(context, value, mean, -1)
    result = add(context, multiply(context, divide(context, centred, spread), gain), offset)
    if not context.precision.float64:
        # Runtimes compute x * factor + (offset - mean * factor), whose terms may be larger.
        factor = np.abs(gain.array / spread.array)
        terms = (np.abs(value.array) + np.abs(mean.array)) * factor + np.abs(offset.array)
        more = 8 * context.precision.unit(value.dtype) * terms
        result = Value(result.array, result.dtype, result.errors + more)
    return result


def _normalised(context: Context, value: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    """Take the mean over axes away and divide by the standard deviation."""
    mean = mean_over(context, value, axes, True)
    centred = add(context, value, mean, -1)
    variance = mean_over(context, multiply(context, centred, centred), axes, True)
    if context.precision.float64 is False:
        # Runtimes may compute E[x^2] - E[x]^2, whose error is that of the larger terms.
        squares = mean_over(context, multiply(context, value, value), axes, True)
        error = np.maximum(variance.errors, squares.errors * 3)
        variance = Value(variance.array, variance.dtype, error)
    spread = _square_root(context, add(context, variance, _number(epsilon, value.dtype)))
    result = divide(context, centred, spread)
    if context.precision.float64:
        return result
    # Runtimes compute x * factor - mean * factor, whose terms may be larger than the difference.
    terms = (np.abs(value.array) + np.abs(mean.array)) / spread.array
    more = 8 * context.precision.unit(value.dtype) * terms
    return Value(result.array, result.dtype, result.errors + more)


def _instance_normalization(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    rank = value.array.ndim
    result = _normalised(
        context, value, tuple(range(2, rank)), node.attributes.get("epsilon", 1e-5)
    )
    shape = (1, -1, *(1,) * (rank - 2))
    scale, bias = (_shaped(required(node, inputs, i), shape) for i in (1, 2))
    return add(context, multiply(context, result, scale), bias)


def _layer_normalization(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    if any(node.outputs[1:]):
        raise refuse(node, "its mean and deviation are asked for")
    axis = int(node.attributes.get("axis", -1)) % value.array.ndim
    axes = tuple(range(axis, value.array.ndim))
    result = _normalised(context, value, axes, node.attributes.get("epsilon", 1e-5))
    result = multiply(context, result, required(node, inputs, 1))
    bias = inputs[2] if len(inputs) > 2 else None
    return result if bias is None else add(context, result, bias)


def _rms_normalization(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    axis = int(node.attributes.get("axis", -1)) % value.array.ndim
    axes = tuple(range(axis, value.array.ndim))
    squares = mean_over(context, multiply(context, value, value), axes, True)
    epsilon = _number(node.attributes.get("epsilon", 1e-5), value.dtype)
    spread = _square_root(context, add(context, squares, epsilon))
    return multiply(context, divide(context, value, spread), required(node, inputs, 1))


def _softmax(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    shape = value.shape
    axis = int(node.attributes.get("axis", 1 if node.version < 13 else -1))
    if node.version < 13:
        axis = axis % len(shape)
        flat = (int(np.prod(shape[:axis], dtype=np.int64)), -1)
        value, axis = _shaped(value, flat), 1
    logits = value.array - value.array.max(axis, keepdims=True)
    powers = np.exp(logits)
    total = powers.sum(axis, keepdims=True)
    count = value.array.shape[axis]
    worst = None if value.error is None else value.error.max(axis, keepdims=True)
    # exp(x - max) of a float32 difference: its own error is magnified by no more than |x - max|.
    finite = np.where(np.isfinite(logits), np.abs(logits), 0)
    roundings = 16 + count + finite + finite.max(axis, keepdims=True)
    if node.op_type == "LogSoftmax":
        array = logits - np.log(total)
        error = None if worst is None else np.broadcast_to(2 * worst, array.shape)
        terms = np.abs(array) * 8 + roundings
    else:
        array = powers / total
        error = None if worst is None else array * np.expm1(np.minimum(2 * worst, 50))
        terms = array * roundings + FLUSHED / context.precision.unit(value.dtype)
    result = context.precision.result(array, value.dtype, error, None, terms=terms)
    return _shaped(result, shape)


def _hardmax(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    if value.error is not None:
        raise refuse(node, "its input is not exact")
    axis = int(node.attributes.get("axis", 1 if node.version < 13 else -1))
    array = value.array
    if node.version < 13:
        axis %= array.ndim
        array = array.reshape(int(np.prod(array.shape[:axis], dtype=np.int64)), -1)
        axis = 1
    best = np.expand_dims(np.argmax(array, axis), axis)
    hot = np.zeros(array.shape)
    np.put_along_axis(hot, best, 1.0, axis)
    return real_value(hot.reshape(value.shape), value.dtype)


def _local_response(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    size = int(node.attributes["size"])
    alpha, beta = (float(node.attributes.get(n, d)) for n, d in (("alpha", 1e-4), ("beta", 0.75)))
    bias = float(node.attributes.get("bias", 1.0))
    squares = value.array**2
    before, after = (size - 1) // 2, size // 2
    padded = np.pad(squares, [(0, 0), (before, after), *[(0, 0)] * (squares.ndim - 2)])
    total = sum(padded[:, i : i + squares.shape[1]] for i in range(size))
    array = value.array / (bias + alpha / size * total) ** beta
    error = None
    if value.error is not None:
        if bias < 1:
            raise refuse(node, "a bias below 1 with an input that is not exact")
        error = value.error * (1 + 2 * beta * size)
    return context.precision.result(array, value.dtype, error, None, roundings=float(16 + 2 * size))


def _lp_normalization(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    axis, p = int(node.attributes.get("axis", -1)), int(node.attributes.get("p", 2))
    if value.error is not None:
        raise refuse(node, "its input is not exact")
    norm = np.sum(np.abs(value.array) ** p, axis, keepdims=True) ** (1 / p)
    array = np.divide(value.array, norm, out=np.zeros(value.shape), where=norm != 0)
    return context.precision.result(
        array, value.dtype, None, None, roundings=float(8 + value.array.shape[axis])
    )


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": _batch_normalization,
    "Hardmax": _hardmax,
    "InstanceNormalization": _instance_normalization,
    "LRN": _local_response,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax,
    "LpNormalization": _lp_normalization,
    "RMSNormalization": _rms_normalization,
    "Softmax": _softmax,
}
