"""Choice of the tensors of a float model that are quantised, and of the weights."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import onnx

from trencadis_compiler.importer.reading.draft import Draft, attributes_of, reads

__all__ = ["OUTPUT", "FloatPlan", "candidates", "is_linear", "plan_quantisers"]

OUTPUT = "/output"
"""Added to a layer's name: the quantiser of its output, where that goes to the host."""

UNARY = frozenset(
    (
        "Abs",
        "Celu",
        "Clip",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "Selu",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    )
)
"""Functions of one number."""

BINARY = frozenset(
    (
        "Add",
        "Div",
        "Max",
        "Min",
        "Mul",
        "Pow",
        "Sub",
    )
)

DIRECT = frozenset(
    (
        "Flatten",
        "MaxPool",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
"""Operators whose outputs are some of their inputs' numbers: quantised alike."""

AVERAGING = frozenset(
    (
        "AveragePool",
        "GlobalAveragePool",
        "ReduceMean",
        "Resize",
    )
)

JOINING = frozenset(
    (
        "Add",
        "Concat",
        "Mul",
        "Sub",
    )
)
"""Operators on two maps that the device may come to run."""


@dataclass(frozen=True)
class FloatPlan:
    """Tensors and weights that are quantised.

    Attributes
    ----------
    linear : tuple of str
        Names of the nodes whose weights are quantised.
    tensors : mapping of str to str
        Each quantised tensor, and the one whose scale it has: mostly itself.
    readers : frozenset of str
        Names of the nodes that read the quantised numbers of their inputs, whoever made them.
    to_host : mapping of str to str
        Layers whose outputs only the host reads, and the tensors that these are.
    held : frozenset of str
        The quantised tensors that are made of quantised ones: all that read them read these, as
        there are no others.
    """

    linear: tuple[str, ...]
    tensors: Mapping[str, str]
    readers: frozenset[str]
    held: frozenset[str]
    to_host: Mapping[str, str]


def is_linear(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Tell whether a node multiplies a map by constant weights."""
    if node.domain or len(node.input) < 2:
        return False
    weights = constants.get(node.input[1])
    if weights is None or weights.data_type != onnx.TensorProto.FLOAT:
        return False
    if any(name and name not in constants for name in node.input[2:]):
        return False
    if node.input[0] in constants:
        return False
    if node.op_type == "Gemm":
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        return not attributes_of(node).get("transA", 0) and (bias is None or len(bias.dims) == 1)
    return node.op_type == "Conv" or (node.op_type == "MatMul" and len(weights.dims) == 2)


def candidates(draft: Draft) -> list[str]:
    """Names of the nodes that may be kept in float, in order."""
    constants = draft.initialisers()
    kinds = AVERAGING | JOINING
    return [
        node.name
        for node in draft.graph.node
        if is_linear(node, constants) or (node.op_type in kinds and not node.domain)
    ]


def plan_quantisers(draft: Draft, kept: Iterable[str], bounded: Collection[str]) -> FloatPlan:
    """Decide what is quantised: inputs and outputs of layers, and of what lies between them.

    A layer's output is quantised after its bias and its ReLU or Clip, a chain of functions of one
    map at its end only, and the model's outputs are not, from the last layer on.

    Parameters
    ----------
    draft : Draft
        A float model with shapes inferred; each node has a name of its own.
    kept : iterable of str
        Names of nodes that stay in float, and names of layers with `OUTPUT` whose outputs do.
    bounded : collection of str
        Tensors that have a range; the others are not quantised.
    """
    return _Planner(draft, frozenset(kept), bounded).plan()


class _Planner:
    def __init__(self, draft: Draft, kept: frozenset[str], bounded: Collection[str]) -> None:
        self._nodes = list(draft.graph.node)
        self._kept = kept
        self._constants = draft.initialisers()
        self._readers = draft.readers()
        self._outputs = draft.outputs()
        self._floats = {
            value.name
            for value in (*draft.graph.input, *draft.graph.value_info, *draft.graph.output)
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name in bounded
        }
        self._source: dict[str, str] = {}
        self._tensors: dict[str, str] = {}
        self._linear: list[str] = []
        self._quantising: set[str] = set()
        self._held: set[str] = set()
        self._to_host: dict[str, str] = {}

    def plan(self) -> FloatPlan:
        before_layer = self._leading_to_layers()
        for node in self._nodes:
            self._note_source(node)
            if node.name in self._kept:
                continue
            if is_linear(node, self._constants):
                if node.input[0] not in self._floats:
                    continue  # an operator of another domain made it, of a type that is not known
                self._linear.append(node.name)
                self._quantising.add(node.name)
                self._want(node.input[0])
                end = self._end(node.output[0])
                if end in before_layer:
                    self._hold_end(node, end)
            elif not node.domain and node.output[0] in before_layer:
                self._visit(node)
        return FloatPlan(
            tuple(self._linear),
            dict(self._tensors),
            frozenset(self._quantising),
            frozenset(self._held),
            dict(self._to_host),
        )

    def _hold_end(self, node: onnx.NodeProto, end: str) -> None:
        """Quantise a layer's output, unless it goes to the host and is to stay in float."""
        if not any(self._may_quantise(reader) for reader in self._readers.get(end, [])):
            self._to_host[node.name] = end
            if f"{node.name}{OUTPUT}" in self._kept:
                return
        self._hold(end)

    def _visit(self, node: onnx.NodeProto) -> None:
        maps = [name for name in node.input if name and name not in self._constants]
        if not maps or not all(self._comes_quantised(name) for name in maps):
            return
        if node.op_type in DIRECT and len(maps) == 1 and self._is_direct(node):
            self._take(node, maps)
            for name in node.output:
                self._hold(name, like=maps[0])
        elif node.op_type in AVERAGING and len(maps) == 1:
            self._take(node, maps)
            self._hold(self._end(node.output[0]))
        elif node.op_type in JOINING and len({self._source.get(m, m) for m in maps}) > 1:
            end = self._end(node.output[0])
            if any(self._may_quantise(reader) for reader in self._readers.get(end, [])):
                self._take(node, maps)
                self._hold(end)

    def _may_quantise(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node is one that the device may run."""
        kinds = DIRECT | AVERAGING | JOINING | UNARY | BINARY
        return not node.domain and (node.op_type in kinds or is_linear(node, self._constants))

    def _take(self, node: onnx.NodeProto, maps: Iterable[str]) -> None:
        """Let a node read quantised numbers."""
        self._quantising.add(node.name)
        for name in maps:
            self._want(name)

    def _hold(self, name: str, like: str | None = None) -> None:
        """Quantise what is made of quantised numbers."""
        self._want(name, like)
        if name in self._tensors:
            self._held.add(name)

    def _is_direct(self, node: onnx.NodeProto) -> bool:
        """Tell whether a Pad fills with zeros, which every scale has."""
        if node.op_type != "Pad" or attributes_of(node).get("mode", b"constant") != b"constant":
            return True
        value = self._constants.get(node.input[2]) if len(node.input) > 2 else None
        return value is None or not any(onnx.numpy_helper.to_array(value).reshape(-1))

    def _comes_quantised(self, name: str) -> bool:
        return self._source.get(name, name) in self._tensors or name in self._tensors

    def _want(self, name: str, like: str | None = None) -> None:
        if name in self._floats and name not in self._tensors:
            self._tensors[name] = self._tensors.get(like, like) if like else name

    def _end(self, name: str) -> str:
        """The tensor after a layer's bias, and its ReLU or Clip."""
        for kinds in (("Add",), ("Relu", "Clip")):
            readers = self._readers.get(name, [])
            if len(readers) != 1 or name in self._outputs or readers[0].op_type not in kinds:
                continue
            rest = [n for n in readers[0].input if n and n != name]
            if all(other in self._constants for other in rest):
                name = readers[0].output[0]
        return name

    def _note_source(self, node: onnx.NodeProto) -> None:
        """Note the one map that a chain of functions is of."""
        if node.domain or node.op_type not in UNARY | BINARY or not node.output:
            return
        maps = {name for name in node.input if name and name not in self._constants}
        sources = {name if name in self._tensors else self._source.get(name, name) for name in maps}
        if len(sources) == 1 and all(self._small(n) for n in node.input if n in self._constants):
            self._source[node.output[0]] = sources.pop()

    def _small(self, name: str) -> bool:
        """Tell whether a constant is one number."""
        size = 1
        for dim in self._constants[name].dims:
            size *= dim
        return size == 1

    def _leading_to_layers(self) -> set[str]:
        """Tensors from which a layer is reached."""
        found: set[str] = set()
        for node in reversed(self._nodes):
            if is_linear(node, self._constants) or found.intersection(node.output):
                found |= reads(node)
        return found
