"""Grows chains of layers through an operator graph, as far as the overlay can compute.

Requires: a graph in topological order.
Ensures: every chain starts at a tensor from outside and ends at one that a device can hold; between
them every map has one reader. What no chain reaches is left to the host, each node with its reason.

The graph is walked in order. A map that several nodes read, or that leaves the model, ends its
chain, and starts one for each of its readers. A node whose rule refuses ends the chains that it
reads at the last tensor that a device can hold.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from trencadis_compiler.errors import Unsupported
from trencadis_compiler.importer.graph import TABLE, Graph, Node
from trencadis_compiler.ir.network import Quantisation, TensorInfo
from trencadis_compiler.passes.base.context import Context, resolved
from trencadis_compiler.passes.base.operator import check_node
from trencadis_compiler.passes.base.state import AXES, ActivationMap, Opaque, State
from trencadis_compiler.passes.build_network import tensor_of
from trencadis_compiler.passes.operators import OPERATORS
from trencadis_compiler.passes.rules.quantisers import REAL

__all__ = ["Chain", "Growth", "grow_chains"]

BYTES = ("int8", "uint8")

MOVING = {
    "Concat": None,
    **dict.fromkeys(("DepthToSpace", "Expand", "Flatten", "Gather", "MaxPool"), 1),
    **dict.fromkeys(("Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze"), 1),
    **dict.fromkeys(("Tile", "Transpose", "Unsqueeze"), 1),
}
"""Operators that make no other numbers than they read, and from how many of their inputs."""


@dataclass(frozen=True)
class Chain:
    """Maps of one layer each, every one read by the next; the last one is what is held."""

    maps: tuple[ActivationMap, ...]

    @property
    def tensor(self) -> str:
        """The tensor that the chain makes."""
        return self.maps[-1].tensor


@dataclass(frozen=True)
class Growth:
    """Result of the walk.

    Attributes
    ----------
    chains : mapping of str to Chain
        Chains by the tensor that they make.
    reasons : mapping of str to Unsupported
        Why nodes are not part of any chain, by the node's name, in the graph's order.
    """

    chains: Mapping[str, Chain]
    reasons: Mapping[str, Unsupported]


def grow_chains(graph: Graph, on_host: Collection[str] = ()) -> Growth:
    """Find the chains of a graph.

    Parameters
    ----------
    graph : Graph
        The graph.
    on_host : collection of str
        Names of nodes that are to be left to the host.
    """
    return _Walk(graph, on_host).run()


class _Walk:
    def __init__(self, graph: Graph, on_host: Collection[str]) -> None:
        self._graph = graph
        self._on_host = on_host
        self._states: dict[str, State] = dict(graph.constants)
        self._context = Context(graph, self._states)
        self._chains: dict[str, Chain] = {}
        self._reasons: dict[str, Unsupported] = {}
        self._outputs = {info.name for info in graph.outputs}
        self._fixed = {*graph.constants, ""}

    def run(self) -> Growth:
        for info in self._graph.inputs:
            self._states[info.name] = _outside(info)
        for node in self._graph.nodes:
            if self._fixed.issuperset(node.inputs):
                self._fixed.update(node.outputs)
            try:
                made = self._lowered(node)
                several = made if isinstance(made, tuple) else (made,)
                # Of an operator with one output the others are not used.
                for name, state in zip(node.outputs, several, strict=False):
                    self._states[name] = self._kept(node, name, state)
            except Unsupported as reason:
                self._leave_to_host(node, reason)
        return Growth(self._chains, self._reasons)

    def _lowered(self, node: Node) -> State | tuple[State, ...]:
        """Apply a node's rule to its inputs."""
        operator = OPERATORS.get(node.op_type)
        if operator is None:
            raise Unsupported(node, "the overlay has no such operator")
        if node.name in self._on_host:
            raise Unsupported(node, "placed on the host by --place")
        for name in node.outputs[operator.outputs :]:
            if name and (self._graph.users(name) or name in self._outputs):
                raise Unsupported(node, "only its first output may be used")
        check_node(operator, node)
        return operator.lower(self._context, node)

    def _kept(self, node: Node, name: str, made: State) -> State:
        """The state of a node's output: of a map, with what ends there."""
        if not isinstance(made, ActivationMap):
            if name in self._outputs:
                return self._outside_of(name)
            return made
        before = self._states.get(node.inputs[0]) if node.inputs else None
        dequantised = (
            node.op_type == "DequantizeLinear"
            and isinstance(before, ActivationMap)
            and before.draft is not None
        )
        self._check_shape(node, name, made)
        made = replace(
            made,
            tensor=name,
            held=None,
            integers=before if dequantised and isinstance(before, ActivationMap) else None,
        )
        if made.draft is None:
            return made
        made = replace(made, held=_holdable(made) or self._held_before(node))
        # A Shape is folded: it reads no activations.
        readers = sum(
            # What is split is read for each part.
            len(user.outputs) if user.op_type == "Split" else 1
            for user in self._graph.users(name)
            if user.op_type != "Shape"
        )
        if readers <= 1 and name not in self._outputs:
            return made
        if name not in self._outputs and made.integers is not None:
            held = made.integers
        else:
            held = _holdable(made)
        if held is None:
            return self._unfinished(node, made)
        self._add(held)
        source = tensor_of(held)
        if len(held.shape) not in AXES:
            return Opaque(f"{name!r} has shape {list(source.shape)}; maps have up to three axes")
        fresh = ActivationMap.fresh(source, held.shape)
        return replace(fresh, tensor=name, quantisation=held.quantisation, integer=made.integer)

    def _check_shape(self, node: Node, name: str, made: ActivationMap) -> None:
        """Tell whether a map has the shape that its tensor has."""
        info = self._graph.infos.get(name)
        known = made.shape if info is None else info.shape[1:]
        if len(known) != len(made.shape) or any(
            size not in (None, have) for size, have in zip(known, made.shape, strict=True)
        ):
            raise Unsupported(
                node,
                f"it makes a tensor of shape {list(known)} per sample where the overlay would make "
                f"{list(made.shape)}",
            )

    def _held_before(self, node: Node) -> ActivationMap | None:
        """Find what could be held of the map that a node reads."""
        for name in node.inputs:
            state = self._states.get(name)
            if isinstance(state, ActivationMap) and state.draft is not None:
                return state.held
        return None

    def _unfinished(self, node: Node, made: ActivationMap) -> State:
        """End a chain before a node whose output no device can hold."""
        try:
            resolved(made, str(node))
        except Unsupported as reason:
            self._reasons[node.name] = reason
        self._end(made)
        return self._outside_of(made.tensor)

    def _leave_to_host(self, node: Node, reason: Unsupported) -> None:
        self._reasons[node.name] = reason
        kept, graph = self._kept_quantisation(node), self._graph
        for name in node.inputs:
            state = self._states.get(name)
            if isinstance(state, ActivationMap) and state.draft is not None:
                self._end(state)
        for name in node.outputs:
            if name:
                outside = self._outside_of(name)
                anew = any(user.op_type in (TABLE, "QuantizeLinear") for user in graph.users(name))
                if isinstance(outside, ActivationMap) and not anew:
                    outside = replace(outside, quantisation=kept)
                self._states[name] = outside

    def _kept_quantisation(self, node: Node) -> Quantisation | None:
        """The quantisation of what a node makes, if it only moves quantised numbers about."""
        if node.op_type not in MOVING or (
            node.op_type == "Resize" and node.attributes.get("mode", "nearest") != "nearest"
        ):
            return None
        maps = [self._states.get(name) for name in node.inputs[: MOVING[node.op_type]]]
        found = {
            (state.quantisation, state.integer) if isinstance(state, ActivationMap) else None
            for state in maps
        }
        pending = any(isinstance(state, ActivationMap) and state.functions for state in maps)
        if len(found) != 1 or pending:
            return None
        quantisation, integer = found.pop() or (None, False)
        # The host's numbers are float32: those of other scales are no longer exact.
        exact = quantisation is not None and not integer and quantisation.exact_in_float32
        return quantisation if exact else None

    def _end(self, state: ActivationMap) -> None:
        """End a chain where it could last be held."""
        if state.held is not None:
            self._add(state.held)

    def _add(self, held: ActivationMap) -> None:
        maps = []
        walked: ActivationMap | None = held
        while walked is not None and walked.draft is not None:
            maps.append(walked)
            walked = walked.draft.reads
        self._chains[held.tensor] = Chain(tuple(reversed(maps)))

    def _outside_of(self, name: str) -> State:
        """The state of a tensor that the host makes."""
        info = self._graph.infos.get(name)
        if info is None:
            return Opaque(f"the shape of {name!r} is not known; export the model with fixed sizes")
        if name in self._fixed:
            return Opaque(f"{name!r} depends on constants alone")
        return _outside(info)


def _outside(info: TensorInfo) -> State:
    """The state of a tensor from outside."""
    sizes = [size for size in info.shape[1:] if size is not None]
    if len(sizes) != len(info.shape) - 1 or len(sizes) not in AXES or min(sizes) < 1:
        return Opaque(
            f"its input {info.name!r} has shape {list(info.shape)}; it needs a batch axis and one "
            "to three axes of fixed size: export the model with fixed sizes"
        )
    if info.dtype not in REAL + BYTES:
        return Opaque(
            f"its input {info.name!r} is {info.dtype}; the overlay takes "
            f"{', '.join(REAL + BYTES)}: convert it on the host"
        )
    return ActivationMap.fresh(info, sizes)


def _holdable(made: ActivationMap) -> ActivationMap | None:
    """The map as a device can hold it, if it can."""
    if made.draft is None or made.view is not None:
        return None
    try:
        return resolved(made, made.tensor)
    except Unsupported:
        return None
