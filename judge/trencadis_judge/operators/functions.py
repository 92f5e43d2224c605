"""Functions of one number."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, required
from trencadis_judge.node import Node
from trencadis_judge.values import Value, is_real

__all__ = ["FUNCTIONS", "OPERATORS", "Function", "erf"]

Reals = npt.NDArray[np.float64]


def erf(x: Reals) -> Reals:
    """Error function, element by element by the C library."""
    return np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else np.zeros(x.shape)


def _sigmoid(x: Reals) -> Reals:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _softplus(x: Reals) -> Reals:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@dataclass(frozen=True)
class Function:
    """A function of one number.

    Attributes
    ----------
    compute : callable
        The function in float64; it is given the node's attributes.
    slope : float or None
        Largest slope of the function, for functions that turn; None for those that never
        decrease, or never increase: then both ends of the error's interval tell.
    absolute, relative : float
        Error of usual float32 libraries, in units of the last place of 1, and of the result.
    low : float
        Where the function begins: an error does not reach below.
    """

    compute: Callable[[Reals, dict[str, Any]], Reals]
    slope: float | None = None
    absolute: float = 0.0
    relative: float = 4.0
    low: float = -math.inf


def _gelu(x: Reals, attributes: dict[str, Any]) -> Reals:
    if attributes.get("approximate", "none") == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + np.tanh(inner))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def _elu(x: Reals, attributes: dict[str, Any]) -> Reals:
    alpha = float(attributes.get("alpha", 1.0))
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _celu(x: Reals, attributes: dict[str, Any]) -> Reals:
    alpha = float(attributes.get("alpha", 1.0))
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _selu(x: Reals, attributes: dict[str, Any]) -> Reals:
    alpha = float(attributes.get("alpha", 1.67326319217681884765625))
    gamma = float(attributes.get("gamma", 1.05070102214813232421875))
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _hard_sigmoid(x: Reals, attributes: dict[str, Any]) -> Reals:
    alpha = float(np.float32(attributes.get("alpha", 0.2)))
    beta = float(np.float32(attributes.get("beta", 0.5)))
    return np.clip(alpha * x + beta, 0, 1)


def _swish(x: Reals, attributes: dict[str, Any]) -> Reals:
    return x * _sigmoid(float(attributes.get("alpha", 1.0)) * x)


FUNCTIONS: dict[str, Function] = {
    "Acos": Function(lambda x, _: np.arccos(x)),
    "Acosh": Function(lambda x, _: np.arccosh(x)),
    "Asin": Function(lambda x, _: np.arcsin(x)),
    "Asinh": Function(lambda x, _: np.arcsinh(x)),
    "Atan": Function(lambda x, _: np.arctan(x)),
    "Atanh": Function(lambda x, _: np.arctanh(x)),
    "Celu": Function(_celu, absolute=8),
    "Cos": Function(lambda x, _: np.cos(x), 1.0, absolute=4),
    "Cosh": Function(lambda x, _: np.cosh(x), None, relative=8),
    "Elu": Function(_elu, absolute=8),
    "Erf": Function(lambda x, _: erf(x), absolute=8),
    "Exp": Function(lambda x, _: np.exp(x), relative=8),
    "Gelu": Function(_gelu, 1.13, absolute=16, relative=16),
    "HardSigmoid": Function(_hard_sigmoid, absolute=4),
    "HardSwish": Function(lambda x, _: x * np.clip(x / 6 + 0.5, 0, 1), 1.5, absolute=8),
    "Log": Function(lambda x, _: np.log(x), absolute=4),
    "Mish": Function(lambda x, _: x * np.tanh(_softplus(x)), 1.1, absolute=16, relative=16),
    "Reciprocal": Function(lambda x, _: 1 / x),
    "Selu": Function(_selu, absolute=16),
    "Sigmoid": Function(lambda x, _: _sigmoid(x), absolute=8),
    "Sin": Function(lambda x, _: np.sin(x), 1.0, absolute=4),
    "Sinh": Function(lambda x, _: np.sinh(x), relative=8),
    "Softplus": Function(lambda x, _: _softplus(x), absolute=8),
    "Softsign": Function(lambda x, _: x / (1 + np.abs(x))),
    "Sqrt": Function(lambda x, _: np.sqrt(x), relative=1, low=0),
    "Swish": Function(_swish, 1.2, absolute=8, relative=8),
    "Tan": Function(lambda x, _: np.tan(x), relative=8),
    "Tanh": Function(lambda x, _: np.tanh(x), absolute=8),
    "com.microsoft.Gelu": Function(_gelu, 1.13, absolute=16, relative=16),
    "com.microsoft.QuickGelu": Function(
        lambda x, a: x * _sigmoid(float(a.get("alpha", 1.702)) * x), 1.2, absolute=16, relative=8
    ),
}


def _apply(function: Function) -> Operator:
    def evaluate(context: Context, node: Node, inputs: Inputs) -> Value:
        value = required(node, inputs, 0)
        attributes = dict(node.attributes)
        with np.errstate(all="ignore"):
            array = function.compute(value.array, attributes)
            error = None
            if value.error is not None:
                slope = function.slope
                if slope is None:
                    lowest = np.where(value.array < function.low, -np.inf, function.low)
                    ends = [
                        np.abs(
                            function.compute(
                                np.maximum(value.array + sign * value.error, lowest), attributes
                            )
                            - array
                        )
                        for sign in (1, -1)
                    ]
                    error = np.maximum(*ends)
                    error = np.where(np.isnan(error) & ~np.isnan(array), np.inf, error)
                else:
                    error = slope * value.error
        terms = np.abs(array) * function.relative + function.absolute
        return context.precision.result(array, value.dtype, error, None, terms=terms)

    return evaluate


def _relu(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    array = np.maximum(value.array, 0)
    error = value.error
    if error is not None:
        error = np.where(value.array + error < 0, 0.0, error)
    return Value(array, value.dtype, error, value.grid)


def _leaky(context: Context, node: Node, inputs: Inputs) -> Value:
    """Evaluate LeakyRelu and PRelu."""
    value = required(node, inputs, 0)
    if node.op_type == "PRelu":
        slope = required(node, inputs, 1)
    else:
        alpha = float(np.float32(node.attributes.get("alpha", 0.01)))
        slope = Value(np.array(alpha), value.dtype, None, math.frexp(alpha)[1] - 24)
    array = np.where(value.array < 0, value.array * slope.array, value.array)
    error = None
    if value.error is not None or slope.error is not None:
        error = (
            value.errors * np.maximum(1, np.abs(slope.array)) + np.abs(value.array) * slope.errors
        )
    grid = None
    if value.grid is not None and slope.grid is not None:
        grid = value.grid + min(slope.grid, 0)
    if not is_real(value.dtype):
        return Value(array, value.dtype, error)
    return context.precision.result(array, value.dtype, error, grid)


def _thresholded(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    alpha = float(node.attributes.get("alpha", 1.0))
    array = np.where(value.array > alpha, value.array, 0)
    error = value.error
    if error is not None:
        error = np.where(np.abs(value.array - alpha) <= error, np.abs(value.array) + error, error)
    return Value(array, value.dtype, error, value.grid)


def _is_not_finite(test: Callable[[Any], Any]) -> Operator:
    def evaluate(context: Context, node: Node, inputs: Inputs) -> Value:
        return Value(test(required(node, inputs, 0).array), np.dtype(np.bool_))

    return evaluate


def _is_infinite(context: Context, node: Node, inputs: Inputs) -> Value:
    array = required(node, inputs, 0).array
    found = np.zeros(array.shape, np.bool_)
    for name, infinity in (("detect_positive", np.inf), ("detect_negative", -np.inf)):
        if node.attributes.get(name, 1):
            found |= array == infinity
    return Value(found, np.dtype(np.bool_))


OPERATORS: dict[str, Operator] = {
    **{name: _apply(function) for name, function in FUNCTIONS.items()},
    "IsInf": _is_infinite,
    "IsNaN": _is_not_finite(np.isnan),
    "LeakyRelu": _leaky,
    "PRelu": _leaky,
    "Relu": _relu,
    "ThresholdedRelu": _thresholded,
}
