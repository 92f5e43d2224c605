"""Multiplications of a node: products of maps and weights, recurrent and attention ones.

Element-wise products and normalisations are not counted.
"""

import math
from collections.abc import Callable, Mapping

from trencadis_compiler.importer.graph import Graph, Node

__all__ = ["multiplications", "sizes_of"]

Sizes = list[int]


def multiplications(graph: Graph, node: Node) -> int:
    """Multiplications of a node in a run of the model; 0 of operators that are none of products.

    Sizes that are open count as one; where some are not known the node counts as 0.
    """
    kind = node.op_type.rsplit(".", 1)[-1]
    rule = _RULES.get(kind)
    if rule is None:
        return 0
    operands, count = rule
    if len(node.inputs) <= max(operands):  # such as an Einsum of one operand
        return 0
    names = [*(node.inputs[i] for i in operands), next(filter(None, node.outputs), "")]
    shapes = [sizes_of(graph, name) for name in names]
    known = [shape for shape in shapes if shape is not None]
    return count(node, known) if len(known) == len(shapes) else 0


def sizes_of(graph: Graph, name: str) -> Sizes | None:
    """Sizes of a tensor, 1 where they are open; None if they are not known."""
    constant = graph.constant(name)
    if constant is not None:
        return list(constant.shape)
    info = graph.infos.get(name)
    return None if info is None else [1 if size is None else size for size in info.shape]


def _convolution(node: Node, shapes: list[Sizes]) -> int:
    _, weights, made = shapes
    return math.prod(made) * math.prod(weights[1:])


def _transposed_convolution(node: Node, shapes: list[Sizes]) -> int:
    read, weights, _ = shapes
    return math.prod(read) * math.prod(weights[1:])


def _gemm(node: Node, shapes: list[Sizes]) -> int:
    first, _, made = shapes
    return math.prod(made) * (first[0] if node.attributes.get("transA", 0) else first[-1])


def _matrix(node: Node, shapes: list[Sizes]) -> int:
    first, _, made = shapes
    return math.prod(made) * (first[-1] if first else 1)


def _recurrent(node: Node, shapes: list[Sizes]) -> int:
    """Every step of every sample meets all weights, of the input and of the state."""
    read, weights, recurrent, _ = shapes
    return math.prod(read[:2]) * (math.prod(weights) + math.prod(recurrent))


def _attention(node: Node, shapes: list[Sizes]) -> int:
    """Queries times keys, and weights times values: all heads together."""
    queries, keys, _, made = shapes
    tokens = keys[-2] if len(keys) > 1 else 1
    return (math.prod(queries) + math.prod(made)) * tokens


def _einsum(node: Node, shapes: list[Sizes]) -> int:
    """The sizes of all letters of two operands; those that dots stand for once."""
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if len(terms) != 2:
        return 0
    sizes: dict[str, int] = {}
    dotted = 1
    for term, shape in zip(terms, shapes[:2], strict=True):
        before, dots, after = term.partition("...")
        hidden = len(shape) - len(before) - len(after)
        if hidden < 0 or (hidden and not dots):
            return 0
        sizes.update(zip(before, shape, strict=False))
        sizes.update(zip(after, shape[len(before) + hidden :], strict=True))
        dotted = max(dotted, math.prod(shape[len(before) : len(before) + hidden]))
    return math.prod(sizes.values()) * dotted


_Rule = tuple[tuple[int, ...], Callable[[Node, list[Sizes]], int]]

_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv"), ((0, 1), _convolution)),
    "ConvTranspose": ((0, 1), _transposed_convolution),
    "QLinearConv": ((0, 3), _convolution),
    **dict.fromkeys(("Gemm", "FusedGemm"), ((0, 1), _gemm)),
    "QGemm": ((0, 3), _gemm),
    **dict.fromkeys(
        ("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "FusedMatMul", "DynamicQuantizeMatMul"),
        ((0, 1), _matrix),
    ),
    "MatMulNBits": ((0, 1), _matrix),
    "QLinearMatMul": ((0, 3), _matrix),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), ((0, 1, 2), _recurrent)),
    "Attention": ((0, 1, 2), _attention),
    "Einsum": ((0, 1), _einsum),
}
"""By type: the inputs whose sizes the output's follow, and how their products are counted."""
