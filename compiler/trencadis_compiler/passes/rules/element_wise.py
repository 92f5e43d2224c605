"""Relu, Clip, LeakyRelu, Sigmoid, Tanh; Identity, Dropout, Cast."""

import math
from dataclasses import replace

import numpy as np

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.functions import function_of
from trencadis_compiler.passes.base.operator import Operator, integer, real
from trencadis_compiler.passes.base.state import ActivationMap, State, Unsupported

__all__ = ["OPERATORS"]

TO_REAL = (1, 11)
"""ONNX's numbers of the types that hold every quantised activation and its scale."""

CONSTANT_TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}
"""Types that a constant may be cast to."""


def _apply(context: Context, node: Node) -> State:
    value = context.state(node, 0)
    low, high = -math.inf, math.inf
    if node.op_type == "Clip":
        low, high = _bounds(context, node)
        if isinstance(value, np.ndarray):
            return np.clip(value, low, high).astype(value.dtype)
    source = context.map(node)
    if source.integer:
        raise Unsupported(node, "on quantised integers; dequantise first")
    return replace(source, functions=(*source.functions, function_of(node, low, high)))


def _bounds(context: Context, node: Node) -> tuple[float, float]:
    """Bounds of a Clip."""
    numbers = [context.constant(node, 1), context.constant(node, 2)]
    if any(number is not None and number.size != 1 for number in numbers):
        raise Unsupported(node, "its bounds must be single numbers")
    low, high = numbers
    return (
        float(node.attributes.get("min", -math.inf)) if low is None else float(low.item()),
        float(node.attributes.get("max", math.inf)) if high is None else float(high.item()),
    )


def _rename(context: Context, node: Node) -> State:
    value = context.state(node, 0)
    return context.map(node, views=True) if isinstance(value, ActivationMap) else value


def _drop_out(context: Context, node: Node) -> State:
    training = context.constant(node, 2)
    if training is not None and bool(np.any(training)):
        raise Unsupported(node, "its training_mode is true; export the model for inference")
    return _rename(context, node)


def _cast(context: Context, node: Node) -> State:
    value = context.state(node, 0)
    to = node.attributes.get("to")
    if isinstance(value, np.ndarray):
        if to not in CONSTANT_TYPES:
            raise Unsupported(node, f"casts a constant to ONNX's type {to}; export it as such")
        return value.astype(CONSTANT_TYPES[to])
    if not isinstance(value, ActivationMap) or value.integer or to not in TO_REAL:
        raise Unsupported(
            node,
            f"casts to ONNX's type {to}, which changes numbers; leave activations float32",
        )
    if value.draft is None and value.source.tensor.dtype not in ("float16", "float32", "float64"):
        raise Unsupported(node, "casts integers of the model's input; do it on the host")
    return context.map(node)


OPERATORS = {
    "Cast": Operator(
        _cast, (1, 1), {"to": integer(), "saturate": integer(), "round_mode": integer()}
    ),
    "Clip": Operator(_apply, (1, 3), {"min": real(), "max": real()}),
    "Dropout": Operator(_drop_out, (1, 3), {"ratio": real(), "seed": integer()}),
    "Identity": Operator(_rename, (1, 1)),
    "LeakyRelu": Operator(_apply, (1, 1), {"alpha": real()}),
    "Relu": Operator(_apply, (1, 1)),
    "Sigmoid": Operator(_apply, (1, 1)),
    "Tanh": Operator(_apply, (1, 1)),
}
