"""Element-wise operators, as the pass `fuse_tables` left them."""

from dataclasses import replace

import numpy as np

from trencadis_compiler.importer.graph import TABLE, Node
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.functions import MAX_KEY, PLAIN
from trencadis_compiler.passes.base.operator import Attribute, Operator
from trencadis_compiler.passes.base.state import State, Unsupported
from trencadis_compiler.passes.base.table_values import table_values
from trencadis_compiler.passes.rules.quantisers import of_activations, scale_and_zero

__all__ = ["OPERATORS"]


def _table(context: Context, node: Node) -> State:
    source = context.map(node)
    if source.draft is None:
        raise Unsupported(node, "functions of a tensor that no layer makes; the host applies them")
    if source.quantisation is None or source.integer or source.functions:
        raise Unsupported(node, "functions of what is not quantised; quantise their input")
    before = source.quantisation
    scale, zero = scale_and_zero(context, node)
    after = of_activations(node, scale, zero, np.dtype(np.uint8))
    keys = np.arange(MAX_KEY + 1)
    real = (keys - before.zero_key) * float(before.scale)
    values = table_values(context.graph, node, real)
    if not np.all(np.isfinite(values)):
        raise Unsupported(node, "functions that are not finite everywhere; the host applies them")
    rounded = np.rint(values / float(after.scale)) + after.zero_key
    table = np.clip(rounded, 0, MAX_KEY).astype(int).tolist()
    if source.draft.winners is not None and tuple(table) != PLAIN:
        raise Unsupported(node, "functions after k-WTA; apply them before")
    draft = replace(source.draft, table=tuple(table[key] for key in source.draft.table))
    return replace(source, draft=draft, quantisation=after, integer=True)


_ANY = Attribute("anything", lambda value: True)

OPERATORS = {TABLE: Operator(_table, (2, 3), {"region": _ANY, "last": _ANY})}
