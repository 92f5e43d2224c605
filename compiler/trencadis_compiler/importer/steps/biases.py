"""Biases as vectors: one number for every output of a Gemm."""

import numpy as np
import onnx

from trencadis_compiler.importer.reading.draft import Draft, attributes_of

__all__ = ["flatten_biases"]


def flatten_biases(draft: Draft) -> None:
    """Give constant biases of Gemm, of shape (1, n), (1, 1), (1,) or (), the shape (n,).

    A bias may be dequantised by one scale. Biases that differ between rows stay.
    """
    constants = draft.initialisers()
    producers = draft.producers()
    for node in draft.graph.node:
        if node.op_type != "Gemm" or node.domain or len(node.input) < 3 or not node.input[2]:
            continue
        weights = _dims(node.input[1], constants, producers)
        if weights is None or len(weights) != 2:
            continue
        outputs = weights[0 if attributes_of(node).get("transB", 0) else 1]
        source = producers.get(node.input[2])
        if source is None:
            new = _vector(draft, constants.get(node.input[2]), outputs)
            if new is not None:
                node.input[2] = new
        elif source.op_type == "DequantizeLinear" and _one_scale(source, constants):
            new = _vector(draft, constants.get(source.input[0]), outputs)
            if new is not None:
                copy = onnx.NodeProto()
                copy.CopyFrom(source)
                copy.input[0] = new
                copy.output[0] = node.input[2] = draft.fresh(f"{source.output[0]}_vector")
                nodes = list(draft.graph.node)
                nodes.insert(nodes.index(node), copy)
                draft.set_nodes(nodes)
                return flatten_biases(draft)
    return None


def _dims(
    name: str, constants: dict[str, onnx.TensorProto], producers: dict[str, onnx.NodeProto]
) -> list[int] | None:
    source = producers.get(name)
    if source is not None and source.op_type == "DequantizeLinear":
        name = source.input[0]
    tensor = constants.get(name)
    return None if tensor is None else list(tensor.dims)


def _one_scale(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    sizes = [constants[n].dims for n in node.input[1:] if n and n in constants]
    return len(sizes) == len([n for n in node.input[1:] if n]) and not any(
        np.prod(dims, dtype=np.int64) != 1 for dims in sizes
    )


def _vector(draft: Draft, tensor: onnx.TensorProto | None, outputs: int) -> str | None:
    """A copy of a bias as a vector; None if it is one, or is none that is the same for all rows."""
    if tensor is None or list(tensor.dims) == [outputs]:
        return None
    array = draft.array(tensor)
    if array.size not in (1, outputs) or array.ndim > 2 or (array.ndim == 2 and len(array) != 1):
        return None
    vector = np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (outputs,)))
    return draft.add_constant(f"{tensor.name}_vector", vector)
