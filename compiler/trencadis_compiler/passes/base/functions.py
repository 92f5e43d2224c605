"""Activation functions of one number, and the tables of keys they become."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from trencadis_compiler.errors import Unsupported
from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.network import Quantisation
from trencadis_format.widths import KEY_BITS

__all__ = ["FUNCTIONS", "MAX_KEY", "PLAIN", "Function", "function_of", "table_of"]

MAX_KEY = (1 << KEY_BITS) - 1

PLAIN = tuple(range(MAX_KEY + 1))
"""The table that changes nothing."""

FUNCTIONS = ("Clip", "LeakyRelu", "Relu", "Sigmoid", "Tanh")


@dataclass(frozen=True)
class Function:
    """Functions of activations between dequantising and quantising.

    Attributes
    ----------
    name : str
        Name of the node.
    apply : callable
        The function, on exact numbers.
    clips : bool
        It only limits its argument, so that it may as well be applied to rounded numbers.
    keeps : bool
        It limits its argument to zero at most, which every quantisation has a key for.
    decreases : bool
        It decreases somewhere, so that it may not be exchanged with a maximum.
    """

    name: str
    apply: Callable[[Fraction], Fraction]
    clips: bool
    keeps: bool
    decreases: bool = False


def function_of(node: Node, low: float, high: float) -> Function:
    """The function that a node applies; `low` and `high` are the bounds of a Clip.

    Raises
    ------
    Unsupported
        If the bounds of a Clip are none.
    """
    name = str(node)
    if node.op_type == "Relu":
        return Function(name, lambda x: max(x, Fraction(0)), clips=True, keeps=True)
    if node.op_type == "Clip":
        if math.isnan(low) or math.isnan(high) or low > high:
            raise Unsupported(node, f"clips to {low}..{high}; export the model again")

        def clip(x: Fraction) -> Fraction:
            x = x if low == -math.inf else max(x, Fraction(low))
            return x if high == math.inf else min(x, Fraction(high))

        keeps = low in (0.0, -math.inf) and high == math.inf
        return Function(name, clip, clips=True, keeps=keeps)
    if node.op_type == "LeakyRelu":
        slope = Fraction(float(np.float32(node.attributes.get("alpha", 0.01))))
        return Function(
            name,
            lambda x: x if x > 0 else x * slope,
            clips=False,
            keeps=False,
            decreases=slope < 0,
        )
    functions: dict[str, Callable[[float], float]] = {
        "Sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0,
        "Tanh": math.tanh,
    }
    function = functions[node.op_type]
    return Function(name, lambda x: Fraction(function(float(x))), clips=False, keeps=False)


def table_of(
    functions: Sequence[Function], before: Quantisation, after: Quantisation
) -> tuple[int, ...]:
    """Keys of `after` for all keys of `before`, with functions applied in between."""
    table = []
    for key in range(MAX_KEY + 1):
        real = (key - before.zero_key) * before.exact_scale
        for function in functions:
            real = function.apply(real)
        rounded = round(real / after.exact_scale) + after.zero_key
        table.append(min(max(rounded, 0), MAX_KEY))
    return tuple(table)
