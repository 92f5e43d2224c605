"""Refusals: why a graph is no single chain of layers, in one line."""

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.graph import Graph
from trencadis_compiler.passes.grow_chains import Growth
from trencadis_compiler.passes.operators import FOLDED, OPERATORS, SUPPORTED

__all__ = ["check_operators", "refusal"]

ARITHMETIC = ("Add", "Div", "Mul", "Sub")


def refusal(graph: Graph, growth: Growth) -> CompileError:
    """The error of a graph of which nodes are left to the host."""
    try:
        check_operators(graph)
    except CompileError as error:
        return error
    for reason in growth.reasons.values():
        return reason
    return CompileError("a part of the model is left to the host")


def check_operators(graph: Graph) -> None:
    """Check that there are only operators that a layer can do.

    Raises
    ------
    CompileError
        Naming all others.
    """
    computed = {info.name for info in graph.inputs}
    unknown: dict[str, list[str]] = {}
    for node in graph.nodes:
        data = [name for name in node.inputs if name in computed]
        if node.op_type == "Shape":
            continue
        if data:
            computed.update(node.outputs)
        if (
            node.op_type not in OPERATORS
            or (node.op_type in FOLDED and data)
            or (node.op_type in ARITHMETIC and len(data) > 1)
        ):
            unknown.setdefault(node.op_type, []).append(repr(node.name))
    if not unknown:
        return
    names = "; ".join(
        f"{op_type if op_type.isprintable() else repr(op_type)} {', '.join(nodes)}"
        for op_type, nodes in unknown.items()
    )
    remedy = "remove them, or apply them on the host"
    if any(op_type.split(".")[-1].startswith(("QLinear", "QGemm")) for op_type in unknown):
        remedy = "quantise with QuantFormat.QDQ"
    raise CompileError(
        f"unsupported operators: {names}; the overlay runs {', '.join(SUPPORTED)} in a chain, and "
        f"k-WTA by TopK: {remedy}"
    )
