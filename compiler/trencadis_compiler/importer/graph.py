"""A plain operator graph: what the importer hands to the passes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir.network import TensorInfo
from trencadis_compiler.ir.sparse_constant import SparseConstant

__all__ = ["K_WINNERS", "QUANT", "TABLE", "Graph", "Node"]

K_WINNERS = "KWinners"
"""Operator that the pass `k_winners` puts in place of a k-WTA pattern: one input, one output,
attributes `axes` (of all parts of the pattern, which must be the same), `k` and `exact`."""

TABLE = "Table"
"""Operator that the pass `fuse_tables` puts in place of element-wise operators and the
QuantizeLinear after them: it has the inputs of the latter, but begins where the former do."""

QUANT = "Quant"
"""QONNX's quantiser, whatever domain it comes from."""


@dataclass(frozen=True, eq=False)
class Node:
    """An operator. Optional inputs that are left out have the name ""."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        kind = self.op_type if self.op_type.isprintable() else repr(self.op_type)
        return f"{kind} {self.name!r}"


@dataclass(frozen=True)
class Graph:
    """Operators in topological order, with their constants.

    `infos` tells shapes and types of tensors between operators, as far as they are known.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[Any] | SparseConstant]
    infos: Mapping[str, TensorInfo] = field(default_factory=dict)

    def producer(self, value: str) -> Node | None:
        """The node that computes a value, if one does."""
        return self._producers.get(value)

    def users(self, value: str) -> list[Node]:
        """The nodes that read a value."""
        return self._users.get(value, [])

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
        """The array of a value, if it is a constant."""
        found = self.constants.get(value)
        return None if found is None else np.asarray(found)

    @cached_property
    def _users(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs if output}
