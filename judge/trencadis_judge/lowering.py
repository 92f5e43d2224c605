"""QONNX's operators written as standard ONNX operators.

Definitions are those of the package `qonnx` (custom_op/general: quant, bipolar_quant, trunc):

- Quant: y = (round(clip(x / scale + zero_point)) - zero_point) * scale; bounds follow from the bit
  width, `signed` and `narrow`, and rounding is one of seven modes. One signed bit is a sign;
- BipolarQuant: y = scale where x >= 0, else -scale;
- Trunc: drops low bits of what is quantised already.

Tensors keep their names; those that are new begin with the name of the node's output.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trencadis_judge.errors import UnsupportedOperatorError

__all__ = [
    "MIN_QONNX_OPSET",
    "QONNX_DOMAINS",
    "QONNX_OPERATORS",
    "integer_bounds",
    "is_qonnx",
    "lower_qonnx",
]

QONNX_DOMAINS = (
    "qonnx.custom_op.general",
    "finn.custom_op.general",
    "onnx.brevitas",
    "qonnx",
)
"""Domains that these operators have had."""

QONNX_OPERATORS = ("Quant", "IntQuant", "BipolarQuant", "Trunc")

MIN_QONNX_OPSET = 7
"""The opset before which two tensors did not meet by their last axes.

Round, and Clip with tensors as bounds, are of opset 11: beside an older one the evaluator computes
the lowered operators, and onnxruntime is not asked.
"""


def is_qonnx(model: onnx.ModelProto) -> bool:
    """Return whether a model has any of QONNX's quantisers."""
    return any(_is_quantiser(node) for node in model.graph.node)


def _is_quantiser(node: onnx.NodeProto) -> bool:
    if node.op_type not in QONNX_OPERATORS:
        return False
    return any(
        node.domain == known or node.domain.startswith(f"{known}.") for known in QONNX_DOMAINS
    )


def integer_bounds(bits: float, *, signed: bool, narrow: bool) -> tuple[float, float]:
    """Smallest and largest integer of a bit width, which may be a fraction."""
    if signed:
        return -(2.0 ** (bits - 1)) + narrow, 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1 - narrow


def lower_qonnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model with standard operators in place of QONNX's quantisers.

    Raises
    ------
    UnsupportedOperatorError
        If a bit width is not a constant, a rounding mode is unknown, or the opset is below 7.
    """
    standard = max(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        default=1,
    )
    if standard < MIN_QONNX_OPSET:
        raise UnsupportedOperatorError(
            f"QONNX operators beside opset {standard}; convert the model to opset "
            f"{MIN_QONNX_OPSET} or later"
        )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    builder = _Builder(result)
    for node in model.graph.node:
        if _is_quantiser(node):
            _LOWERINGS[node.op_type](builder, node)
        else:
            builder.nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(builder.nodes)
    kept = [
        entry
        for entry in result.opset_import
        if not entry.domain.startswith(QONNX_DOMAINS)
        or any(node.domain == entry.domain for node in builder.nodes)
    ]
    del result.opset_import[:]
    result.opset_import.extend(kept)
    return result


class _Builder:
    """Nodes and constants under way."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self.nodes: list[onnx.NodeProto] = []
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                for entry in node.attribute:
                    if entry.name == "value":
                        self._constants[node.output[0]] = entry.t
        self._names = {
            *self._constants,
            *(name for node in model.graph.node for name in (*node.input, *node.output)),
            *(info.name for info in (*model.graph.input, *model.graph.output)),
        }

    def fresh(self, name: str) -> str:
        """A name that is not taken."""
        number, found = 0, name
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def number(self, name: str, what: str) -> float:
        """A constant that is a single number.

        Raises
        ------
        UnsupportedOperatorError
            If it is not.
        """
        tensor = self._constants.get(name)
        array = None if tensor is None else numpy_helper.to_array(tensor)
        if array is None or array.size != 1:
            raise UnsupportedOperatorError(f"{what} {name!r} must be one constant number")
        return float(array.reshape(()).item())

    def constant(self, prefix: str, value: float) -> str:
        """Add a float32 number to the graph."""
        name = self.fresh(prefix)
        self._graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def add(self, op_type: str, inputs: Sequence[str], output: str) -> str:
        """Add a node."""
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], self.fresh(output)))
        return output

    def step(self, op_type: str, inputs: Sequence[str], prefix: str) -> str:
        """Add a node with a new output."""
        return self.add(op_type, inputs, self.fresh(prefix))


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _flag(node: onnx.NodeProto, name: str, default: int | None = None) -> bool:
    value = _attributes(node).get(name, default)
    if not isinstance(value, int):
        raise UnsupportedOperatorError(
            f"{node.op_type} {node.name or node.output[0]!r}: attribute {name!r} is missing; "
            "export the model again"
        )
    return bool(value)


def _rounding(node: onnx.NodeProto, default: str) -> str:
    value = _attributes(node).get("rounding_mode", default)
    text = value.decode() if isinstance(value, bytes) else str(value)
    return text.upper()


