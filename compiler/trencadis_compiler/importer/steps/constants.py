"""Constants in one place: nodes and sparse tensors that are constants become initialisers."""

import math

import numpy as np
import onnx
from onnx import numpy_helper

from trencadis_compiler.importer.reading.draft import Draft, described

__all__ = ["MAX_SPARSE_BYTES", "constants_to_initialisers"]

MAX_SPARSE_BYTES = 1 << 30
"""Bytes of a sparse constant when it is written out."""

NUMBERS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def constants_to_initialisers(draft: Draft) -> None:
    """Make initialisers of Constant nodes and of sparse initialisers; names stay.

    Constants of strings stay nodes.

    Raises
    ------
    CompileError
        If a sparse constant is damaged or larger than `MAX_SPARSE_BYTES`.
    """
    for sparse in draft.graph.sparse_initializer:
        draft.graph.initializer.append(_dense(draft, sparse, sparse.values.name))
    del draft.graph.sparse_initializer[:]
    kept = []
    for node in draft.graph.node:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            kept.append(node)
            continue
        tensor = _value(draft, node)
        if tensor is None:
            kept.append(node)
        else:
            draft.graph.initializer.append(tensor)
    if len(kept) < len(draft.graph.node):
        draft.set_nodes(kept)


def _value(draft: Draft, node: onnx.NodeProto) -> onnx.TensorProto | None:
    if len(node.attribute) != 1 or len(node.output) != 1:
        raise draft.refusal(f"{described(node)} has not one value; export the model again")
    entry = node.attribute[0]
    tensor = onnx.TensorProto()
    if entry.name == "value" and entry.type == onnx.AttributeProto.TENSOR:
        tensor.CopyFrom(entry.t)
    elif entry.name == "sparse_value":
        tensor.CopyFrom(_dense(draft, entry.sparse_tensor, node.output[0]))
    elif entry.name in NUMBERS:
        value = onnx.helper.get_attribute_value(entry)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, NUMBERS[entry.name])))
    else:
        return None
    tensor.name = node.output[0]
    return tensor


def _dense(draft: Draft, sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
    values = draft.array(sparse.values)
    shape = tuple(sparse.dims)
    size = math.prod(shape)
    if any(dim < 0 for dim in shape) or size * values.itemsize > MAX_SPARSE_BYTES:
        raise draft.refusal(
            f"sparse constant {name!r} of shape {shape} is larger than {MAX_SPARSE_BYTES} bytes; "
            "save the model with dense constants"
        )
    indices = draft.array(sparse.indices).astype(np.int64)
    if indices.ndim == 2 and indices.shape == (len(values), len(shape)):
        inside = bool(((indices >= 0) & (indices < np.array(shape))).all())
        flat = np.ravel_multi_index(tuple(indices.T), shape) if inside else indices
    else:
        inside = indices.shape == values.shape and bool(((indices >= 0) & (indices < size)).all())
        flat = indices
    if not inside:
        raise draft.refusal(f"sparse constant {name!r} has values outside it; export it again")
    dense = np.zeros(size, values.dtype)
    dense[flat] = values
    return numpy_helper.from_array(dense.reshape(shape), name)
