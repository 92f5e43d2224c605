"""Finds element-wise operators between two quantised tensors, and puts a table in their place.

Requires: a graph in topological order.
Ensures: `Table` stands only for nodes that act on every number alone, read one dequantised tensor
besides single constants, and end in a QuantizeLinear; simple functions keep their own rules.

Quantisers between the nodes are part of the table: they act on every number alone, too.
"""

from trencadis_compiler.importer.graph import TABLE, Graph, Node
from trencadis_compiler.passes.base.functions import FUNCTIONS
from trencadis_compiler.passes.base.scalar_functions import (
    ATTRIBUTES,
    ELEMENT_WISE,
)
from trencadis_compiler.passes.base.table_values import QUANTISERS

__all__ = ["fuse_tables"]

PLAIN = (*FUNCTIONS, "Identity", "MaxPool")
"""Operators that other rules take, one after the other."""

MAX_NODES = 64
"""Nodes of a table."""


def fuse_tables(graph: Graph) -> Graph:
    """The graph with `Table` operators; the same graph if there are none."""
    replaced: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear" and len(node.inputs) > 1:
            found = _region(graph, node)
            if found is not None:
                start, region = found
                replaced[node.outputs[0]] = Node(
                    op_type=TABLE,
                    name=node.name,
                    inputs=(start, *node.inputs[1:]),
                    outputs=node.outputs[:1],
                    attributes={"region": region, "last": node.inputs[0]},
                )
    if not replaced:
        return graph
    return graph.with_nodes(
        replaced.get(node.outputs[0], node) if node.outputs else node for node in graph.nodes
    )


def _region(graph: Graph, end: Node) -> tuple[str, tuple[Node, ...]] | None:
    """The tensor that element-wise nodes before a quantiser begin with, and the nodes."""
    found: set[Node] = set()
    starts: set[str] = set()
    wanted = [end.inputs[0]]
    seen = set(wanted)
    while wanted:
        name = wanted.pop()
        node = graph.producer(name)
        if node is None:
            return None
        if node.op_type == "DequantizeLinear" and not _between(graph, node):
            starts.add(name)
            continue
        if not _element_wise(graph, node) or len(found) == MAX_NODES:
            return None
        found.add(node)
        for read in node.inputs:
            if read and graph.constant(read) is None and read not in seen:
                seen.add(read)
                wanted.append(read)
    if len(starts) != 1 or all(node.op_type in PLAIN for node in found):
        return None
    (start,) = starts
    return start, tuple(node for node in graph.nodes if node in found)


def _between(graph: Graph, dequantise: Node) -> bool:
    """Tell whether a DequantizeLinear is of what an element-wise node before it gave."""
    quantise = graph.producer(dequantise.inputs[0])
    if quantise is None or quantise.op_type != "QuantizeLinear":
        return False
    before = graph.producer(quantise.inputs[0])
    return (
        before is not None
        and before.op_type not in QUANTISERS
        and _element_wise(graph, before)
        and _element_wise(graph, dequantise)
        and _element_wise(graph, quantise)
        # The activations of a layer, which are a start themselves.
        and not _affine(graph, before)
    )


def _affine(graph: Graph, node: Node) -> bool:
    """Tell whether a node only clips or shifts a layer's sums: these become keys of their own."""
    while node.op_type in (*PLAIN, "Add", "Sub", "Mul", "Div"):
        reads = [name for name in node.inputs if graph.constant(name) is None]
        before = graph.producer(reads[0]) if len(reads) == 1 else None
        if before is None or before.op_type == "DequantizeLinear":
            return False
        node = before
    return node.op_type not in ELEMENT_WISE


def _element_wise(graph: Graph, node: Node) -> bool:
    """Tell whether a node acts on every number alone, and says nothing that is not read."""
    constants = [graph.constant(name) for name in node.inputs if name]
    single = all(c is None or (c.size == 1 and c.dtype.kind in "fiu") for c in constants)
    if node.op_type in QUANTISERS:
        scale, *zero = node.inputs[1:] or ("",)
        known = all(name in graph.constants for name in (scale, *filter(None, zero)))
        return single and known and not set(node.attributes) - {"axis"}
    allowed = ATTRIBUTES.get(node.op_type, ())
    return single and node.op_type in ELEMENT_WISE and set(node.attributes) <= set(allowed)
