"""Cast and CastLike."""

from typing import Any

import numpy as np
import onnx

from trencadis_judge.context import Context, Inputs, Operator, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.operators.arithmetic import integer_value
from trencadis_judge.values import Value, is_real, real_value

__all__ = ["OPERATORS"]


def _convert(context: Context, node: Node, value: Value, dtype: np.dtype[Any]) -> Value:
    array = value.array
    if is_real(dtype):
        if not is_real(value.dtype):
            return _rounded(context, real_value(array.astype(np.float64), dtype), dtype, value)
        return _rounded(context, value, dtype, value)
    if dtype == np.bool_:
        if value.error is not None:
            raise refuse(node, "it makes truth values of numbers that are not exact")
        return Value(array != 0, dtype)
    if is_real(value.dtype):
        if value.error is not None and np.any(
            np.trunc(array - value.error) != np.trunc(array + value.error)
        ):
            raise refuse(node, "it makes integers of numbers that are not exact")
        if not np.all(np.abs(array) < 2.0**62):
            raise refuse(node, "it makes integers of numbers that are too large")
        return integer_value(np.trunc(array).astype(np.int64), dtype)
    return integer_value(array.astype(np.int64), dtype, value.error)


def _rounded(context: Context, value: Value, dtype: np.dtype[Any], source: Value) -> Value:
    """A tensor in another real type: a type with fewer bits rounds."""
    error = source.error
    if context.precision.float64 or error is not None:
        return Value(value.array, dtype, error, value.grid if error is None else None)
    return context.precision.result(value.array, dtype, None, value.grid)


def _cast(context: Context, node: Node, inputs: Inputs) -> Value:
    number = int(node.attributes["to"])
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    return _convert(context, node, required(node, inputs, 0), dtype)


def _cast_like(context: Context, node: Node, inputs: Inputs) -> Value:
    return _convert(context, node, required(node, inputs, 0), required(node, inputs, 1).dtype)


OPERATORS: dict[str, Operator] = {"Cast": _cast, "CastLike": _cast_like}
