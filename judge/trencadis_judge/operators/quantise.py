"""Quantisers: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_judge.context import Context, Inputs, Operator, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.operators.arithmetic import multiply
from trencadis_judge.operators.rounding import round_quotient
from trencadis_judge.values import Value, is_real, limits, real_value

__all__ = ["OPERATORS"]

Array = npt.NDArray[Any]


def _spread(node: Node, numbers: Array, value: Value) -> Array:
    """Scales or zero points, ready to meet the tensor: of all, of an axis, or of blocks."""
    if numbers.size == 1:
        return numbers.reshape(())
    rank = value.array.ndim
    axis = int(node.attributes.get("axis", 1))
    if not -rank <= axis < rank:
        raise refuse(node, f"axis {axis} of a tensor {value.shape}")
    axis %= rank
    block = int(node.attributes.get("block_size", 0))
    if numbers.ndim == 1 and not block:
        if numbers.size != value.shape[axis]:
            raise refuse(node, f"{numbers.size} scales for axis {axis} of a tensor {value.shape}")
        shape = [1] * rank
        shape[axis] = -1
        return numbers.reshape(shape)
    if numbers.ndim != rank or not block:
        raise refuse(node, f"scales {numbers.shape} for a tensor {value.shape}")
    return np.repeat(numbers, block, axis=axis)[tuple(slice(0, size) for size in value.shape)]


def _output_type(node: Node, zero: Value | None) -> np.dtype[Any]:
    if zero is not None:
        return zero.dtype
    number = int(node.attributes.get("output_dtype", 0))
    if number:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    return np.dtype(np.uint8)


def _zero_point(inputs: Inputs) -> Value | None:
    return inputs[2] if len(inputs) > 2 else None


def quantise(context: Context, node: Node, inputs: Inputs) -> Value:
    """Evaluate QuantizeLinear: round(x / scale) + zero point, clipped; half to even."""
    value, scale = required(node, inputs, 0), required(node, inputs, 1)
    zero = _zero_point(inputs)
    dtype = _output_type(node, zero)
    low, high = limits(dtype)
    if scale.error is not None:
        raise refuse(node, "its scale is computed")
    if not is_real(value.dtype):
        value = real_value(value.array.astype(np.float64), scale.dtype)
    divisor = _spread(node, scale.array, value)
    offset = _spread(node, zero.array, value) if zero is not None else np.zeros((), np.int64)
    rounded, unsure = round_quotient(context, node.inputs[0], value, divisor)
    with np.errstate(invalid="ignore"):
        array = np.clip(rounded + offset, low, high)
        if unsure is not None:
            reach = [np.clip(rounded + offset + s * unsure, low, high) for s in (1, -1)]
            unsure = np.maximum(np.abs(reach[0] - array), np.abs(reach[1] - array))
            unsure = unsure if unsure.any() else None
    nothing = np.isnan(array)
    if nothing.any():
        # No standard says which integer NaN becomes: whichever a runtime makes of it.
        array = np.where(nothing, low, array)
        unsure = np.where(nothing, high - low, 0 if unsure is None else unsure)
    return Value(array.astype(np.int64), dtype, unsure)


def dequantise(context: Context, node: Node, inputs: Inputs) -> Value:
    """Evaluate DequantizeLinear: (x - zero point) * scale."""
    value, scale = required(node, inputs, 0), required(node, inputs, 1)
    zero = _zero_point(inputs)
    difference = value.array.astype(np.float64)
    if zero is not None:
        difference = difference - _spread(node, zero.array, value)
    numbers = _spread(node, scale.array, value)
    error = None if scale.error is None else _spread(node, scale.error, value)
    centred = Value(difference, scale.dtype, value.error, 0 if value.error is None else None)
    return multiply(context, centred, Value(numbers, scale.dtype, error, scale.grid))


def quantise_dynamically(context: Context, node: Node, inputs: Inputs) -> tuple[Value, ...]:
    """Evaluate DynamicQuantizeLinear.

    Its definition is in float32: the scale is (max - min) / 255 in that type, and the zero point
    round(-min / scale).
    """
    value = required(node, inputs, 0)
    low = np.float32(min(value.array.min(initial=0), 0))
    high = np.float32(max(value.array.max(initial=0), 0))
    scale = np.float32(np.float32(high - low) / np.float32(255))
    divisor = scale if scale else np.float32(1)
    zero = int(np.clip(np.rint(np.float32(-low / divisor)), 0, 255))
    byte = np.dtype(np.uint8)
    if value.error is not None:
        return _dynamically_about(value, low, high, float(divisor), zero)
    rounded, unsure = round_quotient(context, node.inputs[0], value, np.array(float(divisor)))
    array = np.clip(rounded + zero, 0, 255).astype(np.int64)
    return (
        Value(array, byte, unsure),
        real_value(np.array(float(scale)), np.dtype(np.float32)),
        Value(np.array(zero, np.int64), byte),
    )


def _dynamically_about(
    value: Value, low: np.float32, high: np.float32, scale: float, zero: int
) -> tuple[Value, ...]:
    """DynamicQuantizeLinear of numbers that are not exact: its scale and steps are not, either."""
    unit = 2.0**-22  # some roundings to float32
    inside = np.where(np.isfinite(value.errors), value.errors, np.inf)
    slack = 2 * float(inside.max(initial=0)) / 255 + unit * scale

    def steps(numbers: Array, errors: Array) -> tuple[Array, Array]:
        """Rounded quotients by the scale, and how far away another one is possible."""
        quotient = numbers / scale
        reach = (errors + np.abs(quotient) * slack) / scale + unit * np.abs(quotient)
        rounded = np.rint(quotient)
        certain = np.abs(quotient - rounded) + reach < 0.5
        return rounded, np.where(certain, 0.0, np.ceil(reach + 0.5))

    _, zero_unsure = steps(np.array(-float(low)), inside.max(initial=0))
    rounded, unsure = steps(value.array, inside)
    byte = np.dtype(np.uint8)
    size = 0.0 if high == low else scale
    return (
        Value(np.clip(rounded + zero, 0, 255).astype(np.int64), byte, unsure + zero_unsure),
        Value(np.array(size), np.dtype(np.float32), np.array(slack)),
        Value(np.array(zero, np.int64), byte, zero_unsure if zero_unsure else None),
    )


OPERATORS: dict[str, Operator] = {
    "DequantizeLinear": dequantise,
    "DynamicQuantizeLinear": quantise_dynamically,
    "QuantizeLinear": quantise,
    "com.microsoft.DequantizeLinear": dequantise,
    "com.microsoft.QuantizeLinear": quantise,
}
