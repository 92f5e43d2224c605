"""The same networks as other tools write them: QONNX, and operators on integers."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["to_integer_operators", "to_qonnx"]

DOMAIN = "qonnx.custom_op.general"
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class _Form:
    """The form of an operator on integers: its kind, operands, and attributes that it has not."""

    op_type: str
    domain: str = MICROSOFT
    operands: int = 1
    weights: bool = False
    without: tuple[str, ...] = ()


INTEGER_FORMS = {
    "Add": _Form("QLinearAdd", operands=2),
    "AveragePool": _Form("QLinearAveragePool"),
    "Concat": _Form("QLinearConcat", operands=99),
    "Conv": _Form("QLinearConv", "", 2, weights=True),
    "Gemm": _Form("QGemm", operands=2, weights=True, without=("beta",)),
    "GlobalAveragePool": _Form("QLinearGlobalAveragePool"),
    "LeakyRelu": _Form("QLinearLeakyRelu"),
    "MatMul": _Form("QLinearMatMul", "", 2, weights=True),
    "Mul": _Form("QLinearMul", operands=2),
    "Sigmoid": _Form("QLinearSigmoid"),
}


class _Graph:
    """A graph with what makes and what reads each tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.proto = graph
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers = Counter(name for node in graph.node for name in node.input)
        self.readers.update(info.name for info in graph.output)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = node.attribute[0].t

    def maker(self, name: str, op_type: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is of a kind."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == op_type else None

    def array(self, name: str) -> np.ndarray:
        """A constant."""
        return numpy_helper.to_array(self.constants[name])

    def add(self, array: np.ndarray, name: str) -> str:
        """Add a constant."""
        self.proto.initializer.append(numpy_helper.from_array(array, name))
        return name

    def drop_unread(self) -> None:
        """Remove nodes whose outputs nothing reads."""
        while True:
            read = {name for node in self.proto.node for name in node.input}
            read |= {info.name for info in self.proto.output}
            unread = [node for node in self.proto.node if not read & {*node.output}]
            if not unread:
                return
            for node in unread:
                self.proto.node.remove(node)


def to_qonnx(model: onnx.ModelProto) -> None:
    """Write quantisers of activations, and of weights of one scale, as QONNX's Quant."""
    graph = _Graph(model.graph)
    for node in list(model.graph.node):
        if node.op_type != "DequantizeLinear":
            continue
        quantise = graph.maker(node.input[0], "QuantizeLinear")
        if quantise is not None and graph.readers[node.input[0]] == 1:
            source, numbers = quantise.input[0], list(quantise.input[1:])
            zero = graph.array(numbers[1]) if len(numbers) > 1 else np.zeros((), np.uint8)
        elif node.input[0] in graph.constants:
            integers = graph.array(node.input[0])
            scale = graph.array(node.input[1])
            if integers.dtype != np.int8 or scale.size != 1:
                continue
            source = graph.add((integers * scale).astype(np.float32), f"{node.output[0]}_weights")
            numbers, zero = list(node.input[1:]), np.zeros((), np.int8)
        else:
            continue
        names = [
            graph.add(np.asarray(value, np.float32), f"{node.output[0]}_{what}")
            for what, value in (("zero", zero), ("bits", 8))
        ]
        quant = helper.make_node(
            "Quant",
            [source, numbers[0], *names],
            list(node.output),
            f"quant_{node.output[0]}",
            domain=DOMAIN,
            signed=int(zero.dtype == np.int8),
            narrow=0,
            rounding_mode="ROUND",
        )
        place = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        model.graph.node.insert(place, quant)
    graph.drop_unread()
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def to_integer_operators(model: onnx.ModelProto) -> None:
    """Write operators between quantisers as those on integers, where one has such a form."""
    graph = _Graph(model.graph)
    for node in list(model.graph.node):
        if node.op_type != "QuantizeLinear" or len(node.input) < 3:
            continue
        inner = graph.makers.get(node.input[0])
        if inner is None or inner.op_type not in INTEGER_FORMS or graph.readers[node.input[0]] > 1:
            continue
        triples = _triples(graph, inner, graph.array(node.input[2]).dtype)
        if triples is None:
            continue
        form = INTEGER_FORMS[inner.op_type]
        flat = [name for triple in triples for name in triple]
        numbers = list(node.input[1:])
        inputs = [*numbers, *flat] if inner.op_type == "Concat" else [*flat, *numbers]
        if inner.op_type == "Gemm":
            inputs = [*flat, "", *numbers]
        made = helper.make_node(
            form.op_type, inputs, list(node.output), f"integer_{inner.name}", domain=form.domain
        )
        made.attribute.extend(entry for entry in inner.attribute if entry.name not in form.without)
        place = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        model.graph.node.insert(place, made)
    graph.drop_unread()
    if any(node.domain == MICROSOFT for node in model.graph.node):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _triples(graph: _Graph, inner: onnx.NodeProto, dtype: np.dtype[Any]) -> list[list[str]] | None:
    """Integers, scale and zero point of each operand, if onnxruntime takes such integers."""
    form = INTEGER_FORMS[inner.op_type]
    if len(inner.input) > form.operands:
        return None
    pairs = [graph.maker(name, "DequantizeLinear") for name in inner.input]
    triples = [list(pair.input) for pair in pairs if pair is not None and len(pair.input) == 3]
    if len(triples) != len(inner.input):
        return None
    # One type of activations; weights may be of another.
    activations = triples[:1] if form.weights else triples
    if any(graph.array(triple[2]).dtype != dtype for triple in activations):
        return None
    if form.weights and triples[1][0] not in graph.constants:
        return None
    return triples
