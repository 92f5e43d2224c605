"""Context of rules in a graph under way: states of tensors, and of their own node's inputs."""

from collections.abc import MutableMapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from trencadis_compiler.importer.graph import Graph, Node
from trencadis_compiler.passes.base.functions import table_of
from trencadis_compiler.passes.base.state import (
    ActivationMap,
    Array,
    Opaque,
    State,
    Unsupported,
)

__all__ = ["Context", "fraction", "resolved"]


class Context:
    """The states of a graph's tensors.

    Parameters
    ----------
    graph : Graph
        The graph.
    states : mapping of str to State
        States by tensor.
    """

    def __init__(self, graph: Graph, states: MutableMapping[str, State]) -> None:
        self.graph = graph
        self.states = states

    def state(self, node: Node, position: int) -> State:
        """The state of an input."""
        name = node.inputs[position] if position < len(node.inputs) else ""
        if not name:
            raise Unsupported(node, f"its input {position} is left out; export the model again")
        if name not in self.states:
            raise Unsupported(node, f"its input {name!r} is made by what the overlay cannot do")
        return self.states[name]

    def constant(self, node: Node, position: int) -> Array | None:
        """A constant input, None if it is left out."""
        if position >= len(node.inputs) or not node.inputs[position]:
            return None
        value = self.state(node, position)
        if not isinstance(value, np.ndarray):
            raise Unsupported(
                node,
                f"its input {node.inputs[position]!r} must be a constant; export the model with "
                "fixed sizes",
            )
        return value

    def map(self, node: Node, position: int = 0, *, views: bool = False) -> ActivationMap:
        """The activation map that a node reads; with `views`, it may be shown in another way."""
        value = self.state(node, position)
        if isinstance(value, Opaque):
            raise Unsupported(node, value.reason)
        if not isinstance(value, ActivationMap):
            raise Unsupported(
                node,
                f"its input {node.inputs[position]!r} is a constant, not an activation map",
            )
        if value.view is not None and not views:
            raise Unsupported(
                node,
                "its input is padded or cut out of a map, which convolutions and fully connected "
                "layers alone can read",
            )
        return value

    def layer_input(self, node: Node, *, views: bool = False) -> ActivationMap:
        """The map that a layer reads: keys that are complete."""
        source = resolved(self.map(node, views=views), str(node))
        if source.quantisation is None or source.integer:
            raise Unsupported(
                node,
                "its input is not quantised; quantise the model (QDQ), or give --calibration data "
                "to have that done",
            )
        return source


def resolved(source: ActivationMap, user: str) -> ActivationMap:
    """The map with functions that no quantisation follows put into its keys as they are.

    Raises
    ------
    Unsupported
        If they lead out of the keys.
    """
    if not source.functions:
        return source
    names = ", ".join(function.name for function in source.functions)
    if (
        source.quantisation is None
        or source.draft is None
        or not all(function.keeps for function in source.functions)
    ):
        raise Unsupported(user, f"{names} is not followed by a quantisation; quantise its output")
    table = table_of(source.functions, source.quantisation, source.quantisation)
    draft = replace(source.draft, table=tuple(table[key] for key in source.draft.table))
    return replace(source, draft=draft, functions=())


def fraction(number: Any) -> Fraction:
    """A number as it is, exactly."""
    return Fraction(float(number))
