"""Dequantised constants in one form: int8 with zero point 0, in the layout that is read."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_compiler.importer.reading.draft import Draft, attributes_of

__all__ = ["centre_weights", "move_layout_to_integers", "quantise_constants"]

Array = npt.NDArray[np.generic]

LAYOUT = ("Reshape", "Squeeze", "Transpose", "Unsqueeze", "Identity", "Flatten")
"""Operators that only place elements elsewhere."""

EIGHT_BITS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def quantise_constants(draft: Draft) -> None:
    """Compute QuantizeLinear of constants, exactly: of the quotient of what the file has.

    onnxruntime divides in float32 instead, which differs where that is a tie and the quotient is
    none; the judge takes the exact value as well.
    """
    constants = draft.initialisers()
    kept = []
    for node in draft.graph.node:
        name = node.output[0] if node.output else ""
        tensor = None
        if node.op_type == "QuantizeLinear" and not node.domain and name not in draft.outputs():
            tensor = _quantised(draft, node, constants)
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = name
            draft.graph.initializer.append(tensor)
    draft.set_nodes(kept)


def _quantised(
    draft: Draft, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> onnx.TensorProto | None:
    names = [name for name in node.input if name]
    values = attributes_of(node)
    if any(name not in constants for name in names) or values.get("block_size", 0):
        return None
    real, scale, *zeros = [draft.array(constants[name]) for name in names]
    zero = zeros[0] if zeros else np.zeros_like(scale, np.uint8)
    if real.dtype != np.float32 or scale.dtype != np.float32 or scale.shape != zero.shape:
        return None
    if zero.dtype not in (np.int8, np.uint8) or not np.isfinite(real).all() or (scale <= 0).any():
        return None
    if not zeros and values.get("output_dtype", 0):
        return None
    if scale.ndim and real.ndim:
        sizes = _along(scale.size, values.get("axis", 1), real.ndim)
        scale, zero = scale.reshape(sizes), zero.reshape(sizes)
    limits = np.iinfo(zero.dtype)
    integers = np.rint(real.astype(np.float64) / scale.astype(np.float64)) + zero
    return onnx.numpy_helper.from_array(
        np.clip(integers, limits.min, limits.max).astype(zero.dtype), "integers"
    )


def _along(size: int, axis: int, rank: int) -> Sequence[int]:
    """A shape that broadcasts a vector along an axis; a single number along all of them."""
    if size == 1:
        return (1,) * rank
    return tuple(size if number == axis % rank else 1 for number in range(rank))


def centre_weights(draft: Draft) -> None:
    """Subtract zero points of dequantised 8-bit constants, where the differences are int8.

    `DequantizeLinear` keeps its output's name, and computes the same numbers.
    """
    constants = draft.initialisers()
    for node in draft.graph.node:
        if node.op_type != "DequantizeLinear" or node.domain or len(node.input) < 3:
            continue
        if attributes_of(node).get("block_size", 0):
            continue
        found = [constants.get(node.input[number]) for number in (0, 2)]
        if any(tensor is None or tensor.data_type not in EIGHT_BITS for tensor in found):
            continue
        integers, zero = (draft.array(t) for t in found if t is not None)
        if integers.dtype == np.int8 and not zero.any():
            continue
        sizes: Sequence[int] = ()
        if zero.ndim and integers.ndim:
            sizes = _along(zero.size, attributes_of(node).get("axis", 1), integers.ndim)
        centred = integers.astype(np.int16) - zero.astype(np.int16).reshape(sizes)
        if centred.size and (centred.min() < -128 or centred.max() > 127):
            continue
        node.input[0] = draft.add_constant(f"{node.input[0]}_centred", centred.astype(np.int8))
        node.input[2] = draft.add_constant(f"{node.input[2]}_centred", np.zeros_like(zero, np.int8))


def move_layout_to_integers(draft: Draft) -> None:
    """Transpose or reshape integers in place of what they are dequantised to.

    The tensor after the last such operator keeps its name.
    """
    again = True
    while again:
        constants, producers = draft.initialisers(), draft.producers()
        again = False
        for place, node in enumerate(draft.graph.node):
            source = producers.get(node.input[0]) if node.input else None
            if node.op_type not in LAYOUT or node.domain or source is None:
                continue
            if source.op_type != "DequantizeLinear" or source.domain:
                continue
            new = _moved(draft, node, source, constants)
            if new is not None:
                nodes = list(draft.graph.node)
                nodes[place] = new
                draft.set_nodes(nodes)
                again = True
                break


def _moved(
    draft: Draft,
    node: onnx.NodeProto,
    source: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
) -> onnx.NodeProto | None:
    names = [name for name in (*source.input, *node.input[1:]) if name]
    if any(name not in constants for name in names) or attributes_of(source).get("block_size", 0):
        return None
    integers = draft.array(constants[source.input[0]])
    scale = draft.array(constants[source.input[1]])
    axis = attributes_of(source).get("axis", 1)
    per_tensor = scale.size == 1
    if integers.dtype not in (np.int8, np.uint8, np.int32) or not integers.ndim:
        return None
    if node.op_type == "Transpose":
        order = attributes_of(node).get("perm", list(range(integers.ndim))[::-1])
        laid = integers.transpose(order)
        axis = 0 if per_tensor else list(order).index(axis % integers.ndim)
    elif node.op_type == "Identity":
        laid = integers
    elif per_tensor:
        laid = _reshaped(draft, node, integers, constants)
    else:
        return None
    if laid is None or (not per_tensor and laid.ndim == 0):
        return None
    copy = onnx.helper.make_node(
        "DequantizeLinear", list(source.input), list(node.output), source.name
    )
    if not per_tensor:
        copy.attribute.append(onnx.helper.make_attribute("axis", axis))
    elif scale.ndim:
        for number, name in enumerate(copy.input):
            if number and name:
                number_only = draft.array(constants[name]).reshape(())
                copy.input[number] = draft.add_constant(f"{name}_scalar", number_only)
    copy.input[0] = draft.add_constant(f"{node.output[0]}_integers", np.ascontiguousarray(laid))
    return copy


def _reshaped(
    draft: Draft, node: onnx.NodeProto, array: Array, constants: dict[str, onnx.TensorProto]
) -> Array | None:
    """A constant placed by an operator that has no numbers of its own to compute."""
    values = attributes_of(node)
    given = [draft.array(constants[name]).reshape(-1).tolist() for name in node.input[1:] if name]
    if node.op_type == "Reshape":
        shape = list(given[0])
        if not values.get("allowzero", 0):
            shape = [array.shape[i] if size == 0 else size for i, size in enumerate(shape)]
        return array.reshape(shape)
    if node.op_type == "Flatten":
        axis = values.get("axis", 1)
        rows = int(np.prod(array.shape[:axis], dtype=np.int64))
        return array.reshape(rows, -1) if array.size else None
    if node.op_type == "Squeeze":
        return np.squeeze(array, tuple(given[0])) if given else np.squeeze(array)
    return np.expand_dims(array, tuple(given[0])) if given else None
