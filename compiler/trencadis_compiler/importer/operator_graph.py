"""The operator graph of a model in standard form: what the passes work on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.graph import Graph, Node
from trencadis_compiler.importer.reading.draft import reads
from trencadis_compiler.importer.standard import StandardModel
from trencadis_compiler.ir.network import TensorInfo
from trencadis_compiler.ir.sparse_constant import SparseConstant

__all__ = ["operator_graph"]

STANDARD_DOMAINS = ("", "ai.onnx")


def operator_graph(standard: StandardModel) -> Graph:
    """The operators, constants and tensors of a model.

    Raises
    ------
    CompileError
        If an input or output of the model is no tensor.
    """
    graph, path = standard.model.graph, standard.path
    constants: dict[str, npt.NDArray[Any] | SparseConstant] = {
        tensor.name: _array(tensor) for tensor in graph.initializer
    }
    for sparse in graph.sparse_initializer:
        rows, columns = sparse.dims
        constants[sparse.values.name] = SparseConstant.of_flat(
            (rows, columns), _array(sparse.indices), _array(sparse.values)
        )
    infos = dict(_infos([*graph.value_info, *graph.input, *graph.output]))
    edges = []
    for values in (graph.input, graph.output):
        names = [value.name for value in values if value.name not in constants]
        for name in names:
            if name not in infos:
                raise CompileError(f"{path}: {name!r} is no tensor of known type; export it as one")
        edges.append(tuple(infos[name] for name in names))
    return Graph(
        name=graph.name or path.stem,
        inputs=edges[0],
        outputs=edges[1],
        nodes=tuple(_nodes(graph)),
        constants=constants,
        infos=infos,
    )


def _nodes(graph: onnx.GraphProto) -> Iterator[Node]:
    taken = {node.name for node in graph.node}
    used: set[str] = set()
    for number, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{number}"
        while name in used or (not node.name and name in taken):
            name += "_"
        used.add(name)
        op_type = node.op_type
        if node.domain not in STANDARD_DOMAINS:
            op_type = f"{node.domain}.{op_type}"
        inner = sorted(reads(node) - set(node.input))
        yield Node(
            op_type=op_type,
            name=name,
            inputs=(*node.input, *inner),
            outputs=tuple(node.output),
            attributes={entry.name: _attribute(entry) for entry in node.attribute},
        )


def _attribute(entry: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return (
        value if isinstance(value, (int, float, str)) else list(value) if _is_list(value) else value
    )


def _is_list(value: object) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, (str, bytes))


def _infos(values: list[onnx.ValueInfoProto]) -> Iterator[tuple[str, TensorInfo]]:
    for value in values:
        kind = value.type
        if kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.HasField("shape"):
            continue
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))
        except (KeyError, TypeError, ValueError):
            continue
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in kind.tensor_type.shape.dim
        )
        yield value.name, TensorInfo(value.name, shape, dtype.name)


def _array(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    try:
        return numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise CompileError(
            f"data of {tensor.name!r} cannot be read ({reason}); export the model again"
        ) from error
