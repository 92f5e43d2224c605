"""A plain operator graph: what the importer hands to the passes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir import TensorInfo

__all__ = ["K_WINNERS", "QUANT", "Graph", "Node"]

K_WINNERS = "KWinners"
"""Operator that the pass `k_winners` puts in place of a k-WTA pattern: one input, one output,
attributes `axes` (of all parts of the pattern, which must be the same), `k` and `exact`."""

QUANT = "Quant"
"""QONNX's quantiser, whatever domain it comes from."""


@dataclass(frozen=True)
class Node:
    """An operator. Optional inputs that are left out have the name ""."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.op_type} {self.name!r}"


@dataclass(frozen=True)
class Graph:
    """Operators in topological order, with their constants."""

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[Any]]

    def producer(self, value: str) -> Node | None:
        """The node that computes a value, if one does."""
        return self._producers.get(value)

    def users(self, value: str) -> list[Node]:
        """The nodes that read a value."""
        return [node for node in self.nodes if value in node.inputs]

    def with_nodes(self, nodes: Iterable[Node]) -> Self:
        """The graph with other nodes, of which those that nobody needs are left out."""
        nodes = list(nodes)
        needed = {output.name for output in self.outputs}
        kept = []
        for node in reversed(nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        return replace(self, nodes=tuple(reversed(kept)))

    def constant(self, value: str) -> npt.NDArray[Any] | None:
        """The array behind a value, if it is a constant."""
        found = self.constants.get(value)
        return None if found is None else np.asarray(found)

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs if output}
