"""Reading an ONNX file that comes from anywhere, with the data beside it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.numpy_helper

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.reading.draft import described, subgraphs
from trencadis_compiler.importer.reading.external_data import read_external_data
from trencadis_format.errors import FileError
from trencadis_format.files import MODEL, file_kind, read_file

__all__ = ["MAX_FILE_BYTES", "MAX_MODEL_BYTES", "read_model"]

MAX_FILE_BYTES = (1 << 31) - 1
"""Bytes of the .onnx file itself: protobuf's own limit."""

MAX_MODEL_BYTES = 8 << 30
"""Bytes of a model, data in other files included."""

MAX_RANK = 64
"""Dimensions of a tensor; NumPy has no more."""

DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)
"""Fields in which a TensorProto may have its elements."""


def read_model(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a model, data in other files included.

    Returns
    -------
    tuple
        The model, all data inline, and the SHA-256 of what was read: of the file, followed by the
        external data in the order of the tensors.

    Raises
    ------
    CompileError
        If the file is not an ONNX model, too large, or its data are not where they should be.
    """
    try:
        kind = file_kind(path)
        if kind not in (MODEL, None):
            raise CompileError(f"{path}: not an ONNX model (it is {kind}); give an .onnx file")
        data = read_file(path, MAX_FILE_BYTES)
    except FileError as error:
        raise CompileError(str(error)) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's errors have no common base
        reason = " ".join(str(error).split())[:120]
        raise CompileError(f"{path}: not an ONNX model ({reason}); export it again") from error
    digest = hashlib.sha256(data)
    size = len(data)
    del data
    _check_form(model, path)
    read_external_data(
        list(_tensors(model)), path, limit=MAX_MODEL_BYTES - size, update=digest.update
    )
    for tensor in _tensors(model):
        _check_tensor(tensor, path)
    return model, digest.hexdigest()


def _check_form(model: onnx.ModelProto, path: Path) -> None:
    graph = model.graph
    if not graph.output or not (graph.node or graph.input or graph.initializer):
        raise CompileError(f"{path}: not an ONNX model (it has no nodes or no outputs)")
    for name in _names(graph):
        if not isinstance(name, str):
            raise CompileError(
                f"{path}: the name {bytes(name)!r} is not UTF-8 text; export the model again"
            )
    if model.training_info:
        raise CompileError(
            f"{path}: has training information, which is not read; export the model for inference"
        )


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every piece of text that becomes a name."""
    yield graph.name
    for group in (graph.input, graph.output, graph.value_info, graph.initializer):
        yield from (entry.name for entry in group)
    yield from (entry.values.name for entry in graph.sparse_initializer)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for inner in subgraphs(node):
            yield from _names(inner)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, those in attributes and subgraphs included."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            if not attribute.t.name:
                attribute.t.name = f"{attribute.name} of {described(node)}"
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
    for graph in subgraphs(node):
        yield from _graph_tensors(graph)


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    elements = 1
    for size in tensor.dims:
        if size < 0:
            raise CompileError(
                f"{path}: constant {tensor.name!r} has a size of {size}; export the model again"
            )
        elements *= size
    if len(tensor.dims) > MAX_RANK:
        raise CompileError(
            f"{path}: constant {tensor.name!r} has {len(tensor.dims)} dimensions, more than "
            f"{MAX_RANK}; export the model again"
        )
    if elements and not any(len(getattr(tensor, field)) for field in DATA_FIELDS):
        raise CompileError(f"{path}: constant {tensor.name!r} has no data; export the model again")
    try:
        onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # the package raises whatever it comes across
        reason = " ".join(str(error).split())[:120]
        raise CompileError(
            f"{path}: constant {tensor.name!r} is damaged ({reason}); export the model again"
        ) from error
