"""The integers that dequantised tensors stand for, where a host hands these on in float32.

A device takes such a tensor up again as integers: what it computes with are multiples of the scale,
not their roundings to float32. They stay multiples while tensors are only moved, picked from,
zeroed, or put beside others of the same scale.
"""

import numpy as np

from trencadis_judge.errors import JudgeError
from trencadis_judge.evaluation import Evaluation
from trencadis_judge.graph import JudgedModel
from trencadis_judge.node import Node
from trencadis_judge.values import Precision, Value, real_value

__all__ = ["on_grid"]

MOVED = {
    "Concat": None,
    "DepthToSpace": (0,),
    "Dropout": (0,),
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "GatherElements": (0,),
    "GlobalMaxPool": (0,),
    "Identity": (0,),
    "Max": None,
    "MaxPool": (0,),
    "Min": None,
    "Pad": (0,),
    "Relu": (0,),
    "Reshape": (0,),
    "Resize": (0,),
    "Scatter": (0, 2),
    "ScatterElements": (0, 2),
    "Slice": (0,),
    "SpaceToDepth": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "TopK": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
    "Where": (1, 2),
}
"""Operators that leave multiples of a scale multiples of it, and the inputs that they move; None:
all. Whether the numbers are such multiples is checked besides."""

MAX_STEPS = 255
"""Largest multiple, in steps from zero."""


def on_grid(model: JudgedModel, name: str, value: Value) -> Value:
    """The multiples of a scale that dequantised numbers are, without their rounding to float32.

    Anything else is left as it is.
    """
    if value.dtype != np.float32 or value.error is not None:
        return value
    scales = _scales(model, name)
    if len(scales) != 1:
        return value
    (scale,) = scales
    multiples = np.rint(value.array / scale)
    exact = multiples * scale  # at most 9 and 24 significant bits
    rounded = exact.astype(np.float32).astype(np.float64)
    fits = bool(np.all(np.abs(multiples) <= MAX_STEPS)) and np.array_equal(rounded, value.array)
    return real_value(exact, value.dtype) if fits else value


def _scales(model: JudgedModel, name: str) -> set[float]:
    """Scales of the tensors that a tensor is put together from."""
    found: set[float] = set()
    open_names, seen = [name], set[str]()
    while open_names:
        name = open_names.pop()
        if name in seen or name not in model.producers:
            continue
        seen.add(name)
        node = model.nodes[model.producers[name]]
        scale = _own_scale(model, node)
        if scale is not None:
            found.add(scale)
        elif node.op_type == "Mul":  # by a mask
            open_names += node.inputs
        elif node.op_type in MOVED:
            positions = MOVED[node.op_type]
            open_names += [
                other
                for position, other in enumerate(node.inputs)
                if positions is None or position in positions
            ]
    return found


def _own_scale(model: JudgedModel, node: Node) -> float | None:
    """The scale by which a node dequantises; None if it does not."""
    if node.op_type == "DequantizeLinear":
        return _one_number(model, node.inputs[1])
    if node.op_type == "Mul":  # the last step of QONNX's Quant
        makers = [model.nodes[model.producers[n]] for n in node.inputs if n in model.producers]
        if any(maker.op_type in ("Sub", "Round") for maker in makers):
            return next(filter(None, (_one_number(model, n) for n in reversed(node.inputs))), None)
    return None


def _one_number(model: JudgedModel, name: str) -> float | None:
    """A constant of one float32 number, other than zero; None of anything else."""
    try:
        value = Evaluation(model, {}, Precision(float64=True)).run([name])[name]
    except JudgeError:
        return None
    single = value.array.size == 1 and value.dtype == np.float32 and value.error is None
    return float(value.array.item()) or None if single else None
