"""QONNX's operators as standard ones: QuantizeLinear and DequantizeLinear where these say the same.

Quant rounds x / scale + zero_point, QuantizeLinear x / scale: with an even zero point that is the
same. What is different (odd or fractional zero points, other ways to round, fractions of bits) is
written out by `trencadis_judge.lowering`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_compiler.importer.reading.draft import Draft, attributes_of
from trencadis_judge.errors import JudgeError
from trencadis_judge.lowering import QONNX_DOMAINS, integer_bounds, is_qonnx, lower_qonnx

__all__ = ["lower_channels_last", "lower_qonnx_operators"]

Array = npt.NDArray[Any]

CHANNELS_LAST = ".channels_last"

MAX_BITS = 32
"""Width of integers that are dequantised."""


def lower_channels_last(draft: Draft) -> None:
    """Write operators on channels-last maps as standard ones between Transpose nodes."""
    nodes: list[onnx.NodeProto] = []
    for node in draft.graph.node:
        if not node.domain.endswith(CHANNELS_LAST):
            nodes.append(node)
            continue
        rank = len(attributes_of(node).get("kernel_shape", (0, 0))) + 2
        first = [0, rank - 1, *range(1, rank - 1)]
        last = [0, *range(2, rank), 1]
        source = draft.fresh(f"{node.output[0]}_channels_first_input")
        result = draft.fresh(f"{node.output[0]}_channels_first")
        standard = onnx.NodeProto()
        standard.CopyFrom(node)
        standard.domain = ""
        standard.input[0], standard.output[0] = source, result
        nodes += [
            onnx.helper.make_node("Transpose", [node.input[0]], [source], source, perm=first),
            standard,
            onnx.helper.make_node("Transpose", [result], [node.output[0]], result, perm=last),
        ]
    if len(nodes) > len(draft.graph.node):
        draft.set_nodes(nodes)
        _drop_domains(draft)


def lower_qonnx_operators(draft: Draft) -> None:
    """Replace Quant and BipolarQuant; constants become integers that are dequantised.

    Raises
    ------
    CompileError
        If a bit width is no constant, or a rounding mode unknown.
    """
    if not is_qonnx(draft.model):
        return
    constants = draft.initialisers()
    nodes: list[onnx.NodeProto] = []
    for node in draft.graph.node:
        if not _is_quantiser(node):
            nodes.append(node)
            continue
        replaced = _replaced(draft, node, constants)
        nodes += [node] if replaced is None else replaced
    draft.set_nodes(nodes)
    if is_qonnx(draft.model):
        try:
            lowered = lower_qonnx(draft.light())
        except JudgeError as error:
            raise draft.refusal(str(error)) from error
        known = draft.initialisers()
        draft.set_nodes(lowered.graph.node)
        draft.graph.initializer.extend(
            tensor for tensor in lowered.graph.initializer if tensor.name not in known
        )
    _drop_domains(draft)


def _is_quantiser(node: onnx.NodeProto) -> bool:
    known = node.op_type in ("Quant", "IntQuant", "BipolarQuant")
    return known and node.domain.startswith(QONNX_DOMAINS)


def _drop_domains(draft: Draft) -> None:
    used = {node.domain for node in draft.graph.node} | {""}
    kept = [entry for entry in draft.model.opset_import if entry.domain in used]
    del draft.model.opset_import[:]
    draft.model.opset_import.extend(kept)


def _replaced(
    draft: Draft, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto] | None:
    """Nodes in place of a quantiser; None if there are none of the same function."""
    if any(name not in constants for name in node.input[1:]):
        return None
    scale = draft.array(constants[node.input[1]])
    if scale.dtype != np.float32 or not np.isfinite(scale).all() or (scale <= 0).any():
        return None
    value = constants.get(node.input[0])
    if node.op_type == "BipolarQuant":
        if value is None:
            return None
        signs = np.where(draft.array(value) >= 0, 1, -1)
        return _dequantised(draft, node, signs, scale, 0, np.int8)
    values = attributes_of(node)
    mode = values.get("rounding_mode", b"ROUND")
    zero = draft.array(constants[node.input[2]])
    bits = draft.array(constants[node.input[3]])
    if mode.upper() not in (b"ROUND", b"HALF_EVEN") or zero.size != 1 or bits.size != 1:
        return None
    shift, width = float(zero.reshape(())), float(bits.reshape(()))
    if shift % 2 or not width.is_integer() or not 1 <= width <= MAX_BITS:
        return None
    signed, narrow = bool(values.get("signed", 1)), bool(values.get("narrow", 0))
    low, high = integer_bounds(width, signed=signed, narrow=narrow and (signed or width > 1))
    dtype = (np.int8 if signed else np.uint8) if width <= 8 else np.int32
    limits = np.iinfo(dtype)
    if not limits.min <= min(low, shift) <= max(high, shift) <= limits.max:
        return None
    if value is not None:
        quotient = draft.array(value).astype(np.float64) / scale.astype(np.float64) + shift
        integers = np.rint(np.clip(quotient, low, high))
        return _dequantised(draft, node, integers, scale, int(shift), dtype)
    if width > 8 or scale.size != 1:
        return None
    return _quantiser(draft, node, scale, int(shift), (low, high), dtype)


def _dequantised(
    draft: Draft, node: onnx.NodeProto, integers: Array, scale: Array, zero: int, dtype: Any
) -> list[onnx.NodeProto] | None:
    """A DequantizeLinear of integers that are known."""
    (output,) = node.output
    attributes = {}
    if scale.size == 1:
        vector = scale.reshape(())
    else:
        along = [axis for axis, size in enumerate(scale.shape) if size > 1]
        if len(along) != 1 or integers.ndim < scale.ndim:
            return None
        attributes["axis"] = along[0] + integers.ndim - scale.ndim
        vector = scale.reshape(-1)
        if integers.shape[attributes["axis"]] != vector.size:
            return None
    if dtype is np.int32 and zero:
        return None
    names = [
        draft.add_constant(f"{output}_integers", integers.astype(dtype)),
        draft.add_constant(f"{output}_scale", vector),
    ]
    if dtype is not np.int32:
        names.append(draft.add_constant(f"{output}_zero_point", np.full(vector.shape, zero, dtype)))
    return [onnx.helper.make_node("DequantizeLinear", names, [output], node.name, **attributes)]


def _quantiser(
    draft: Draft,
    node: onnx.NodeProto,
    scale: Array,
    zero: int,
    bounds: tuple[float, float],
    dtype: Any,
) -> list[onnx.NodeProto]:
    """Clip, where bounds are not those of the type, QuantizeLinear and DequantizeLinear."""
    (output,) = node.output
    nodes = []
    value = node.input[0]
    limits = np.iinfo(dtype)
    if (limits.min, limits.max) != bounds:
        reals = [np.float32(bound - zero) * np.float32(scale.reshape(())) for bound in bounds]
        names = [draft.add_constant(f"{output}_bound", np.float32(real)) for real in reals]
        clipped = draft.fresh(f"{output}_clipped")
        nodes.append(onnx.helper.make_node("Clip", [value, *names], [clipped], clipped))
        value = clipped
    numbers = [
        draft.add_constant(f"{output}_scale", scale.reshape(())),
        draft.add_constant(f"{output}_zero_point", np.array(zero, dtype)),
    ]
    integers = draft.fresh(f"{output}_integers")
    return [
        *nodes,
        onnx.helper.make_node("QuantizeLinear", [value, *numbers], [integers], integers),
        onnx.helper.make_node("DequantizeLinear", [integers, *numbers], [output], node.name),
    ]
