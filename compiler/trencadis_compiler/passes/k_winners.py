"""Finds k-WTA in the ways exporters write it, and puts one operator in its place.

Requires: a graph in topological order.
Ensures: `KWinners` stands only for patterns of whose nodes every attribute and input is known.

Matched, with quantise-dequantise pairs that change nothing anywhere between the nodes:

- `Where(x >= last of TopK(x), x, 0)`, also as a product with the mask: all that are at least the
  k-th largest (`exact` = 0);
- `ScatterElements(0, indices of TopK(x), values)`, the values from TopK or gathered: exactly k;
- `Where(mask, x, 0)`, or a product with the mask, where the mask is ones scattered to the indices
  of TopK(x): exactly k.

Not matched, so that it is reported as unsupported: a ranking by anything but x itself (boosting),
the smallest instead of the largest, more than one axis.
"""

from collections.abc import Mapping

import numpy as np

from trencadis_compiler.errors import Unsupported
from trencadis_compiler.importer.graph import K_WINNERS, Graph, Node
from trencadis_compiler.passes.base.operator import (
    Attribute,
    array,
    check_node,
    check_table,
    integer,
    text,
)
from trencadis_compiler.passes.operators import OPERATORS

__all__ = ["find_k_winners"]

REAL, BOOLEAN = (1, 11), (1, 9, 11)
"""ONNX's numbers of types that a cast may be to: of what is ranked or kept, and of a mask."""

KEEP_SIZES = frozenset(
    {
        "Cast",
        "Clip",
        "DequantizeLinear",
        "Identity",
        "LeakyRelu",
        "QuantizeLinear",
        "Relu",
        "Sigmoid",
        "Tanh",
    }
)
"""Operators whose output has the sizes of their first input."""

PARTS: Mapping[str, tuple[tuple[int, int], Mapping[str, Attribute]]] = {
    "ConstantOfShape": ((1, 1), {"value": array()}),
    "Expand": ((2, 2), {}),
    "GatherElements": ((2, 2), {"axis": integer()}),
    "GreaterOrEqual": ((2, 2), {}),
    "LessOrEqual": ((2, 2), {}),
    "ScatterElements": (
        (3, 3),
        {"axis": integer(), "reduction": text("none", otherwise="what is scattered is combined")},
    ),
    "TopK": ((2, 2), {"axis": integer(), "largest": integer(0, 1), "sorted": integer(0, 1)}),
    "Where": ((3, 3), {}),
}
"""Inputs and attributes of operators that are of patterns alone."""


def find_k_winners(graph: Graph) -> Graph:
    """The graph with `KWinners` operators; the same graph if there are none."""
    replaced: dict[str, Node] = {}
    for node in graph.nodes:
        for pattern in (_Pattern.where, _Pattern.product, _Pattern.scatter):
            match = pattern(_Pattern(graph), node) if _known(node) else None
            if match:
                replaced[node.outputs[0]] = match
    if not replaced:
        return graph
    return graph.with_nodes(
        replaced.get(node.outputs[0], node) if node.outputs else node for node in graph.nodes
    )


