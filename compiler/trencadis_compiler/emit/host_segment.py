"""Host segments as ONNX models of their own: the model's nodes, constants and types."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.graph import Graph
from trencadis_compiler.importer.reading.draft import reads, subgraphs
from trencadis_compiler.ir.network import TensorInfo
from trencadis_compiler.passes.partition import HostPart
from trencadis_format.compiled import HostSegment
from trencadis_format.onnx_check import MAX_GRAPH_BYTES, check_host_graph

__all__ = ["UnknownTensorError", "host_segment"]


class UnknownTensorError(CompileError):
    """A tensor between segments whose type is not known."""


def host_segment(
    model: onnx.ModelProto, graph: Graph, part: HostPart, extra: Mapping[str, TensorInfo]
) -> HostSegment:
    """The segment of some of a model's nodes.

    Parameters
    ----------
    model : ModelProto
        The model, in standard form.
    graph : Graph
        Its operator graph.
    part : HostPart
        The nodes.
    extra : mapping of str to TensorInfo
        Tensors that overlay segments make.

    Raises
    ------
    UnknownTensorError
        If the type of a tensor that it reads or makes is not known.
    CompileError
        If it is larger than ONNX allows.
    """
    by_output = {name: node for node in model.graph.node for name in node.output if name}
    protos = [by_output[next(filter(None, node.outputs))] for node in part.nodes]
    result = onnx.ModelProto()
    result.ir_version = max(model.ir_version, 4)
    domains = {"", *(node.domain for proto in protos for node in _all_nodes(proto))}
    result.opset_import.extend(e for e in model.opset_import if e.domain in domains)
    made = result.graph
    made.name = model.graph.name or "segment"
    made.node.extend(protos)
    used = {name for proto in protos for name in reads(proto)}
    for tensor in model.graph.initializer:
        if tensor.name in used:
            made.initializer.append(tensor)
    for sparse in model.graph.sparse_initializer:
        if sparse.values.name in used:
            raise CompileError(
                f"sparse constant {sparse.values.name!r} of shape {tuple(sparse.dims)} is too "
                f"large for the host, where it would be written out: {part.reason}"
            )
    for names, values in ((part.inputs, made.input), (part.outputs, made.output)):
        for name in names:
            values.append(_value_info(name, graph.infos, extra))
    size = result.ByteSize()
    if size > MAX_GRAPH_BYTES:
        raise CompileError(
            f"a host segment has {size} bytes, more than ONNX's {MAX_GRAPH_BYTES}; place some of "
            "its nodes on the overlay"
        )
    data = result.SerializeToString()
    try:
        check_host_graph(data, part.inputs, part.outputs)
    except ValueError as error:
        raise CompileError(f"{error}: the model cannot be run") from error
    names = tuple(node.name for node in part.nodes)
    return HostSegment(data, part.inputs, part.outputs, names, part.reason)


def _all_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """A node and those of its subgraphs."""
    yield node
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from _all_nodes(inner)


def _value_info(
    name: str, infos: Mapping[str, TensorInfo], extra: Mapping[str, TensorInfo]
) -> onnx.ValueInfoProto:
    info = extra.get(name) or infos.get(name)
    if info is None:
        raise UnknownTensorError(f"the type of {name!r} is not known")
    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(info.dtype))
    return onnx.helper.make_tensor_value_info(name, dtype, list(info.shape))
