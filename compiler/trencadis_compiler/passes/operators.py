"""The operators that the overlay computes, or that are folded, each with its table and its rule."""

from collections.abc import Mapping

from trencadis_compiler.importer.graph import K_WINNERS, TABLE
from trencadis_compiler.passes.base.operator import Operator
from trencadis_compiler.passes.rules import (
    affine,
    average,
    constants,
    convolve,
    element_wise,
    layout,
    matrix,
    max_pool,
    quantisers,
    table,
    views,
    winners,
)

__all__ = ["FOLDED", "OPERATORS", "SUPPORTED"]

OPERATORS: Mapping[str, Operator] = {
    **affine.OPERATORS,
    **average.OPERATORS,
    **constants.OPERATORS,
    **convolve.OPERATORS,
    **element_wise.OPERATORS,
    **layout.OPERATORS,
    **matrix.OPERATORS,
    **max_pool.OPERATORS,
    **quantisers.OPERATORS,
    **table.OPERATORS,
    **views.OPERATORS,
    **winners.OPERATORS,
}
"""Operators by type."""

FOLDED = frozenset(constants.OPERATORS)
"""Operators that are only taken where all their inputs are constants, or for their shape."""

SUPPORTED = tuple(sorted(OPERATORS.keys() - {K_WINNERS, TABLE, *FOLDED}))
"""Operators of ONNX that the overlay computes on maps."""
