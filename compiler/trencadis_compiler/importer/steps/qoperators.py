"""Operators on quantised tensors (QOperator files) as operators on real numbers between Q and DQ.

Both say the same of real numbers, which is what the device computes; onnxruntime's own kernels
differ between them by a step where float32 is near a tie. Dynamic quantisation, MatMulInteger,
ConvInteger and what is not listed here stay, and run on the host as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from trencadis_compiler.importer.reading.draft import Draft, attributes_of

__all__ = ["write_out_qoperators"]

MICROSOFT = "com.microsoft"

Rule = Callable[["_Rewriting"], None]


class _Unknown(Exception):
    """A form of an operator that stays as it is."""


def write_out_qoperators(draft: Draft) -> None:
    """Replace operators of quantised tensors by DequantizeLinear, the operator, QuantizeLinear."""
    nodes: list[onnx.NodeProto] = []
    constants = draft.initialisers()
    changed = False
    for node in draft.graph.node:
        rule = _RULES.get((node.domain, node.op_type))
        if rule is None:
            nodes.append(node)
            continue
        rewriting = _Rewriting(draft, node, constants)
        try:
            rule(rewriting)
        except _Unknown:
            nodes.append(node)
        else:
            nodes.extend(rewriting.nodes)
            changed = True
    if changed:
        draft.set_nodes(nodes)


class _Rewriting:
    """A node that is being replaced."""

    def __init__(
        self, draft: Draft, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
    ) -> None:
        self._draft = draft
        self.node = node
        self.attributes = dict(attributes_of(node))
        self.constants = constants
        self.nodes: list[onnx.NodeProto] = []
        self._output = node.output[0]

    def input(self, number: int) -> str:
        """The name of an input; "" if it is left out."""
        return self.node.input[number] if number < len(self.node.input) else ""

    def size(self, name: str) -> int:
        """Elements of a constant.

        Raises
        ------
        _Unknown
            If it is none: a parameter that is computed may have any shape.
        """
        if name not in self.constants:
            raise _Unknown
        return int(np.prod(self.constants[name].dims, dtype=np.int64))

    def step(self, op_type: str, inputs: Sequence[str], suffix: str, **attributes: Any) -> str:
        """Add a node with a new output."""
        name = self._draft.fresh(f"{self._output}_{suffix}")
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [name], name, **attributes))
        return name

    def real(self, value: str, scale: str, zero: str, suffix: str, axis: int | None = None) -> str:
        """A tensor dequantised; with an axis if it has a scale for each of its elements."""
        attributes = {} if self.size(scale) == 1 or axis is None else {"axis": axis}
        if self.size(scale) > 1 and axis is None:
            raise _Unknown
        if zero and self.size(zero) != self.size(scale):
            raise _Unknown
        inputs = [value, scale, zero] if zero else [value, scale]
        return self.step("DequantizeLinear", inputs, suffix, **attributes)

    def number(self, value: float, suffix: str) -> str:
        """A constant."""
        return self._draft.add_constant(f"{self._output}_{suffix}", np.float32(value))

    def finish(self, result: str, scale: str, zero: str) -> None:
        """Quantise the result to the node's own output."""
        if self.size(scale) != 1:
            raise _Unknown
        if not zero:
            zero = self._draft.add_constant(f"{self._output}_zero_point", self._zero())
        self.nodes.append(
            onnx.helper.make_node(
                "QuantizeLinear", [result, scale, zero], [self._output], self.node.name
            )
        )

    def rename_last(self) -> None:
        """Give the last node's output the name of the node's own."""
        self.nodes[-1].output[0] = self._output
        self.nodes[-1].name = self.node.name

    def _zero(self) -> Any:
        """A zero of the type that quantised tensors of the node have."""
        for name in self.node.input:
            tensor = self.constants.get(name)
            if tensor is not None and tensor.data_type in _EIGHT_BITS:
                return np.zeros((), _EIGHT_BITS[tensor.data_type])
        raise _Unknown


_EIGHT_BITS: Mapping[int, Any] = {onnx.TensorProto.INT8: np.int8, onnx.TensorProto.UINT8: np.uint8}


def _conv(r: _Rewriting) -> None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (r.input(i) for i in range(8))
    inputs = [r.real(x, x_scale, x_zero, "x"), r.real(w, w_scale, w_zero, "w", axis=0)]
    if r.input(8):
        inputs.append(_bias(r, r.input(8), x_scale, w_scale, axis=0))
    r.finish(r.step("Conv", inputs, "real", **r.attributes), y_scale, y_zero)


