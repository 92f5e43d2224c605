"""Element-wise arithmetic and logic on one to many tensors."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.values import Value, is_real, limits, propagated

__all__ = ["OPERATORS", "add", "combine_errors", "divide", "integer_value", "multiply"]

Reals = npt.NDArray[np.float64]


def integer_value(array: Any, dtype: np.dtype[Any], error: Reals | None = None) -> Value:
    """An integer tensor, wrapped around as its type does."""
    low, high = limits(dtype)
    array = np.asarray(array, np.int64)
    if dtype.itemsize < 8 and array.size and (array.min() < low or array.max() > high):
        array = (array - low) % (high - low + 1) + low
    return Value(array, dtype, error)


def combine_errors(first: Value, second: Value) -> Reals | None:
    """Sum of two error bounds; None if both tensors are exact."""
    if first.error is None and second.error is None:
        return None
    return first.errors + second.errors


def _grid(first: Value, second: Value) -> int | None:
    if first.grid is None or second.grid is None:
        return None
    return min(first.grid, second.grid)


def add(context: Context, first: Value, second: Value, sign: int = 1) -> Value:
    """Add or subtract two tensors of one type."""
    array = first.array + sign * second.array
    error = combine_errors(first, second)
    if not is_real(first.dtype):
        return integer_value(array, first.dtype, error)
    return context.precision.result(array, first.dtype, error, _grid(first, second))


def multiply(context: Context, first: Value, second: Value) -> Value:
    """Multiply two tensors of one type."""
    array = first.array * second.array
    error = None
    if first.error is not None or second.error is not None:
        error = (
            propagated(np.abs(first.array), second.errors)
            + propagated(np.abs(second.array), first.errors)
            + propagated(first.errors, second.errors)
        )
    if not is_real(first.dtype):
        return integer_value(array, first.dtype, error)
    grid = None if first.grid is None or second.grid is None else first.grid + second.grid
    return context.precision.result(array, first.dtype, error, grid)


def divide(context: Context, first: Value, second: Value) -> Value:
    """Divide two tensors of one type; integers towards zero."""
    if not is_real(first.dtype):
        quotient = np.abs(first.array) // np.where(second.array == 0, 1, np.abs(second.array))
        sign = np.sign(first.array) * np.sign(second.array)
        return integer_value(quotient * sign, first.dtype)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        array = first.array / second.array
        error = None
        if first.error is not None or second.error is not None:
            room = np.abs(second.array) - second.errors
            error = np.where(
                room > 0, (first.errors + np.abs(array) * second.errors) / room, np.inf
            )
    grid = None
    if first.grid is not None and second.error is None and second.array.size:
        mantissa, exponent = np.frexp(second.array)
        if np.all(np.abs(mantissa) == 0.5):
            grid = first.grid - int(exponent.max()) + 1
    return context.precision.result(array, first.dtype, error, grid)


def _pairwise(function: Callable[[Context, Value, Value], Value]) -> Operator:
    def evaluate(context: Context, node: Node, inputs: Inputs) -> Value:
        values = [required(node, inputs, i) for i in range(len(inputs))]
        return reduce(lambda a, b: function(context, a, b), values)

    return evaluate


def _extreme(context: Context, first: Value, second: Value, largest: bool) -> Value:
    choose = np.maximum if largest else np.minimum
    array = choose(first.array, second.array)
    error = None
    if first.error is not None or second.error is not None:
        error = np.broadcast_to(np.maximum(first.errors, second.errors), array.shape)
    return Value(array, first.dtype, error, None if error is not None else _grid(first, second))


def _mean(context: Context, node: Node, inputs: Inputs) -> Value:
    values = [required(node, inputs, i) for i in range(len(inputs))]
    total = reduce(lambda a, b: add(context, a, b), values)
    return divide(context, total, Value(np.array(float(len(inputs))), total.dtype, None, 0))


def _negate(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    if not is_real(value.dtype):
        return integer_value(-value.array, value.dtype, value.error)
    return Value(-value.array, value.dtype, value.error, value.grid)


def _absolute(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    if not is_real(value.dtype):
        return integer_value(np.abs(value.array), value.dtype, value.error)
    return Value(np.abs(value.array), value.dtype, value.error, value.grid)


def clip(context: Context, node: Node, inputs: Inputs) -> Value:
    """Evaluate Clip, whose bounds are attributes before opset 11."""
    value = required(node, inputs, 0)
    for position, name, largest in ((1, "min", True), (2, "max", False)):
        bound = inputs[position] if position < len(inputs) else None
        if bound is None and name in node.attributes:
            number = np.array(float(np.float32(node.attributes[name])))
            bound = Value(number, value.dtype, None, -149)
        if bound is not None:
            if not np.all(np.isfinite(bound.array)):
                grid = value.grid
                value = _extreme(context, value, bound, largest)
                value = Value(value.array, value.dtype, value.error, grid)
            else:
                value = _extreme(context, value, bound, largest)
    return value


def _power(context: Context, node: Node, inputs: Inputs) -> Value:
    base, exponent = required(node, inputs, 0), required(node, inputs, 1)
    if exponent.error is not None:
        raise refuse(node, "its exponent is computed")
    if not is_real(base.dtype):
        return integer_value(base.array ** exponent.array.astype(np.int64), base.dtype)
    if exponent.array.size == 1 and float(exponent.array.item()) == 2.0:
        return multiply(context, base, base)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        array = np.power(base.array, exponent.array)
        error = None
        if base.error is not None:
            ends = [np.power(base.array + s * base.error, exponent.array) for s in (1, -1)]
            error = np.maximum(np.abs(ends[0] - array), np.abs(ends[1] - array))
            error = np.where(np.isnan(error) & ~np.isnan(array), np.inf, error)
    # Libraries compute x**y as exp(y * log(x)): the error of the logarithm is magnified.
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.abs(exponent.array * np.log(np.abs(base.array)))
    roundings = 4 + 2 * float(np.max(logs[np.isfinite(logs)], initial=0.0))
    return context.precision.result(array, base.dtype, error, None, roundings=roundings)


def _modulo(context: Context, node: Node, inputs: Inputs) -> Value:
    first, second = required(node, inputs, 0), required(node, inputs, 1)
    if first.error is not None or second.error is not None or is_real(first.dtype):
        raise refuse(node, "Mod of real numbers")
    function = np.fmod if node.attributes.get("fmod", 0) else np.mod
    return Value(function(first.array, second.array), first.dtype)


def _where(context: Context, node: Node, inputs: Inputs) -> Value:
    condition, first, second = (required(node, inputs, i) for i in range(3))
    array = np.where(condition.array, first.array, second.array)
    error = None
    if condition.error is not None or first.error is not None or second.error is not None:
        error = np.where(condition.array, first.errors, second.errors)
        gap = np.abs(first.array - second.array) + first.errors + second.errors
        error = np.where(condition.errors > 0, gap, error)
    return Value(array, first.dtype, error, None if error is not None else _grid(first, second))


def _logic(function: Callable[..., Any]) -> Operator:
    def evaluate(context: Context, node: Node, inputs: Inputs) -> Value:
        values = [required(node, inputs, i) for i in range(len(inputs))]
        array = np.asarray(function(*(value.array for value in values)))
        unsure = reduce(np.maximum, [value.errors for value in values])
        error = np.broadcast_to(unsure, array.shape) if np.any(unsure) else None
        return Value(array, np.dtype(np.bool_), error)

    return evaluate


def _bitwise(function: Callable[..., Any]) -> Operator:
    def evaluate(context: Context, node: Node, inputs: Inputs) -> Value:
        values = [required(node, inputs, i) for i in range(len(inputs))]
        return integer_value(function(*(value.array for value in values)), values[0].dtype)

    return evaluate


OPERATORS: dict[str, Operator] = {
    "Abs": _absolute,
    "Add": _pairwise(add),
    "And": _logic(np.logical_and),
    "BitwiseAnd": _bitwise(np.bitwise_and),
    "BitwiseNot": _bitwise(np.bitwise_not),
    "BitwiseOr": _bitwise(np.bitwise_or),
    "BitwiseXor": _bitwise(np.bitwise_xor),
    "Clip": clip,
    "Div": _pairwise(divide),
    "Max": _pairwise(lambda context, a, b: _extreme(context, a, b, largest=True)),
    "Mean": _mean,
    "Min": _pairwise(lambda context, a, b: _extreme(context, a, b, largest=False)),
    "Mod": _modulo,
    "Mul": _pairwise(multiply),
    "Neg": _negate,
    "Not": _logic(np.logical_not),
    "Or": _logic(np.logical_or),
    "Pow": _power,
    "Sub": _pairwise(lambda context, a, b: add(context, a, b, -1)),
    "Sum": _pairwise(add),
    "Where": _where,
    "Xor": _logic(np.logical_xor),
}
