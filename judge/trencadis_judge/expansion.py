"""Operators written as others: QOperator's kinds, and ONNX's own functions.

onnxruntime runs the node of the file; the evaluator computes what this writes in its place. A
QLinear operator is what its name says: its inputs dequantised, the operator, its output quantised.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_judge.node import Node, read_attributes
from trencadis_judge.operators.movement import CHANNELS_FIRST, CHANNELS_LAST
from trencadis_judge.table import OPERATORS

__all__ = ["Expansion", "expand"]

Array = npt.NDArray[Any]

MICROSOFT = "com.microsoft"

STANDARD_VERSION = 21
"""Opset whose operators are written in place of onnxruntime's own."""


@dataclass
class Expansion:
    """Nodes in place of one, and constants that they read."""

    node: Node
    nodes: list[Node]
    constants: dict[str, Array]

    def add(self, op_type: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node; its output gets a name that no file has."""
        output = output or f"{self.node.outputs[0]}\0{len(self.nodes)}"
        self.nodes.append(
            replace(
                self.node,
                op_type=op_type,
                inputs=tuple(inputs),
                outputs=(output,),
                attributes=attributes,
                version=STANDARD_VERSION,
            )
        )
        return output

    def constant(self, array: Array) -> str:
        """Add a constant."""
        name = f"{self.node.outputs[0]}\0constant{len(self.constants)}"
        self.constants[name] = array
        return name

    def dequantised(self, first: int, **attributes: Any) -> str:
        """Three inputs of the node, a tensor, its scale and zero point, as real numbers."""
        inputs = [*self.node.inputs, "", ""][first : first + 3]
        return self.add("DequantizeLinear", inputs, **attributes)

    def quantised(self, value: str, first: int) -> None:
        """Quantise to the node's output by two of its inputs, scale and zero point."""
        inputs = [*self.node.inputs, ""][first : first + 2]
        self.add("QuantizeLinear", [value, *inputs], self.node.outputs[0])


def expand(node: Node) -> Expansion | None:
    """Nodes in place of a node; None if the evaluator has the operator itself, or no rule."""
    expansion = Expansion(node, [], {})
    rule = _RULES.get(node.op_type)
    if rule is not None:
        rule(expansion)
        return expansion
    if node.op_type in OPERATORS or "." in node.op_type:
        return None
    return _function(expansion)


def _has(node: Node, position: int) -> bool:
    return position < len(node.inputs) and bool(node.inputs[position])


def _bias(e: Expansion, name: str, scale: str, factor: str, axis: int) -> str:
    """An int32 bias, whose scale is the product of two."""
    real = e.add("DequantizeLinear", [name, scale], axis=axis)
    return e.add("Mul", [real, factor])


def _conv(e: Expansion) -> None:
    value = e.dequantised(0)
    kernels = e.dequantised(3, axis=0)
    inputs = [value, kernels]
    if _has(e.node, 8):
        inputs.append(_bias(e, e.node.inputs[8], e.node.inputs[4], e.node.inputs[1], 0))
    e.quantised(e.add("Conv", inputs, **e.node.attributes), 6)


def _matmul(e: Expansion) -> None:
    e.quantised(e.add("MatMul", [e.dequantised(0), e.dequantised(3, axis=-1)]), 6)


def _gemm(e: Expansion) -> None:
    names = e.node.inputs
    turned = bool(e.node.attributes.get("transB", 0))
    product = [e.dequantised(0), e.dequantised(3, axis=0 if turned else 1)]
    if _has(e.node, 6):
        bias = _bias(e, names[6], names[4], names[1], -1)
        alpha = e.constant(np.array(e.node.attributes.get("alpha", 1.0), np.float32))
        product.append(e.add("Mul", [bias, alpha]))
    attributes = {k: v for k, v in e.node.attributes.items() if k in ("alpha", "transA", "transB")}
    if _has(e.node, 7):
        e.quantised(e.add("Gemm", product, **attributes), 7)
    else:
        e.add("Gemm", product, e.node.outputs[0], **attributes)


def _two(op_type: str) -> Callable[[Expansion], None]:
    def rule(e: Expansion) -> None:
        e.quantised(e.add(op_type, [e.dequantised(0), e.dequantised(3)]), 6)

    return rule


def _one(op_type: str) -> Callable[[Expansion], None]:
    def rule(e: Expansion) -> None:
        attributes = dict(e.node.attributes)
        value = e.dequantised(0)
        last = bool(attributes.pop("channels_last", 0))
        if last:
            value = e.add(CHANNELS_FIRST, [value])
        value = e.add(op_type, [value], **attributes)
        e.quantised(e.add(CHANNELS_LAST, [value]) if last else value, 3)

    return rule


def _concat(e: Expansion) -> None:
    values = [e.dequantised(i) for i in range(2, len(e.node.inputs), 3)]
    e.quantised(e.add("Concat", values, axis=e.node.attributes["axis"]), 0)


def _where(e: Expansion) -> None:
    value = e.add("Where", [e.node.inputs[0], e.dequantised(1), e.dequantised(4)])
    e.quantised(value, 7)


def _integer_product(e: Expansion) -> None:
    """MatMulIntegerToFloat: A, B, their scales and zero points, bias."""
    names = [*e.node.inputs, "", "", ""]
    first = e.add("DequantizeLinear", [names[0], names[2], names[4]])
    second = e.add("DequantizeLinear", [names[1], names[3], names[5]], axis=-1)
    _with_bias(e, e.add("MatMul", [first, second]), names[6])


def _dynamic_product(e: Expansion) -> None:
    """DynamicQuantizeMatMul: A, B, B's scale and zero point, bias."""
    names = [*e.node.inputs, "", ""]
    output = f"{e.node.outputs[0]}\0quantised"
    parts = (output, f"{output}\0scale", f"{output}\0zero")
    e.add("DynamicQuantizeLinear", [names[0]], output)
    e.nodes[-1] = replace(e.nodes[-1], outputs=parts)
    first = e.add("DequantizeLinear", parts)
    second = e.add("DequantizeLinear", [names[1], names[2], names[3]], axis=-1)
    _with_bias(e, e.add("MatMul", [first, second]), names[4])


def _with_bias(e: Expansion, value: str, bias: str) -> None:
    if bias:
        e.add("Add", [value, bias], e.node.outputs[0])
    else:
        e.add("Identity", [value], e.node.outputs[0])


def _fast_gelu(e: Expansion) -> None:
    value = e.node.inputs[0]
    if _has(e.node, 1):
        value = e.add("Add", [value, e.node.inputs[1]])
    e.add("Gelu", [value], e.node.outputs[0], approximate="tanh")


def _bias_gelu(e: Expansion) -> None:
    e.add("Gelu", [e.add("Add", e.node.inputs[:2])], e.node.outputs[0])


def _skip_normalization(e: Expansion) -> None:
    value = e.add("Add", e.node.inputs[:2])
    if _has(e.node, 4):
        value = e.add("Add", [value, e.node.inputs[4]])
    inputs = [value, e.node.inputs[2], *([e.node.inputs[3]] if _has(e.node, 3) else [])]
    epsilon = e.node.attributes.get("epsilon", 1e-12)
    e.add("LayerNormalization", inputs, e.node.outputs[0], axis=-1, epsilon=epsilon)


_RULES: dict[str, Callable[[Expansion], None]] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    f"{MICROSOFT}.BiasGelu": _bias_gelu,
    f"{MICROSOFT}.DynamicQuantizeMatMul": _dynamic_product,
    f"{MICROSOFT}.FastGelu": _fast_gelu,
    f"{MICROSOFT}.MatMulIntegerToFloat": _integer_product,
    f"{MICROSOFT}.QGemm": _gemm,
    f"{MICROSOFT}.QLinearAdd": _two("Add"),
    f"{MICROSOFT}.QLinearAveragePool": _one("AveragePool"),
    f"{MICROSOFT}.QLinearConcat": _concat,
    f"{MICROSOFT}.QLinearGlobalAveragePool": _one("GlobalAveragePool"),
    f"{MICROSOFT}.QLinearLeakyRelu": _one("LeakyRelu"),
    f"{MICROSOFT}.QLinearMul": _two("Mul"),
    f"{MICROSOFT}.QLinearReduceMean": _one("ReduceMean"),
    f"{MICROSOFT}.QLinearSigmoid": _one("Sigmoid"),
    f"{MICROSOFT}.QLinearWhere": _where,
    f"{MICROSOFT}.SkipLayerNormalization": _skip_normalization,
}


