"""Operators that are only taken where all their inputs are constants, or for their shape."""

import numpy as np

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.passes.base.constants import fold
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.operator import Operator, integer
from trencadis_compiler.passes.base.state import ActivationMap, State, Unsupported

__all__ = ["OPERATORS", "folded"]


def folded(context: Context, node: Node) -> State:
    """Compute a node of constants, or a Shape of a map.

    Raises
    ------
    Unsupported
        If an input is no constant.
    """
    inputs = []
    for i, name in enumerate(node.inputs):
        value = context.state(node, i) if name else np.zeros(0, np.int64)
        if node.op_type == "Shape" and isinstance(value, ActivationMap):
            value = np.broadcast_to(np.zeros(1), (value.batch, *value.shape))
        if not isinstance(value, np.ndarray):
            if node.op_type == "Concat":
                raise Unsupported(node, "joins maps, which the overlay cannot do yet")
            raise Unsupported(node, f"its input {name!r} must be a constant")
        inputs.append(value)
    return fold(node, inputs)


OPERATORS = {
    "Concat": Operator(folded, (1, 1 << 16), {"axis": integer()}),
    "Shape": Operator(folded, (1, 1), {"start": integer(), "end": integer()}),
}
