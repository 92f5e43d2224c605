"""Inputs and outputs that a session can be given and can give."""

from collections.abc import Sequence

import onnx

from trencadis_compiler.importer.reading.draft import Draft

__all__ = ["check_ends", "make_outputs"]

TYPES = frozenset(
    (
        onnx.TensorProto.UNDEFINED,  # what has no type is refused where it is used
        onnx.TensorProto.BOOL,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT8,
        onnx.TensorProto.INT16,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
        onnx.TensorProto.STRING,
        onnx.TensorProto.UINT8,
        onnx.TensorProto.UINT16,
        onnx.TensorProto.UINT32,
        onnx.TensorProto.UINT64,
    )
)
"""Types of NumPy's own arrays."""


def check_ends(draft: Draft) -> None:
    """Refuse inputs and outputs of types that arrays cannot have.

    Raises
    ------
    CompileError
        If there is one.
    """
    _check_types(draft, draft.graph.input, "input", "begin the model with a Cast from float32")
    _check_types(draft, draft.graph.output, "output", "end the model with a Cast to float32")


def _check_types(
    draft: Draft, values: Sequence[onnx.ValueInfoProto], what: str, remedy: str
) -> None:
    for value in values:
        kind = value.type.tensor_type.elem_type
        if value.type.WhichOneof("value") == "tensor_type" and kind not in TYPES:
            name = onnx.helper.tensor_dtype_to_string(kind).removeprefix("TensorProto.")
            raise draft.refusal(
                f"{what} {value.name!r} is of type {name}, which NumPy's arrays do not have; "
                f"{remedy}"
            )


def make_outputs(draft: Draft) -> None:
    """Let each output that is a constant be made by a node, as outputs are."""
    outputs = draft.outputs()
    for tensor in draft.graph.initializer:
        name = tensor.name
        if name not in outputs:
            continue
        tensor.name = draft.fresh(f"{name}_value")
        for node in draft.graph.node:
            node.input[:] = [tensor.name if entry == name else entry for entry in node.input]
        draft.graph.node.append(onnx.helper.make_node("Identity", [tensor.name], [name]))
