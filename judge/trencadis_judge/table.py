"""All operators that the evaluator computes."""

from trencadis_judge.context import Operator
from trencadis_judge.operators import (
    arithmetic,
    casting,
    functions,
    indexing,
    linear,
    movement,
    normalisation,
    pooling,
    quantise,
    recurrent,
    reduction,
    resize,
    rounding,
)

__all__ = ["OPERATORS"]

OPERATORS: dict[str, Operator] = {
    **arithmetic.OPERATORS,
    **casting.OPERATORS,
    **functions.OPERATORS,
    **indexing.OPERATORS,
    **linear.OPERATORS,
    **movement.OPERATORS,
    **normalisation.OPERATORS,
    **pooling.OPERATORS,
    **quantise.OPERATORS,
    **recurrent.OPERATORS,
    **resize.OPERATORS,
    **reduction.OPERATORS,
    **rounding.OPERATORS,
}
"""Operators by kind; kinds of other domains than ONNX's own have the domain before a dot."""
