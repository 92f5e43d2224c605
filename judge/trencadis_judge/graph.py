"""A model file as the judge reads it: the protobuf itself, sorted, with functions written out."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import inliner

from trencadis_judge.errors import JudgeError
from trencadis_judge.expansion import expand
from trencadis_judge.lowering import is_qonnx, lower_qonnx
from trencadis_judge.node import (
    STANDARD_DOMAINS,
    Node,
    outer_names,
    proto_reads,
    read_array,
    read_attributes,
)
from trencadis_judge.sparse import SparseMatrix, sparse_matrix

__all__ = ["JudgedModel", "TensorType", "load_model"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorType:
    """Name, sizes (None where open) and type of an input or output; None for what is no tensor."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any] | None


class JudgedModel:
    """A model file, ready to be evaluated.

    Parameters
    ----------
    proto : ModelProto
        The model, with its data inside.

    Raises
    ------
    JudgeError
        If its nodes cannot be put in order, or a tensor is made twice.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        if is_qonnx(proto):
            proto = lower_qonnx(proto)
        if proto.functions:
            proto = inliner.inline_local_functions(proto)
        self.proto = proto
        graph = proto.graph
        self.versions = {entry.domain: entry.version for entry in proto.opset_import}
        if "ai.onnx" in self.versions:
            self.versions.setdefault("", self.versions["ai.onnx"])
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse_initializers = {
            tensor.values.name: tensor for tensor in graph.sparse_initializer
        }
        known = {*self.initializers, *self.sparse_initializers}
        self.inputs = tuple(_type(info) for info in graph.input if info.name not in known)
        self.outputs = tuple(_type(info) for info in graph.output)
        self._constants: dict[str, Array] = {}
        self.nodes = _sorted(
            list(self._read(graph.node)), {"", *known, *(info.name for info in self.inputs)}
        )
        self.producers = {
            name: number for number, node in enumerate(self.nodes) for name in node.outputs if name
        }

    def known(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Those of some tensors that the model has.

        A compiler that writes operators out may hold tensors between, which no file names; nodes
        are then judged together up to the next tensor that the file has.
        """
        names = {*self.producers, *(info.name for info in self.inputs)}
        return {name: array for name, array in values.items() if name in names}

    def _read(self, protos: Iterable[onnx.NodeProto]) -> Iterator[Node]:
        """Nodes of the file, those that stand for others written out."""
        for number, proto in enumerate(protos):
            node = self.node(proto, number)
            expansion = expand(node)
            if expansion is None:
                yield node
            else:
                self._constants.update(expansion.constants)
                yield from expansion.nodes

    def node(self, proto: onnx.NodeProto, number: int) -> Node:
        """Read a node."""
        standard = proto.domain in STANDARD_DOMAINS
        return Node(
            op_type=proto.op_type if standard else f"{proto.domain}.{proto.op_type}",
            name=proto.name or f"{proto.op_type}_{number}",
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes=dict(read_attributes(proto.attribute)),
            version=self.versions.get("" if standard else proto.domain, 1),
            proto=proto,
        )

    def constant(self, name: str) -> Array | SparseMatrix | None:
        """An initialiser's elements, or None if there is none of this name."""
        if name in self._constants:
            return self._constants[name]
        if name in self.initializers:
            array = self._constants[name] = read_array(self.initializers[name])
            return array
        if name in self.sparse_initializers:
            return sparse_matrix(self.sparse_initializers[name])
        return None

    def sparse_constant(self, name: str) -> SparseMatrix | None:
        """A matrix that the file stores as its non-zeros; None if there is none of this name."""
        tensor = self.sparse_initializers.get(name)
        return None if tensor is None or len(tensor.dims) != 2 else sparse_matrix(tensor)

    def cone(self, targets: Iterable[str], held: Iterable[str]) -> list[int]:
        """Numbers of the nodes between held tensors and targets, in order."""
        given, seen = set(held), set[int]()
        waiting = [self.producers[name] for name in targets if name in self.producers]
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            waiting.extend(
                self.producers[name]
                for name in self.reads(self.nodes[number])
                if name not in given and name in self.producers
            )
        return sorted(seen)

    def reads(self, node: Node) -> tuple[str, ...]:
        """Tensors that a node reads, those of its inner graphs included."""
        if not any(isinstance(value, onnx.GraphProto) for value in node.attributes.values()):
            return tuple(dict.fromkeys(name for name in node.inputs if name))
        return proto_reads(node.proto)


def load_model(source: Path | str | bytes | onnx.ModelProto) -> JudgedModel:
    """Read a model file.

    Parameters
    ----------
    source : path, bytes or ModelProto
        The file; data outside of it is read from its own folder.

    Raises
    ------
    JudgeError
        If it is not an ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        return JudgedModel(source)
    try:
        if isinstance(source, bytes):
            proto = onnx.load_model_from_string(source)
        else:
            proto = onnx.load(str(source))
    except Exception as error:
        # protobuf and onnx raise whatever they come across in a damaged file.
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        name = "the model" if isinstance(source, bytes) else str(source)
        raise JudgeError(f"{name}: not an ONNX model ({reason}); export it again") from error
    return JudgedModel(proto)


def _sorted(nodes: list[Node], known: set[str]) -> tuple[Node, ...]:
    """Nodes, every tensor made before it is read; in the file's order where that is so."""
    makers: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for name in node.outputs:
            if name and (name in makers or name in known):
                raise JudgeError(f"{node}: makes {name!r}, which is made before; export it again")
            if name:
                makers[name] = number
    readers: dict[int, list[int]] = {}
    missing = [0] * len(nodes)
    for number, node in enumerate(nodes):
        names = {name for name in node.inputs if name}
        for value in node.attributes.values():
            if isinstance(value, onnx.GraphProto):
                names.update(outer_names(value))
        for name in names - known:
            if "\0" in name and name not in makers:
                continue
            if name not in makers:
                raise JudgeError(f"{node}: reads {name!r}, which nothing makes; export it again")
            readers.setdefault(makers[name], []).append(number)
            missing[number] += 1
    ready = [number for number, count in enumerate(missing) if not count]
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(nodes[number])
        for reader in readers.get(number, ()):
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise JudgeError("the model's nodes read one another in a circle; export it again")
    return tuple(order)


def _type(info: onnx.ValueInfoProto) -> TensorType:
    tensor = info.type.tensor_type
    if info.type.WhichOneof("value") != "tensor_type" or not tensor.elem_type:
        return TensorType(info.name, None, None)
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            dim.dim_value if dim.WhichOneof("value") == "dim_value" else None
            for dim in tensor.shape.dim
        )
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return TensorType(info.name, shape, dtype)
