"""Tables of operators: the attributes, inputs and outputs that are accepted, with their meaning.

Nothing is read by default: an attribute, an input or an output that the table of an operator does
not list sends the node to the host.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.state import State, Unsupported

__all__ = [
    "Attribute",
    "Operator",
    "array",
    "check_node",
    "check_table",
    "integer",
    "integers",
    "real",
    "text",
]


@dataclass(frozen=True)
class Attribute:
    """An attribute that is accepted.

    Attributes
    ----------
    kind : str
        What it must be made of.
    fits : callable
        Whether a value is of that kind.
    allowed : tuple
        The values that are accepted; empty for all of the kind.
    otherwise : str
        What other values would mean.
    """

    kind: str
    fits: Callable[[Any], bool]
    allowed: tuple[Any, ...] = ()
    otherwise: str = ""


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def integer(*allowed: int, otherwise: str = "") -> Attribute:
    """A whole number."""
    return Attribute("a whole number", _whole, allowed, otherwise)


def real() -> Attribute:
    """A real number."""
    return Attribute("a number", lambda value: _whole(value) or isinstance(value, float))


def integers() -> Attribute:
    """A list of whole numbers."""
    return Attribute(
        "a list of whole numbers",
        lambda value: isinstance(value, (list, tuple)) and all(map(_whole, value)),
    )


def text(*allowed: str, otherwise: str = "") -> Attribute:
    """A string."""
    return Attribute("a string", lambda value: isinstance(value, str), allowed, otherwise)


def array() -> Attribute:
    """A tensor."""
    return Attribute("a tensor", lambda value: isinstance(value, np.ndarray))


@dataclass(frozen=True)
class Operator:
    """An operator that the overlay can compute, or that is folded.

    Attributes
    ----------
    lower : callable
        The rule: what a node makes of the states of its inputs, of several outputs one for each.
    inputs : (int, int)
        Fewest and most inputs.
    attributes : mapping
        Those that are accepted, all that are not given having their defaults of the standard.
    outputs : int
        Outputs that may be used.
    """

    lower: Callable[[Context, Node], State | tuple[State, ...]]
    inputs: tuple[int, int]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    outputs: int = 1


def check_node(operator: Operator, node: Node) -> None:
    """Check a node against its operator's table.

    Raises
    ------
    Unsupported
        Naming what is not accepted.
    """
    check_table(node, operator.inputs, operator.attributes)


def check_table(node: Node, inputs: tuple[int, int], attributes: Mapping[str, Attribute]) -> None:
    """Check a node against how many inputs and which attributes are accepted.

    Raises
    ------
    Unsupported
        Naming what is not accepted.
    """
    fewest, most = inputs
    given = len(node.inputs)
    if not fewest <= given <= most or not all(node.inputs[:fewest]):
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise Unsupported(
            node,
            f"it has {sum(map(bool, node.inputs))} inputs; the overlay takes {wanted}: export the "
            "model again",
        )
    for name, value in node.attributes.items():
        known = attributes.get(name)
        if known is None:
            raise Unsupported(
                node,
                f"its attribute {name} ({_shown(value)}) is none that the overlay knows; leave it "
                "out, or run the node on the host",
            )
        if not known.fits(value):
            raise Unsupported(
                node,
                f"its attribute {name} is {_shown(value)}, not {known.kind}; export the model "
                "again",
            )
        if known.allowed and value not in known.allowed:
            choices = " or ".join(map(repr, known.allowed))
            why = f": {known.otherwise}" if known.otherwise else ""
            raise Unsupported(node, f"its attribute {name} is {_shown(value)}, not {choices}{why}")


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
