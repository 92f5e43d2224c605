"""The nodes of a model as a report draws them: what each reads, and where it runs."""

from collections.abc import Sequence
from typing import Any

from trencadis_compiler.importer.graph import Graph
from trencadis_format.compiled import Segment

__all__ = ["drawn_nodes"]

FORMATS = frozenset(("QuantizeLinear", "DequantizeLinear"))
"""Operators between which edges are drawn through: every tensor of a quantised model has some."""


def drawn_nodes(graph: Graph, segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """Nodes in the order of execution, JSON-ready.

    Returns
    -------
    list of dict
        `name`, `op`, the number of its `segment`, and what it `reads`, as numbers in this list.
    """
    place = {name: number for number, segment in enumerate(segments) for name in segment.nodes}
    # Segments run one after the other, and nodes of a graph are sorted.
    nodes = sorted(
        (node for node in graph.nodes if node.name in place), key=lambda node: place[node.name]
    )
    made_by: dict[str, tuple[int, ...]] = {}
    rows: list[dict[str, Any]] = []
    for node in nodes:
        sources = [index for name in node.inputs for index in made_by.get(name, ())]
        reads = tuple(dict.fromkeys(sources))
        if node.op_type not in FORMATS:
            segment = place[node.name]
            rows.append(
                {"name": node.name, "op": node.op_type, "segment": segment, "reads": list(reads)}
            )
            reads = (len(rows) - 1,)
        made_by |= dict.fromkeys(node.outputs, reads)
    return rows
