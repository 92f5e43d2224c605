"""Cuts a graph into segments of the overlay and of the host.

Requires: the graph as the model has it, and chains of layers, each with the tensor that it makes.
Ensures: every output is made by a segment; each segment stands after those whose tensors it reads;
host segments are as few as a walk over the graph that takes whatever is ready finds.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from trencadis_compiler.errors import Unsupported
from trencadis_compiler.importer.graph import Graph, Node
from trencadis_compiler.passes.build_network import source_tensor
from trencadis_compiler.passes.grow_chains import Chain

__all__ = ["HostPart", "OverlayPart", "Part", "computed_nodes", "needed_chains", "partition"]


@dataclass(frozen=True)
class OverlayPart:
    """A chain of layers for the device, and the model's nodes that it computes."""

    chain: Chain
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class HostPart:
    """Nodes for the host, the tensors that they read from elsewhere, and those read of them."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reason: str


Part = OverlayPart | HostPart

BETWEEN = "beside nodes that the overlay cannot do"


def needed_chains(graph: Graph, chains: Mapping[str, Chain]) -> dict[str, Chain]:
    """The chains that outputs depend on, by the tensor that they make."""
    return _Slice(graph, chains).chains


def partition(
    graph: Graph, chains: Mapping[str, Chain], reasons: Mapping[str, Unsupported]
) -> tuple[Part, ...]:
    """Segments in an order in which they can run.

    Parameters
    ----------
    graph : Graph
        Graph as the model has it.
    chains : mapping of str to Chain
        Chains that the device holds, by the tensor that they make.
    reasons : mapping of str to Unsupported
        Why nodes are left to the host.
    """
    needed = _Slice(graph, chains)
    constant = _constant_nodes(graph)
    made = {*graph.constants, *(info.name for info in graph.inputs), ""}
    made.update(name for node in constant for name in node.outputs)
    nodes = [node for node in graph.nodes if node in needed.nodes and node not in constant]
    waiting = dict(needed.chains)
    order: list[list[Node] | Chain] = []
    while nodes or waiting:
        able = [name for name, chain in waiting.items() if source_tensor(chain.maps) in made]
        for name in able:
            order.append(waiting.pop(name))
            made.add(name)
        if able:
            continue  # the host waits, so that it has more to do at a time
        ready: list[Node] = []
        later: list[Node] = []
        for node in nodes:
            if made.issuperset(node.inputs):
                ready.append(node)
                made.update(node.outputs)
            else:
                later.append(node)
        nodes = later
        assert ready, "segments wait for each other"
        order.append(ready)
    return tuple(_part(graph, entry, order, reasons, constant) for entry in order)


class _Slice:
    """Needs of outputs: chains, and the nodes that no chain computes."""

    def __init__(self, graph: Graph, chains: Mapping[str, Chain]) -> None:
        self.chains: dict[str, Chain] = {}
        self.nodes: set[Node] = set()
        wanted = [info.name for info in graph.outputs]
        seen = {*graph.constants, *(info.name for info in graph.inputs), ""}
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            chain = chains.get(name)
            if chain is not None:
                self.chains[name] = chain
                wanted.append(source_tensor(chain.maps))
                continue
            node = graph.producer(name)
            assert node is not None, f"nothing makes {name!r}"
            self.nodes.add(node)
            wanted.extend(node.inputs)


def _part(
    graph: Graph,
    entry: list[Node] | Chain,
    order: Iterable[list[Node] | Chain],
    reasons: Mapping[str, Unsupported],
    constant: Collection[Node],
) -> Part:
    if isinstance(entry, Chain):
        return OverlayPart(entry, computed_nodes(graph, entry))
    entry_nodes = _with_constants(graph, entry, constant)
    mine = {name for node in entry_nodes for name in node.outputs if name}
    read = {info.name for info in graph.outputs}
    for other in order:
        if other is entry:
            continue
        if isinstance(other, Chain):
            read.add(source_tensor(other.maps))
        else:
            read.update(name for node in other for name in node.inputs)
    inputs = dict.fromkeys(
        name
        for node in entry_nodes
        for name in node.inputs
        if name and name not in mine and name not in graph.constants
    )
    texts = dict.fromkeys(str(reasons[node.name]) for node in entry if node.name in reasons)
    return HostPart(
        nodes=tuple(entry_nodes),
        inputs=tuple(inputs),
        outputs=tuple(name for node in entry for name in node.outputs if name in read and name),
        reason="; ".join(texts) or BETWEEN,
    )


def _constant_nodes(graph: Graph) -> set[Node]:
    """Nodes that compute the same whatever the inputs are, but for those of outputs.

    They go with whatever reads them: what they make, such as dequantised weights, may be large.
    """
    known = {*graph.constants, ""}
    outputs = {info.name for info in graph.outputs}
    found: set[Node] = set()
    for node in graph.nodes:
        random = node.op_type.startswith("Random") or not node.inputs
        if not random and known.issuperset(node.inputs) and outputs.isdisjoint(node.outputs):
            known.update(node.outputs)
            found.add(node)
    return found


def _with_constants(graph: Graph, nodes: list[Node], constant: Collection[Node]) -> list[Node]:
    """Nodes, after the constant ones that they need."""
    kept, wanted = set(nodes), list(nodes)
    while wanted:
        for name in wanted.pop().inputs:
            maker = graph.producer(name)
            if maker is not None and maker in constant and maker not in kept:
                kept.add(maker)
                wanted.append(maker)
    return [node for node in graph.nodes if node in kept]


def computed_nodes(graph: Graph, chain: Chain) -> tuple[Node, ...]:
    """The nodes between what a chain reads and what it makes, but those of constants."""
    start = source_tensor(chain.maps)
    depends = {start}
    wanted, found = [chain.tensor], set()
    seen = {*graph.constants, start}
    while wanted:
        name = wanted.pop()
        node = None if name in seen else graph.producer(name)
        seen.add(name)
        if node is not None:
            found.add(node)
            wanted.extend(node.inputs)
    computed = []
    for node in (node for node in graph.nodes if node in found):
        if depends.intersection(node.inputs):
            depends.update(node.outputs)
            computed.append(node)
    return tuple(computed)
