"""Constants in one place: nodes and sparse tensors that are constants become initialisers.

Weights that are too many to be written out stay `sparse_initializer`s.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from trencadis_compiler.importer.reading.draft import Draft, described

__all__ = ["MAX_SPARSE_BYTES", "constants_to_initialisers"]

MAX_SPARSE_BYTES = 1 << 26
"""Bytes up to which a sparse constant is written out."""

NUMBERS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def constants_to_initialisers(draft: Draft) -> None:
    """Make initialisers of Constant nodes and of sparse initialisers; names stay.

    Constants of strings stay nodes. Sparse matrices of more than `MAX_SPARSE_BYTES` that are only
    read as quantised weights of Gemm or MatMul stay as they are, with positions in C order.

    Raises
    ------
    CompileError
        If a sparse constant is damaged, or too large for what reads it.
    """
    kept_sparse = []
    for sparse in draft.graph.sparse_initializer:
        name = sparse.values.name
        if _is_large(draft, sparse) and _only_weights(draft, name):
            kept_sparse.append(_weights(draft, sparse, name))
        else:
            draft.graph.initializer.append(_dense(draft, sparse, name))
    del draft.graph.sparse_initializer[:]
    draft.graph.sparse_initializer.extend(kept_sparse)
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


def _is_large(draft: Draft, sparse: onnx.SparseTensorProto) -> bool:
    return math.prod(sparse.dims) * draft.array(sparse.values).itemsize > MAX_SPARSE_BYTES


def _only_weights(draft: Draft, name: str) -> bool:
    """Tell whether a constant is only dequantised, and then only multiplied with."""
    readers = draft.readers()
    dequantised = readers.get(name, [])
    return all(node.op_type == "DequantizeLinear" for node in dequantised) and all(
        reader.op_type in ("Gemm", "MatMul") and list(reader.input[1:2]) == list(node.output)
        for node in dequantised
        for reader in readers.get(node.output[0], [])
    )


def _weights(draft: Draft, sparse: onnx.SparseTensorProto, name: str) -> onnx.SparseTensorProto:
    """A sparse matrix with positions in C order."""
    flat, values = _elements(draft, sparse, name)
    if len(sparse.dims) != 2 or values.dtype != np.int8:
        raise draft.refusal(
            f"sparse constant {name!r} of shape {tuple(sparse.dims)} and {values.dtype} takes more "
            f"than {MAX_SPARSE_BYTES} bytes; as much may only be a matrix of int8"
        )
    constants = draft.initialisers()
    for node in draft.readers().get(name, []):
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and draft.array(zero).any():
            raise draft.refusal(
                f"sparse constant {name!r} has a zero point that is not zero, so that none of its "
                "weights is; quantise it with zero point 0"
            )
    return onnx.helper.make_sparse_tensor(
        numpy_helper.from_array(values, name),
        numpy_helper.from_array(flat, f"{name} positions"),
        list(sparse.dims),
    )


def _dense(draft: Draft, sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
    if _is_large(draft, sparse):
        raise draft.refusal(
            f"sparse constant {name!r} of shape {tuple(sparse.dims)} takes more than "
            f"{MAX_SPARSE_BYTES} bytes when it is written out; as much may only be weights of Gemm "
            "or MatMul, in int8 and dequantised"
        )
    flat, values = _elements(draft, sparse, name)
    dense = np.zeros(math.prod(sparse.dims), values.dtype)
    dense[flat] = values
    return numpy_helper.from_array(dense.reshape(tuple(sparse.dims)), name)


def _elements(
    draft: Draft, sparse: onnx.SparseTensorProto, name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Positions in C order, and values."""
    values = draft.array(sparse.values)
    shape = tuple(sparse.dims)
    size = math.prod(shape)
    if any(dim < 0 for dim in shape) or size >= 1 << 62:
        raise draft.refusal(f"sparse constant {name!r} has shape {shape}; export it again")
    indices = draft.array(sparse.indices).astype(np.int64)
    if indices.ndim == 2 and indices.shape == (len(values), len(shape)):
        inside = bool(((indices >= 0) & (indices < np.array(shape))).all())
        flat = np.asarray(np.ravel_multi_index(tuple(indices.T), shape)) if inside else indices
    else:
        inside = indices.shape == values.shape and bool(((indices >= 0) & (indices < size)).all())
        flat = indices
    if not inside:
        raise draft.refusal(f"sparse constant {name!r} has values outside it; export it again")
    if (np.diff(flat) <= 0).any():
        raise draft.refusal(
            f"sparse constant {name!r} has positions that do not rise, as ONNX wants them; export "
            "it again"
        )
    return flat.astype(np.int64, copy=False), values
