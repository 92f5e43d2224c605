"""Operators that act on every number alone, in float64: what activation tables are made of."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.importer.graph import Node

__all__ = ["ATTRIBUTES", "ELEMENT_WISE", "Numbers", "evaluate_node"]

Numbers = npt.NDArray[Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def evaluate_node(node: Node, inputs: Sequence[Numbers | None]) -> Numbers:
    """The output of a node of `ELEMENT_WISE`; inputs that are left out are None."""
    with np.errstate(all="ignore"):
        return np.asarray(ELEMENT_WISE[node.op_type](node, inputs), np.float64)


def _real(node: Node, name: str, default: float) -> float:
    """An attribute, which ONNX keeps in float32."""
    return float(np.float32(node.attributes.get(name, default)))


def _of(inputs: Sequence[Numbers | None], position: int) -> Numbers:
    value = inputs[position]
    assert value is not None
    return value


def _unary(function: Callable[[Numbers], Numbers]) -> Callable[..., Numbers]:
    return lambda node, inputs: function(_of(inputs, 0))


def _binary(function: Callable[[Numbers, Numbers], Numbers]) -> Callable[..., Numbers]:
    return lambda node, inputs: function(_of(inputs, 0), _of(inputs, 1))


def _sigmoid(x: Numbers) -> Numbers:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def _softplus(x: Numbers) -> Numbers:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _clip(node: Node, inputs: Sequence[Numbers | None]) -> Numbers:
    x = _of(inputs, 0)
    bounds = [inputs[i] if len(inputs) > i else None for i in (1, 2)]
    low = node.attributes.get("min", -math.inf) if bounds[0] is None else bounds[0]
    high = node.attributes.get("max", math.inf) if bounds[1] is None else bounds[1]
    return np.minimum(np.maximum(x, low), high)


def _gelu(node: Node, inputs: Sequence[Numbers | None]) -> Numbers:
    x = _of(inputs, 0)
    if node.attributes.get("approximate", "none") == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _hard_sigmoid(x: Numbers, alpha: float, beta: float) -> Numbers:
    return np.clip(alpha * x + beta, 0, 1)


def _elu(x: Numbers, alpha: float, gamma: float = 1.0) -> Numbers:
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(x: Numbers, alpha: float) -> Numbers:
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875

ELEMENT_WISE: Mapping[str, Callable[[Node, Sequence[Numbers | None]], Numbers]] = {
    "Abs": _unary(np.abs),
    "Add": _binary(np.add),
    "Celu": lambda node, inputs: _celu(_of(inputs, 0), _real(node, "alpha", 1.0)),
    "Ceil": _unary(np.ceil),
    "Clip": _clip,
    "Cos": _unary(np.cos),
    "Div": _binary(np.divide),
    "Elu": lambda node, inputs: _elu(_of(inputs, 0), _real(node, "alpha", 1.0)),
    "Erf": _unary(_erf),
    "Exp": _unary(np.exp),
    "Floor": _unary(np.floor),
    "Gelu": _gelu,
    "HardSigmoid": lambda node, inputs: _hard_sigmoid(
        _of(inputs, 0), _real(node, "alpha", 0.2), _real(node, "beta", 0.5)
    ),
    "HardSwish": lambda node, inputs: _of(inputs, 0) * np.clip(_of(inputs, 0) / 6 + 0.5, 0, 1),
    "Identity": _unary(lambda x: x),
    "LeakyRelu": lambda node, inputs: np.where(
        _of(inputs, 0) > 0, _of(inputs, 0), _of(inputs, 0) * _real(node, "alpha", 0.01)
    ),
    "Log": _unary(np.log),
    "Max": lambda node, inputs: reduce(np.maximum, [x for x in inputs if x is not None]),
    "Min": lambda node, inputs: reduce(np.minimum, [x for x in inputs if x is not None]),
    "Mish": _unary(lambda x: x * np.tanh(_softplus(x))),
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "PRelu": _binary(lambda x, slope: np.where(x > 0, x, x * slope)),
    "Pow": _binary(np.power),
    "Reciprocal": _unary(np.reciprocal),
    "Relu": _unary(lambda x: np.maximum(x, 0)),
    "Round": _unary(np.rint),
    "Selu": lambda node, inputs: _elu(
        _of(inputs, 0), _real(node, "alpha", SELU_ALPHA), _real(node, "gamma", SELU_GAMMA)
    ),
    "Sigmoid": _unary(_sigmoid),
    "Sign": _unary(np.sign),
    "Sin": _unary(np.sin),
    "Softplus": _unary(_softplus),
    "Softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "Sqrt": _unary(np.sqrt),
    "Sub": _binary(np.subtract),
    "Swish": lambda node, inputs: (
        _of(inputs, 0) * _sigmoid(_real(node, "alpha", 1.0) * _of(inputs, 0))
    ),
    "Tanh": _unary(np.tanh),
    "ThresholdedRelu": lambda node, inputs: np.where(
        _of(inputs, 0) > _real(node, "alpha", 1.0), _of(inputs, 0), 0.0
    ),
}
"""Functions by type; each gets the node and its inputs."""

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "Celu": ("alpha",),
    "Clip": ("min", "max"),
    "Elu": ("alpha",),
    "Gelu": ("approximate",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Selu": ("alpha", "gamma"),
    "Swish": ("alpha",),
    "ThresholdedRelu": ("alpha",),
}
"""Attributes that are read; a node with others is not evaluated."""
