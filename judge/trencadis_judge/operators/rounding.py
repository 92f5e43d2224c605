"""Operators that jump: rounding to integers, and comparing. Ties are decided exactly."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, required
from trencadis_judge.errors import UnsupportedOperatorError
from trencadis_judge.node import Node
from trencadis_judge.values import Value, is_real, real_value

__all__ = ["OPERATORS", "compare", "round_quotient"]

Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

HALF = Fraction(1, 2)


def round_quotient(
    context: Context, name: str, value: Value, divisor: Reals
) -> tuple[Reals, Reals | None]:
    """Round a tensor divided by exact numbers to integers, half to even.

    Parameters
    ----------
    context : Context
        Decides what lies within its own error of a tie.
    name : str
        Name of the tensor that is divided.
    value : Value
        The tensor.
    divisor : float64 array
        Positive numbers, of 24 significant bits, that broadcast against it.

    Returns
    -------
    (float64 array, float64 array or None)
        The integers, and 1 where the next one is possible as well; None if that is nowhere.
    """
    divisor = np.broadcast_to(divisor, value.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        quotient = value.array / divisor
    rounded = np.rint(quotient)
    lower = np.floor(quotient)
    with np.errstate(invalid="ignore"):
        reach = (value.errors / divisor + np.abs(quotient) * 2.0**-52) * (1 + 2.0**-40)
        # A quotient by a power of two is exact in every type.
        certain = context.precision.float64 | (np.abs(np.frexp(divisor)[0]) == 0.5)
        reach = reach + ~certain * np.abs(quotient) * context.precision.unit(value.dtype)
        # Near a tie, or where the error is so large that several integers are possible.
        near = ~(np.abs(quotient - lower - 0.5) > reach) & np.isfinite(quotient)
    if not near.any():
        return rounded, None
    unsure = np.zeros(value.shape)
    exact = near & (value.errors == 0) & (np.abs(quotient) < 1 << 28) & certain
    middle = (2 * lower + 1) * divisor  # 29 and 24 bits: exact
    above, below = exact & (2 * value.array > middle), exact & (2 * value.array < middle)
    rounded = np.where(above, lower + 1, np.where(below, lower, rounded))
    tie = exact & ~above & ~below
    rounded = np.where(tie, lower + lower % 2, rounded)
    left = near & ~exact
    if not context.precision.float64:
        unsure[left] = np.maximum(1.0, np.ceil(reach[left]))
        return rounded, unsure if left.any() else None
    for index in np.argwhere(left):
        place = tuple(int(number) for number in index)
        try:
            number = context.exact(name, place) / Fraction(float(divisor[place]))
        except UnsupportedOperatorError:
            unsure[place] = max(1.0, float(np.ceil(reach[place])))
        else:
            rounded[place] = round(number)
    return rounded, unsure if unsure.any() else None


def _snap(rounding: Callable[[Any], Any], ties: float) -> Operator:
    """Make an operator that rounds to integers; it jumps where the fraction is `ties`."""

    def evaluate(context: Context, node: Node, inputs: Inputs) -> Value:
        value = required(node, inputs, 0)
        array = rounding(value.array)
        if value.error is None:
            return real_value(array, value.dtype)
        jump = np.round(value.array - ties) + ties
        near = ~(np.abs(value.array - jump) > value.error) & np.isfinite(value.array)
        unsure = np.zeros(value.shape)
        for index in np.argwhere(near):
            place = tuple(int(number) for number in index)
            if not context.precision.float64:
                unsure[place] = max(1.0, float(np.ceil(value.error[place])))
                continue
            try:
                exact = context.exact(node.inputs[0], place)
            except UnsupportedOperatorError:
                unsure[place] = max(1.0, float(np.ceil(value.error[place])))
            else:
                array[place] = exact_round(node.op_type, exact)
        if not unsure.any():
            return real_value(array, value.dtype)
        return Value(array, value.dtype, unsure)

    return evaluate


def exact_round(op_type: str, number: Fraction) -> int:
    """Round an exact number as Round, Floor or Ceil does."""
    if op_type == "Floor":
        return number.numerator // number.denominator
    if op_type == "Ceil":
        return -(-number.numerator // number.denominator)
    return round(number)


def _sign(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    array = np.sign(value.array)
    if value.error is None:
        return real_value(array, value.dtype) if is_real(value.dtype) else Value(array, value.dtype)
    zero = Value(np.zeros(()), value.dtype, None, 0)
    unsure = np.zeros(value.shape)
    for index, difference in _differences(context, node, value, zero):
        if difference is None:
            unsure[index] = 2.0
        else:
            array[index] = (difference > 0) - (difference < 0)
    return Value(array, value.dtype, unsure) if unsure.any() else real_value(array, value.dtype)


def _differences(
    context: Context, node: Node, first: Value, second: Value
) -> list[tuple[tuple[int, ...], Fraction | None]]:
    """Exact differences of two tensors where they may be equal; None where they cannot be had."""
    shape = np.broadcast_shapes(first.shape, second.shape)
    with np.errstate(invalid="ignore"):
        gap = np.abs(np.broadcast_to(first.array, shape) - second.array)
        near = ~(gap > first.errors + second.errors)
    found: list[tuple[tuple[int, ...], Fraction | None]] = []
    for index in np.argwhere(near):
        place = tuple(int(number) for number in index)
        difference = None
        if context.precision.float64:
            try:
                numbers = [
                    _element(context, name, value, place)
                    for name, value in zip((*node.inputs, ""), (first, second), strict=False)
                ]
                difference = numbers[0] - numbers[1]
            except UnsupportedOperatorError:
                difference = None
        found.append((place, difference))
    return found


def _element(context: Context, name: str, value: Value, place: tuple[int, ...]) -> Fraction:
    """An element of a broadcast tensor."""
    own = tuple(
        0 if size == 1 else index
        for size, index in zip(value.shape, place[len(place) - len(value.shape) :], strict=True)
    )
    if value.error is None or value.error[own] == 0:
        return Fraction(float(value.array[own]))
    return context.exact(name, own)


def compare(
    decide: Callable[[Any, Any], Flags],
) -> Operator:
    """Make an operator that compares two tensors."""

    def evaluate(context: Context, node: Node, inputs: Inputs) -> Value:
        first, second = required(node, inputs, 0), required(node, inputs, 1)
        array = np.asarray(decide(first.array, second.array))
        if first.error is None and second.error is None:
            return Value(array, np.dtype(np.bool_))
        unsure = np.zeros(array.shape)
        for place, difference in _differences(context, node, first, second):
            if difference is None:
                unsure[place] = 1.0
            else:
                array[place] = decide(difference, 0)
        return Value(array, np.dtype(np.bool_), unsure if unsure.any() else None)

    return evaluate


OPERATORS: dict[str, Operator] = {
    "Round": _snap(np.rint, 0.5),
    "Floor": _snap(np.floor, 0.0),
    "Ceil": _snap(np.ceil, 0.0),
    "Sign": _sign,
    "Equal": compare(lambda a, b: a == b),
    "Greater": compare(lambda a, b: a > b),
    "GreaterOrEqual": compare(lambda a, b: a >= b),
    "Less": compare(lambda a, b: a < b),
    "LessOrEqual": compare(lambda a, b: a <= b),
}
