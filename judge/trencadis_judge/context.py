"""Context of operators: what they are given besides their inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from trencadis_judge.errors import UnsupportedOperatorError
from trencadis_judge.node import Node
from trencadis_judge.values import Precision, Value

__all__ = [
    "Context",
    "Inputs",
    "Operator",
    "constant_integers",
    "integers_of",
    "refuse",
    "required",
]

Inputs = Sequence[Value | None]
Result = Value | tuple[Value, ...]


@dataclass(frozen=True)
class Context:
    """Circumstances of a node's evaluation.

    Attributes
    ----------
    precision : Precision
        Arithmetic whose errors are bounded.
    exact : callable
        Called with a tensor's name and an element's index: its exact number. Raises
        `UnsupportedOperatorError` where there is none to be had.
    """

    precision: Precision
    exact: Callable[[str, tuple[int, ...]], Fraction]


Operator = Callable[[Context, Node, Inputs], Result]


def refuse(node: Node, reason: str) -> UnsupportedOperatorError:
    """Make the error for a form of an operator that is not evaluated."""
    return UnsupportedOperatorError(f"{node}: {reason}; it cannot be judged")


def required(node: Node, inputs: Inputs, position: int) -> Value:
    """Return an input that may not be left out."""
    value = inputs[position] if position < len(inputs) else None
    if value is None:
        raise refuse(node, f"input {position} is left out")
    return value


def integers_of(node: Node, value: Value) -> list[int]:
    """Elements of an exact tensor of integers."""
    if value.error is not None or value.array.dtype != np.int64:
        raise refuse(node, "sizes or axes are not integers")
    return [int(number) for number in np.ravel(value.array)]


def constant_integers(
    node: Node, inputs: Inputs, position: int, name: str, default: Any = None
) -> list[int] | None:
    """Integers that newer opsets give as an input and older ones as an attribute."""
    if position < len(inputs):
        value = inputs[position]
        if value is not None:
            return integers_of(node, value)
    given = node.attributes.get(name)
    if given is None:
        return default
    return [int(number) for number in np.ravel(given)]
