"""A model on its way to the standard form: what the steps read and change."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from trencadis_compiler.errors import CompileError

__all__ = ["LARGE_TENSOR", "Draft", "attributes_of", "described", "reads", "subgraphs"]

Array = npt.NDArray[Any]

LARGE_TENSOR = 1 << 14
"""Bytes of a constant above which no step needs its values to know shapes."""


def described(node: onnx.NodeProto) -> str:
    """A node as messages name it: its operator and its name, or that of its first output."""
    name = node.name or next((output for output in node.output if output), "")
    return f"{node.op_type} {name!r}"


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


class Draft:
    """A model that steps change in place.

    Parameters
    ----------
    model : ModelProto
        The model; it belongs to the draft from now on.
    path : Path
        The file it was read from, named in messages.
    """

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        self.model = model
        self.path = path
        self.notes: list[str] = []
        self._names: set[str] | None = None

    @property
    def graph(self) -> onnx.GraphProto:
        """The main graph."""
        return self.model.graph

    @property
    def opset(self) -> int:
        """Version of the standard operators; 0 if the model does not say."""
        versions = [e.version for e in self.model.opset_import if e.domain in ("", "ai.onnx")]
        return max(versions, default=0)

    def refusal(self, text: str) -> CompileError:
        """An error about this model."""
        return CompileError(f"{self.path}: {text}")

    def initialisers(self) -> dict[str, onnx.TensorProto]:
        """Constants by name."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    def array(self, tensor: onnx.TensorProto) -> Array:
        """The values of a constant.

        Raises
        ------
        CompileError
            If its data do not fit its shape or type.
        """
        try:
            return numpy_helper.to_array(tensor)
        except Exception as error:  # the package raises whatever it comes across
            reason = " ".join(str(error).split())[:120]
            raise self.refusal(
                f"constant {tensor.name!r} is damaged ({reason}); export the model again"
            ) from error

    def add_constant(self, prefix: str, array: npt.ArrayLike) -> str:
        """Add a constant; the name that it was given."""
        name = self.fresh(prefix)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def fresh(self, prefix: str) -> str:
        """A name that no tensor has."""
        if self._names is None:
            self._names = set(_tensor_names(self.graph))
        number, name = 0, prefix
        while name in self._names or not name:
            number += 1
            name = f"{prefix}_{number}"
        self._names.add(name)
        return name

    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that makes each tensor."""
        return {name: node for node in self.graph.node for name in node.output if name}

    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read each tensor, those with a subgraph that does included."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in reads(node):
                found.setdefault(name, []).append(node)
        return found

    def rank(self, name: str) -> int:
        """Dimensions of a tensor, as far as shapes are inferred; -1 if they are not known."""
        for value in (*self.graph.input, *self.graph.value_info):
            if value.name == name and value.type.tensor_type.HasField("shape"):
                return len(value.type.tensor_type.shape.dim)
        return -1

    def outputs(self) -> set[str]:
        """Names of the model's outputs."""
        return {value.name for value in self.graph.output}

    def set_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Replace the nodes."""
        kept = list(nodes)
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def drop_unread(self) -> None:
        """Remove the nodes that no output needs, the constants that nothing reads."""
        needed = self.outputs()
        kept = []
        for node in reversed(self.graph.node):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(reads(node))
        if len(kept) < len(self.graph.node):
            self.set_nodes(reversed(kept))
        unread = [i for i, t in enumerate(self.graph.initializer) if t.name not in needed]
        for number in reversed(unread):
            del self.graph.initializer[number]
        sparse = [t for t in self.graph.sparse_initializer if t.values.name in needed]
        del self.graph.sparse_initializer[:]
        self.graph.sparse_initializer.extend(sparse)

    def light(self) -> onnx.ModelProto:
        """A copy whose large constants are inputs instead: small enough to be passed on."""
        model = onnx.ModelProto()
        for name in ("ir_version", "producer_name", "domain", "model_version"):
            setattr(model, name, getattr(self.model, name))
        model.ir_version = max(model.ir_version, 4)
        model.opset_import.extend(self.model.opset_import)
        model.functions.extend(self.model.functions)
        model.graph.name = self.graph.name or "graph"
        model.graph.node.extend(self.graph.node)
        model.graph.input.extend(self.graph.input)
        model.graph.output.extend(self.graph.output)
        model.graph.value_info.extend(self.graph.value_info)
        for tensor in self.graph.initializer:
            if tensor.ByteSize() <= LARGE_TENSOR:
                model.graph.initializer.append(tensor)
            else:
                model.graph.input.append(
                    onnx.helper.make_tensor_value_info(
                        tensor.name, tensor.data_type, list(tensor.dims)
                    )
                )
        for sparse in self.graph.sparse_initializer:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(
                    sparse.values.name, sparse.values.data_type, list(sparse.dims)
                )
            )
        return model


def reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, in its subgraphs as well."""
    found = {name for name in node.input if name}
    for graph in subgraphs(node):
        inner = {value.name for value in graph.input}
        inner |= {tensor.name for tensor in graph.initializer}
        used = {value.name for value in graph.output}
        for part in graph.node:
            used |= reads(part)
            inner.update(part.output)
        found |= used - inner
    return found


def _tensor_names(graph: onnx.GraphProto) -> Iterator[str]:
    for group in (graph.input, graph.output, graph.initializer, graph.value_info):
        yield from (entry.name for entry in group)
    yield from (entry.values.name for entry in graph.sparse_initializer)
    for node in graph.node:
        yield from node.input
        yield from node.output
        for inner in subgraphs(node):
            yield from _tensor_names(inner)


def attributes_of(node: onnx.NodeProto) -> Mapping[str, Any]:
    """A node's attributes as plain values."""
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
