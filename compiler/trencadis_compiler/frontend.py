"""Reading ONNX files: the only door to onnx_ir."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trencadis_compiler.errors import CompileError
from trencadis_compiler.graph import QUANT, Graph, Node
from trencadis_compiler.ir import TensorInfo
from trencadis_hw.container import ContainerError, check_file
from trencadis_hw.file_kind import MODEL, file_kind

if TYPE_CHECKING:
    import onnx_ir

__all__ = ["LARGEST_FILE", "load_graph"]

LARGEST_FILE = 512 << 20
"""Bytes. A network that fits an FPGA's memories is far smaller."""

LARGEST_TENSOR = 1 << 26
"""Elements of a constant."""

DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)
"""Where a TensorProto may have its elements."""

STANDARD_DOMAINS = ("", "ai.onnx")

QUANT_DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
"""Domains that QONNX's Quant has had."""


def load_graph(path: Path) -> Graph:
    """The main graph of an ONNX file.

    Raises
    ------
    CompileError
        If the file cannot be read, is not an ONNX model, or has features that no pass knows.
    """
    try:
        check_file(path, LARGEST_FILE)
    except ContainerError as error:
        raise CompileError(str(error)) from error
    kind = file_kind(path)
    if kind not in (MODEL, None):
        raise CompileError(f"{path}: not an ONNX model (it is {kind}); give an .onnx file")
    try:
        import onnx_ir
    except ImportError as error:
        raise CompileError(
            f"{path}: reading ONNX needs the package {error.name!r}; install it with: "
            "pip install 'trencadis[compiler]'"
        ) from error
    try:
        model = onnx_ir.load(path)
    except Exception as error:
        # protobuf and onnx_ir raise whatever they come across in a damaged file.
        raise CompileError(
            f"{path}: not an ONNX model ({_one_line(error)}); export it again"
        ) from error
    try:
        graph = _convert(model, path)
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(
            f"{path}: the ONNX graph is inconsistent ({_one_line(error)}); export it again"
        ) from error
    _check_order(graph, path)
    return graph


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."


def _convert(model: "onnx_ir.Model", path: Path) -> Graph:
    graph = model.graph
    if not list(graph) or not graph.outputs:
        raise CompileError(f"{path}: not an ONNX model (it has no nodes or no outputs)")
    constants: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in graph.initializers.items():
        if value.const_value is None:
            raise CompileError(f"{path}: {name!r} has no data; export the model again")
        constants[name] = _array(value.const_value, name, path)
    nodes = []
    for number, node in enumerate(graph):
        name = node.name or f"{node.op_type}_{number}"
        attributes = dict(_attributes(node, name, path))
        if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS:
            constants[node.outputs[0].name or ""] = _constant(attributes, name, path)
            continue
        op_type = node.op_type
        if node.op_type == "Quant" and node.domain in QUANT_DOMAINS:
            op_type = QUANT
        elif node.domain not in STANDARD_DOMAINS:
            op_type = f"{node.domain}.{node.op_type}"
        nodes.append(
            Node(
                op_type=op_type,
                name=name,
                inputs=tuple("" if value is None else value.name or "" for value in node.inputs),
                outputs=tuple(value.name or "" for value in node.outputs),
                attributes=attributes,
            )
        )
    inputs = [_info(value, path) for value in graph.inputs if value.name not in constants]
    return Graph(
        name=graph.name or path.stem,
        inputs=tuple(inputs),
        outputs=tuple(_info(value, path) for value in graph.outputs),
        nodes=tuple(nodes),
        constants=constants,
    )


def _check_order(graph: Graph, path: Path) -> None:
    """Whether every value is made once, and before it is used."""
    made = {*graph.constants, *(info.name for info in graph.inputs), ""}
    for node in graph.nodes:
        for name in node.inputs:
            if name not in made:
                raise CompileError(
                    f"{path}: {node} reads {name!r}, which is not made before; export it again"
                )
        for name in node.outputs:
            if name and name in made:
                raise CompileError(
                    f"{path}: {node} makes {name!r}, which is made before; export it again"
                )
            made.add(name)


def _info(value: "onnx_ir.Value", path: Path) -> TensorInfo:
    import onnx_ir

    if value.shape is None or value.dtype is None:
        raise CompileError(
            f"{path}: {value.name!r} has no declared shape or type; run onnx.shape_inference on it"
        )
    if not isinstance(value.type, onnx_ir.TensorType):
        raise CompileError(f"{path}: {value.name!r} has type {value.type}, not a tensor")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    try:
        dtype = value.dtype.numpy().name
    except TypeError as error:
        raise CompileError(
            f"{path}: {value.name!r} has type {value.dtype}, not a tensor"
        ) from error
    return TensorInfo(value.name or "", shape, dtype)


def _array(tensor: Any, name: str, path: Path) -> np.ndarray[Any, Any]:
    """A tensor's data; data in other files is not read."""
    import onnx_ir

    if isinstance(tensor, onnx_ir.ExternalTensor):
        raise CompileError(
            f"{path}: data of {name!r} is in another file ({str(tensor.location)!r}), which is not "
            "read; save the model as one file, without external data"
        )
    elements = math.prod(tensor.shape.numpy())
    if elements > LARGEST_TENSOR:
        raise CompileError(
            f"{path}: {name!r} has {elements} elements, more than the {LARGEST_TENSOR} that are "
            "read; networks of that size do not fit the overlay"
        )
    if (
        elements
        and isinstance(tensor, onnx_ir.TensorProtoTensor)
        and not any(len(getattr(tensor.raw, field)) for field in DATA_FIELDS)
    ):
        # onnx_ir would make it all zeros.
        raise CompileError(f"{path}: {name!r} has no data; export the model again")
    return np.asarray(tensor.numpy())


def _attributes(node: "onnx_ir.Node", name: str, path: Path) -> Iterator[tuple[str, Any]]:
    import onnx_ir

    for key, attribute in node.attributes.items():
        value = attribute.value
        if attribute.type == onnx_ir.AttributeType.TENSOR:
            value = _array(value, f"{name}.{key}", path)
        elif attribute.type in (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS):
            raise CompileError(
                f"{path}: {node.op_type} {name!r} has control flow, which the overlay cannot run; "
                "export the model with fixed shapes"
            )
        yield key, value


def _constant(attributes: dict[str, Any], name: str, path: Path) -> np.ndarray[Any, Any]:
    for key, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in attributes:
            return np.asarray(attributes[key], dtype=dtype)
    raise CompileError(f"{path}: Constant {name!r} is not a number or a tensor of numbers")
