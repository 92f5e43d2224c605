"""Values of a `Table`, the operator that stands for element-wise ones."""

from collections.abc import Mapping

import numpy as np

from trencadis_compiler.importer.graph import Graph, Node
from trencadis_compiler.passes.base.scalar_functions import Numbers, evaluate_node

__all__ = ["QUANTISERS", "table_values"]

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def table_values(graph: Graph, table: Node, start: Numbers) -> Numbers:
    """Evaluate the nodes of a `Table` before the result is quantised, in float64."""
    values: dict[str, Numbers] = {table.inputs[0]: start}
    for node in table.attributes["region"]:
        inputs = [_input(graph, values, name) for name in node.inputs]
        if node.op_type in QUANTISERS:
            values[node.outputs[0]] = _quantiser(graph, node, values)
        else:
            values[node.outputs[0]] = evaluate_node(node, inputs)
    return values[table.attributes["last"]]


def _input(graph: Graph, values: Mapping[str, Numbers], name: str) -> Numbers | None:
    if not name:
        return None
    constant = graph.constant(name)
    return values[name] if constant is None else np.float64(constant.item()) * np.ones(1)


def _quantiser(graph: Graph, node: Node, values: Mapping[str, Numbers]) -> Numbers:
    numbers = values[node.inputs[0]]
    constants = [graph.constant(name) for name in node.inputs[1:]]
    assert constants[0] is not None
    scale = float(constants[0].item())
    zero = constants[1] if len(constants) > 1 else None
    offset = 0 if zero is None else int(zero.item())
    if node.op_type == "DequantizeLinear":
        return (numbers - offset) * scale
    limits = np.iinfo(np.uint8 if zero is None else zero.dtype)
    return np.clip(np.rint(numbers / scale) + offset, limits.min, limits.max)
