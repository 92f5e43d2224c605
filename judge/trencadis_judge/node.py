"""One operator of a file."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from trencadis_judge.errors import JudgeError, UnsupportedOperatorError

__all__ = [
    "STANDARD_DOMAINS",
    "Node",
    "outer_names",
    "proto_reads",
    "read_array",
    "read_attributes",
]

STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Node:
    """One operator of the file, or one that stands for a part of it.

    Attributes
    ----------
    op_type : str
        Name of the operator; other domains than ONNX's own stand before it with a dot.
    name : str
        Name of the node, or its kind and number if the file gives none.
    inputs, outputs : tuple of str
        Tensors; empty names are left out.
    attributes : mapping of str to object
        Numbers, text, arrays, or GraphProtos.
    version : int
        Opset of the operator's domain.
    proto : NodeProto
        The node in the file.
    """

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    version: int
    proto: onnx.NodeProto

    def __str__(self) -> str:
        return f"{self.proto.op_type} {self.name!r}"


def proto_reads(proto: onnx.NodeProto) -> tuple[str, ...]:
    """Tensors that a node of the file reads, those of its inner graphs included."""
    names = [name for name in proto.input if name]
    for entry in proto.attribute:
        if entry.type == onnx.AttributeProto.GRAPH:
            names.extend(outer_names(entry.g))
    return tuple(dict.fromkeys(names))


def outer_names(graph: onnx.GraphProto) -> list[str]:
    """Tensors that an inner graph takes from outside."""
    inner = {info.name for info in graph.input} | {t.name for t in graph.initializer}
    found = []
    for node in graph.node:
        read = list(node.input)
        for entry in node.attribute:
            if entry.type == onnx.AttributeProto.GRAPH:
                read.extend(outer_names(entry.g))
        found.extend(name for name in read if name and name not in inner)
        inner.update(node.output)
    found.extend(info.name for info in graph.output if info.name not in inner)
    return found


def read_array(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    """Elements of a tensor of the file.

    Raises
    ------
    JudgeError
        If it holds text, or its data are not what it says.
    """
    if tensor.data_type == onnx.TensorProto.STRING:
        raise UnsupportedOperatorError(f"{tensor.name!r} is text, which is not judged")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise JudgeError(f"{tensor.name!r}: {' '.join(str(error).split())[:120]}") from error


def read_attributes(entries: Iterable[onnx.AttributeProto]) -> Iterator[tuple[str, Any]]:
    """Names and values of a node's attributes."""
    for entry in entries:
        yield entry.name, _value(entry)


def _value(entry: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return read_array(value)
    if entry.type == onnx.AttributeProto.STRINGS:
        return [text.decode("utf-8", "replace") for text in value]
    if entry.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return list(value)
    return value