def _round(builder: _Builder, node: onnx.NodeProto, value: str, mode: str, prefix: str) -> str:
    """Round a tensor to integers in one of QONNX's modes."""
    if mode in ("ROUND", "HALF_EVEN"):
        return builder.step("Round", [value], prefix)
    if mode in ("FLOOR", "CEIL"):
        return builder.step("Floor" if mode == "FLOOR" else "Ceil", [value], prefix)
    sign = builder.step("Sign", [value], f"{prefix}_sign")
    size = builder.step("Abs", [value], f"{prefix}_size")
    half = builder.constant(f"{prefix}_half", 0.5)
    if mode == "DOWN":
        size = builder.step("Floor", [size], f"{prefix}_floor")
    elif mode == "UP":
        size = builder.step("Ceil", [size], f"{prefix}_ceil")
    elif mode == "HALF_UP":
        more = builder.step("Add", [size, half], f"{prefix}_more")
        size = builder.step("Floor", [more], f"{prefix}_floor")
    elif mode == "HALF_DOWN":
        less = builder.step("Sub", [size, half], f"{prefix}_less")
        size = builder.step("Ceil", [less], f"{prefix}_ceil")
    else:
        raise UnsupportedOperatorError(
            f"{node.op_type} {node.name or node.output[0]!r}: unknown rounding_mode {mode}"
        )
    return builder.step("Mul", [sign, size], prefix)


def _lower_quant(builder: _Builder, node: onnx.NodeProto) -> None:
    value, scale, zero_point, bit_width = node.input
    (output,) = node.output
    bits = builder.number(bit_width, f"bit width of {node.op_type} {node.name or output!r}:")
    signed, narrow = _flag(node, "signed"), _flag(node, "narrow")
    scaled = builder.step("Div", [value, scale], f"{output}_scaled")
    shifted = builder.step("Add", [scaled, zero_point], f"{output}_shifted")
    if bits == 1 and signed:
        integers = _signs(builder, shifted, output)
    else:
        clipped = _clip(
            builder, shifted, integer_bounds(bits, signed=signed, narrow=narrow), output
        )
        mode = _rounding(node, "ROUND")
        integers = _round(builder, node, clipped, mode, f"{output}_integers")
    centred = builder.step("Sub", [integers, zero_point], f"{output}_centred")
    builder.add("Mul", [centred, scale], output)


def _clip(builder: _Builder, value: str, bounds: tuple[float, float], prefix: str) -> str:
    low, high = (
        builder.constant(f"{prefix}_{name}", bound)
        for name, bound in zip(("low", "high"), bounds, strict=True)
    )
    return builder.step("Clip", [value, low, high], f"{prefix}_clipped")


def _signs(builder: _Builder, value: str, prefix: str) -> str:
    """1 where a tensor is not negative, else -1."""
    negative = builder.step(
        "Less", [value, builder.constant(f"{prefix}_zero", 0.0)], f"{prefix}_negative"
    )
    signs = [
        builder.constant(f"{prefix}_{name}", n) for name, n in (("minus", -1.0), ("plus", 1.0))
    ]
    return builder.step("Where", [negative, *signs], f"{prefix}_integers")


def _lower_bipolar(builder: _Builder, node: onnx.NodeProto) -> None:
    value, scale = node.input
    (output,) = node.output
    builder.add("Mul", [_signs(builder, value, output), scale], output)


def _lower_trunc(builder: _Builder, node: onnx.NodeProto) -> None:
    """Lower either version: the second has the output's scale, and clips."""
    second = len(node.input) == 6
    value, scale, zero_point, in_width = node.input[:4]
    (output,) = node.output
    name = f"{node.op_type} {node.name or output!r}:"
    bits = [builder.number(width, f"bit width of {name}") for width in (in_width, node.input[-1])]
    if second:
        ratio = builder.number(node.input[4], f"output scale of {name}") / builder.number(
            scale, f"scale of {name}"
        )
        step = 2.0 ** float(np.round(np.log2(ratio)))
    else:
        step = 2.0 ** (bits[0] - bits[1])
    scaled = builder.step("Div", [value, scale], f"{output}_scaled")
    shifted = builder.step("Add", [scaled, zero_point], f"{output}_shifted")
    rounded = builder.step("Round", [shifted], f"{output}_rounded")
    divisor = builder.constant(f"{output}_step", step)
    divided = builder.step("Div", [rounded, divisor], f"{output}_divided")
    mode = _rounding(node, "FLOOR")
    if second:
        bounds = integer_bounds(
            bits[1], signed=_flag(node, "signed", 1), narrow=_flag(node, "narrow", 0)
        )
        divided = _clip(builder, divided, bounds, output)
    integers = _round(builder, node, divided, mode, f"{output}_integers")
    offset = zero_point
    if second:
        offset = builder.step("Div", [zero_point, divisor], f"{output}_offset")
    centred = builder.step("Sub", [integers, offset], f"{output}_centred")
    builder.add("Mul", [centred, node.input[4] if second else scale], output)


_LOWERINGS: dict[str, Callable[[_Builder, onnx.NodeProto], None]] = {
    "Quant": _lower_quant,
    "IntQuant": _lower_quant,
    "BipolarQuant": _lower_bipolar,
    "Trunc": _lower_trunc,
}
