"""Tensors that no memory holds are named before anything is computed."""

import math

import numpy as np
import onnx

from trencadis_compiler.importer.reading.draft import Draft

__all__ = ["MAX_TENSOR_BYTES", "check_memory"]

MAX_TENSOR_BYTES = 8 << 30
"""Size of a tensor, of one sample where the batch is open: as much as a whole model may have."""


def check_memory(draft: Draft) -> None:
    """Refuse tensors whose known sizes take more than `MAX_TENSOR_BYTES`.

    Weights that stay sparse are never written out, dequantised or not.

    Raises
    ------
    CompileError
        If there is one.
    """
    graph = draft.graph
    sparse = {entry.values.name for entry in graph.sparse_initializer}
    sparse |= {node.output[0] for node in graph.node if sparse.intersection(node.input[:1])}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.name in sparse:
            continue
        kind = value.type.tensor_type
        if value.type.WhichOneof("value") != "tensor_type" or not kind.HasField("shape"):
            continue
        sizes = [max(dim.dim_value, 1) for dim in kind.shape.dim]
        size = math.prod(sizes) * _item_bytes(kind.elem_type)
        if size > MAX_TENSOR_BYTES:
            raise draft.refusal(
                f"tensor {value.name!r} has shape {sizes}, {size / 2**30:,.0f} GiB; at most "
                f"{MAX_TENSOR_BYTES >> 30} are computed: give the model smaller inputs"
            )


def _item_bytes(kind: int) -> int:
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize
    except (KeyError, TypeError):
        return 1