class _Pattern:
    """One attempt to match.

    It remembers the quantisations on the way, which must all be equal; the axes, which are
    compared when the number of axes is known; and of tensors full of one number their sizes, or
    the tensors whose sizes they have: they must be those of what is ranked.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._crossed: set[tuple[bytes, ...]] = set()
        self._axes: set[int] = set()
        self._sizes: set[tuple[int, ...]] = set()
        self._like: set[str] = set()

    def where(self, node: Node) -> Node | None:
        """The form `Where(mask, data, 0)`."""
        if node.op_type != "Where" or not self._filled(node.inputs[2], 0):
            return None
        return self._masked(node, mask=node.inputs[0], data=node.inputs[1])

    def product(self, node: Node) -> Node | None:
        """`Mul(data, mask)`, either way round."""
        if node.op_type != "Mul":
            return None
        first, second = node.inputs
        return self._masked(node, mask=second, data=first) or _Pattern(self._graph)._masked(
            node, mask=first, data=second
        )

    def scatter(self, node: Node) -> Node | None:
        """`ScatterElements(0, indices, winners' values)`."""
        if node.op_type != "ScatterElements" or not self._filled(node.inputs[0], 0):
            return None
        top_k = self._output_of_top_k(node.inputs[1], 1)
        if top_k is None:
            return None
        self._axes.add(_axis(node, 0))
        data, updates = top_k.inputs[0], node.inputs[2]
        gather = self._producer(updates)
        gathered = (
            gather is not None
            and gather.op_type == "GatherElements"
            and self._same(gather.inputs[0], data)
            and self._output_of_top_k(gather.inputs[1], 1) is top_k
        )
        if gathered and gather is not None:
            self._axes.add(_axis(gather, 0))
        if gathered or self._output_of_top_k(updates, 0) is top_k:
            return self._found(node, top_k, data, exact=True)
        return None

    def _masked(self, node: Node, *, mask: str, data: str) -> Node | None:
        maker = self._made_by(self._source(mask, casts=BOOLEAN))
        if maker is None:
            return None
        if maker.op_type in ("GreaterOrEqual", "LessOrEqual"):
            large, small = maker.inputs if maker.op_type == "GreaterOrEqual" else maker.inputs[::-1]
            top_k = self._last_of_top_k(small)
            if top_k and self._same(large, data, top_k.inputs[0]):
                return self._found(node, top_k, data, exact=False)
        if maker.op_type == "ScatterElements" and self._filled(maker.inputs[0], 0):
            top_k = self._output_of_top_k(maker.inputs[1], 1)
            if top_k and self._filled(maker.inputs[2], 1) and self._same(data, top_k.inputs[0]):
                self._axes.add(_axis(maker, 0))
                return self._found(node, top_k, data, exact=True)
        return None

    def _found(self, node: Node, top_k: Node, data: str, *, exact: bool) -> Node | None:
        k = self._graph.constant(top_k.inputs[1])
        if k is None or k.size != 1 or k.dtype.kind != "i" or len(self._crossed) > 1:
            return None
        extent = self._extent(data)
        if len(self._sizes) > 1 or not all(
            name in top_k.outputs or self._extent(name) == extent for name in self._like
        ):
            return None
        return Node(
            op_type=K_WINNERS,
            name=node.name,
            inputs=(data,),
            outputs=node.outputs[:1],
            attributes={
                "axes": sorted({_axis(top_k, -1), *self._axes}),
                "k": int(k.item()),
                "exact": int(exact),
                "filled": list(*self._sizes),
            },
        )

    def _extent(self, value: str) -> str:
        """The first value of the same sizes, through operators that keep them."""
        while True:
            node = self._graph.producer(value)
            if node is None or node.op_type not in KEEP_SIZES or not node.inputs:
                return value
            value = node.inputs[0]

    def _source(self, value: str, *, casts: tuple[int, ...] = REAL) -> str:
        """The value before identities, casts and quantise-dequantise pairs."""
        while True:
            node = self._made_by(value)
            if node is None:
                return value
            if node.op_type == "Identity" or (
                node.op_type == "Cast" and node.attributes.get("to") in casts
            ):
                value = node.inputs[0]
                continue
            quantise = self._made_by(node.inputs[0]) if node.inputs else None
            if (
                node.op_type != "DequantizeLinear"
                or quantise is None
                or quantise.op_type != "QuantizeLinear"
            ):
                return value
            for pair in (quantise, node):
                numbers = [self._graph.constant(name) for name in pair.inputs[1:]]
                if any(number is None for number in numbers):
                    return value
                scale, *zero = (np.asarray(number).tobytes() for number in numbers)
                self._crossed.add((scale, zero[0] if zero else b"\0"))
            value = quantise.inputs[0]

    def _producer(self, value: str) -> Node | None:
        return self._made_by(self._source(value))

    def _made_by(self, value: str) -> Node | None:
        """The node that computes a value, if all that it says is known."""
        node = self._graph.producer(value)
        return node if node is not None and _known(node) else None

    def _same(self, *values: str) -> bool:
        """Tell whether values are equal: from one source, and all of them quantised since, or none.

        What ranks before quantising has other ties, and another k-th value, than what is ranked.
        """
        found = set()
        for value in values:
            before, self._crossed = self._crossed, set()
            found.add((self._source(value), bool(self._crossed)))
            self._crossed |= before
        return len(found) == 1

    def _output_of_top_k(self, value: str, output: int) -> Node | None:
        """The TopK of which a value is the given output, if it takes the largest."""
        source = self._source(value)
        node = self._made_by(source)
        if node is None or node.op_type != "TopK" or len(node.outputs) != 2:
            return None
        k = self._graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if k is not None and k.size != 1:
            return None
        return (
            node if node.outputs[output] == source and node.attributes.get("largest", 1) else None
        )

    def _last_of_top_k(self, value: str) -> Node | None:
        """The TopK of which a value is the last, that is the smallest, of the largest."""
        node = self._producer(value)
        top_k = self._output_of_top_k(node.inputs[0], 0) if node and node.inputs else None
        k = self._graph.constant(top_k.inputs[1]) if top_k else None
        if node is None or top_k is None or k is None or not top_k.attributes.get("sorted", 1):
            return None
        last = (-1, int(k.item()) - 1)
        if node.op_type == "Gather":
            index = self._graph.constant(node.inputs[1])
            # A scalar index takes the axis away: the rest would be compared with other vectors.
            if index is not None and index.shape == (1,) and int(index.item()) in last:
                self._axes.add(_axis(node, 0))
                return top_k
        if node.op_type == "Slice":
            parts = [self._graph.constant(name) for name in node.inputs[1:] if name]
            numbers = [int(part.item()) for part in parts if part is not None and part.size == 1]
            if not 3 <= len(numbers) == len(parts):
                return None
            start, end, on = numbers[:3]
            if start in last and end >= int(k.item()) and numbers[3:] in ([], [1]):
                self._axes.add(on)
                return top_k
        return None

    def _filled(self, value: str, number: float) -> bool:
        """Tell whether a value is a tensor full of one number, as far as can be seen."""
        constant = self._graph.constant(value)
        if constant is not None:
            if constant.size > 1:
                self._sizes.add(constant.shape)
            return bool(np.all(constant == number))
        node = self._made_by(value)
        if node is None:
            return False
        if node.op_type == "ConstantOfShape":
            fill = node.attributes.get("value", np.zeros(1, np.float32))
            return self._sized(node.inputs[0]) and bool(np.all(np.asarray(fill) == number))
        if node.op_type == "Expand":
            return self._sized(node.inputs[1]) and self._filled(node.inputs[0], number)
        if node.op_type in ("Identity", "Cast"):
            return self._filled(node.inputs[0], number)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and number == 0:
            first, *others = node.inputs
            below = self._graph.constant(first)
            zero = self._graph.constant(others[1]) if len(others) > 1 else None
            if node.op_type == "DequantizeLinear" and below is not None:
                return bool(np.all(below == (0 if zero is None else zero)))
            return self._filled(first, number)
        return False

    def _sized(self, sizes: str) -> bool:
        """Remember the sizes of a filled tensor; whether they can be seen."""
        constant = self._graph.constant(sizes)
        if constant is not None:
            self._sizes.add(tuple(int(size) for size in np.ravel(constant)))
            return True
        node = self._made_by(sizes)
        if node is None or node.op_type != "Shape" or node.attributes:
            return False
        self._like.add(node.inputs[0])
        return True


def _known(node: Node) -> bool:
    """Tell whether a node may be part of a pattern, and says nothing that is not known."""
    try:
        if node.op_type in PARTS:
            inputs, attributes = PARTS[node.op_type]
            check_table(node, inputs, attributes)
            return True
        if node.op_type in OPERATORS:
            check_node(OPERATORS[node.op_type], node)
            return True
    except Unsupported:
        pass
    return False


def _axis(node: Node, default: int) -> int:
    return int(node.attributes.get("axis", default))