def _function(e: Expansion) -> Expansion | None:
    """Write a function of ONNX's own as its body, where that depends on nothing but attributes."""
    node = e.node
    try:
        schema: Any = onnx.defs.get_schema(
            node.op_type, max_inclusive_version=node.version, domain=""
        )
    except onnx.defs.SchemaError:
        return None
    if not schema.has_function:
        return None
    body = schema.get_function_with_opset_version(schema.function_opset_versions[-1])
    function = onnx.FunctionProto()
    function.ParseFromString(body)
    names = dict(zip(function.input, [*node.inputs, *[""] * len(function.input)], strict=False))
    names.update(zip(function.output, node.outputs, strict=False))
    version = next((entry.version for entry in function.opset_import if not entry.domain), 1)
    defaults = {name: attribute.default_value for name, attribute in schema.attributes.items()}
    for inner in function.node:
        outputs = tuple(_renamed(e, names, name) for name in inner.output)
        e.nodes.append(
            replace(
                node,
                op_type=inner.op_type,
                inputs=tuple(_renamed(e, names, name) for name in inner.input),
                outputs=outputs,
                attributes=dict(_bound(inner, node.attributes, defaults)),
                version=version,
            )
        )
    return e


def _renamed(e: Expansion, names: dict[str, str], name: str) -> str:
    if not name:
        return ""
    return names.setdefault(name, f"{e.node.outputs[0]}\0{name}")


def _bound(
    inner: onnx.NodeProto,
    given: Mapping[str, Any],
    defaults: Mapping[str, onnx.AttributeProto],
) -> Iterator[tuple[str, Any]]:
    """Attributes of a node of a function's body, with references to the function's own."""
    for entry in inner.attribute:
        if not entry.ref_attr_name:
            yield from read_attributes([entry])
        elif entry.ref_attr_name in given:
            yield entry.name, given[entry.ref_attr_name]
        else:
            default = defaults.get(entry.ref_attr_name)
            if default is not None and default.type:
                (pair,) = read_attributes([default])
                yield entry.name, pair[1]