def _bias(r: _Rewriting, bias: str, x_scale: str, w_scale: str, axis: int) -> str:
    """A bias in units of a product: by both scales in turn, as their product may be no float32."""
    real = r.real(bias, w_scale, "", "bias_w", axis=axis)
    if r.size(x_scale) != 1:
        raise _Unknown
    return r.step("Mul", [real, x_scale], "bias")


def _matmul(r: _Rewriting) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (r.input(i) for i in range(8))
    rank = len(r.constants[b].dims) if b in r.constants else 2
    inputs = [r.real(a, a_scale, a_zero, "a"), r.real(b, b_scale, b_zero, "b", axis=rank - 1)]
    r.finish(r.step("MatMul", inputs, "real"), y_scale, y_zero)


def _gemm(r: _Rewriting) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = (r.input(i) for i in range(9))
    attributes = dict(r.attributes)
    alpha = attributes.get("alpha", 1.0)
    axis = 0 if attributes.get("transB", 0) else 1
    inputs = [r.real(a, a_scale, a_zero, "a"), r.real(b, b_scale, b_zero, "b", axis=axis)]
    if c:
        if c not in r.constants:
            raise _Unknown
        bias = _bias(r, c, a_scale, b_scale, axis=len(r.constants[c].dims) - 1)
        if alpha != 1.0:
            bias = r.step("Mul", [bias, r.number(alpha, "alpha")], "bias_alpha")
        inputs.append(bias)
    result = r.step("Gemm", inputs, "real", **attributes)
    if y_scale:
        r.finish(result, y_scale, y_zero)
    else:
        r.rename_last()


def _binary(op_type: str) -> Rule:
    def rule(r: _Rewriting) -> None:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (r.input(i) for i in range(8))
        inputs = [r.real(a, a_scale, a_zero, "a"), r.real(b, b_scale, b_zero, "b")]
        r.finish(r.step(op_type, inputs, "real"), y_scale, y_zero)

    return rule


def _unary(op_type: str) -> Rule:
    def rule(r: _Rewriting) -> None:
        x, x_scale, x_zero, y_scale, y_zero = (r.input(i) for i in range(5))
        attributes = dict(r.attributes)
        if attributes.pop("channels_last", 0):
            raise _Unknown
        inputs = [r.real(x, x_scale, x_zero, "x")]
        if op_type == "ReduceMean" and "axes" in attributes:
            axes = np.array(attributes.pop("axes"), np.int64)
            inputs.append(r._draft.add_constant(f"{r.node.output[0]}_axes", axes))
        r.finish(r.step(op_type, inputs, "real", **attributes), y_scale, y_zero)

    return rule


def _concat(r: _Rewriting) -> None:
    if len(r.node.input) < 5 or len(r.node.input) % 3 != 2:
        raise _Unknown
    parts = [
        r.real(r.input(i), r.input(i + 1), r.input(i + 2), f"x{i // 3}")
        for i in range(2, len(r.node.input), 3)
    ]
    r.finish(r.step("Concat", parts, "real", **r.attributes), r.input(0), r.input(1))


def _where(r: _Rewriting) -> None:
    condition, x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero = (
        r.input(i) for i in range(9)
    )
    inputs = [condition, r.real(x, x_scale, x_zero, "x"), r.real(y, y_scale, y_zero, "y")]
    r.finish(r.step("Where", inputs, "real"), z_scale, z_zero)


def _standard(r: _Rewriting) -> None:
    """Q and DQ of onnxruntime's own domain, where they are those of the standard's."""
    value, scale, zero = (r.input(i) for i in range(3))
    if not zero or r.constants[zero].data_type not in _EIGHT_BITS or r.attributes.get("block_size"):
        raise _Unknown
    if r.size(scale) > 1 and "axis" not in r.attributes:
        raise _Unknown
    node = onnx.helper.make_node(
        r.node.op_type, [value, scale, zero], list(r.node.output), r.node.name
    )
    if r.size(scale) > 1:
        node.attribute.append(onnx.helper.make_attribute("axis", r.attributes["axis"]))
    r.nodes.append(node)


_RULES: Mapping[tuple[str, str], Rule] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    (MICROSOFT, "DequantizeLinear"): _standard,
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "QLinearAdd"): _binary("Add"),
    (MICROSOFT, "QLinearAveragePool"): _unary("AveragePool"),
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "QLinearGlobalAveragePool"): _unary("GlobalAveragePool"),
    (MICROSOFT, "QLinearLeakyRelu"): _unary("LeakyRelu"),
    (MICROSOFT, "QLinearMul"): _binary("Mul"),
    (MICROSOFT, "QLinearReduceMean"): _unary("ReduceMean"),
    (MICROSOFT, "QLinearSigmoid"): _unary("Sigmoid"),
    (MICROSOFT, "QLinearWhere"): _where,
    (MICROSOFT, "QuantizeLinear"): _standard,
}
