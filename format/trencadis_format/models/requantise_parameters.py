"""Requantisation without rounding errors.

The reference is the real number `(s_x*s_w*sum + s_b*bias) / s_y`, rounded half to even, plus the
zero point, and clipped, where scales are exact rationals (every float32 is one). As a function of
the integer sum it has at most 256 steps. `thresholds` finds where they are, with exact arithmetic;
`requantise_parameters` finds a multiplier, an offset and a shift with which the hardware's
`floor((m*sum + c) / 2**s)` has every one of these steps at exactly the same sum, and proves it.

The steps of such a function are a digital straight line: lines that agree on 255 steps may differ
in slope by about 2**-16 sums per step, so a multiplier of 32 bits is enough for all but contrived
scales. The nearest multipliers are tried first, then the one that leaves the offset most room.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np

from trencadis_format.layer_tables import REQUANTISE, Ties
from trencadis_format.models.requantise import requantise
from trencadis_format.models.thresholds import thresholds
from trencadis_format.widths import OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP

__all__ = ["InexactError", "RequantiseParameters", "requantise_parameters"]


class InexactError(ValueError):
    """No parameters of the hardware's format give all steps exactly."""


@dataclass(frozen=True)
class RequantiseParameters:
    """Fields of `REQUANTISE` for one channel."""

    multiplier: int
    offset: int
    shift: int
    ties: Ties


def requantise_parameters(
    slope: Fraction,
    intercept: Fraction,
    low: int,
    high: int,
    zero: int,
    reach: tuple[int, int],
) -> RequantiseParameters:
    """Parameters whose steps are proved to be those of `thresholds`.

    Parameters
    ----------
    slope, intercept, low, high, zero
        As for `thresholds`.
    reach : (int, int)
        Smallest and largest sum that can occur; only these need to be right.

    Raises
    ------
    InexactError
        If there are none.
    """
    steps = _Steps(thresholds(slope, intercept, low, high, zero), low, high, reach)
    for shift in reversed(range(1 << _bits("shift"))):
        scale = 1 << (SHIFT_BASE + SHIFT_STEP * shift)
        ideal = slope * scale
        if ideal >= (1 << _bits("multiplier")) - 1:
            continue
        # An exact slope shows the hardware exact ties, which it rounds itself.
        offset = (intercept + Fraction(1, 2)) * scale
        if ideal.denominator == offset.denominator == 1:
            ties = Ties.ODD if zero % 2 else Ties.EVEN
            exact = int(offset) - (zero % 2 << OFFSET_SHIFT)
            parameters = _aligned(int(ideal), exact, exact, shift, ties)
            if parameters and steps.prove(parameters):
                return parameters
        for multiplier in steps.multipliers(ideal, scale):
            least, most = steps.offsets(multiplier, scale)
            parameters = _aligned(multiplier, least, most, shift, Ties.FLOOR)
            if parameters and steps.prove(parameters):
                return parameters
    raise InexactError(
        f"no multiplier of {_bits('multiplier')} bits puts all steps of slope "
        f"{float(slope):.9g} where exact arithmetic has them; change the scale of the output a "
        "little"
    )


class _Steps:
    """The steps of one channel, as bounds on what the hardware may do."""

    def __init__(self, steps: list[int], low: int, high: int, reach: tuple[int, int]) -> None:
        self._low, self._high = low, high
        keys = np.arange(low + 1, high + 1, dtype=np.int64)
        least, most = reach
        first = np.array([min(max(step, least), most + 1) for step in steps], dtype=np.int64)
        # A key must be reached at its step, if that can occur, and not a sum earlier.
        self._reached_at, self._reached = first[first <= most], keys[first <= most]
        self._missed_at, self._missed = first[first > least] - 1, keys[first > least]

    def offsets(self, multiplier: int, scale: int) -> tuple[int, int]:
        """Smallest and largest offset with which `multiplier` has all steps right."""
        least = self._reached * scale - multiplier * self._reached_at
        most = self._missed * scale - 1 - multiplier * self._missed_at
        # Where nothing bounds it, the format does.
        largest = ((1 << (_bits("offset") - 1)) - 1) << OFFSET_SHIFT
        return int(least.max(initial=-largest)), int(most.min(initial=largest))

    def multipliers(self, ideal: Fraction, scale: int) -> Iterator[int]:
        """Multipliers worth a try, the cheapest to find first."""
        if ideal < 1:
            # Of a channel that is all but dead few steps can be reached, often none.
            yield 1
            return
        yield floor(ideal)
        yield floor(ideal) + 1
        yield self._widest(ideal, scale)

    def _widest(self, ideal: Fraction, scale: int) -> int:
        """The multiplier that leaves most room for the offset.

        The room is a concave function of the multiplier, so a ternary search finds its maximum.
        """
        margin = floor(ideal) // (1 << 12) + 2
        low, high = max(1, floor(ideal) - margin), floor(ideal) + margin
        while high - low > 2:
            third = (high - low) // 3
            if self._room(low + third, scale) < self._room(high - third, scale):
                low += third
            else:
                high -= third
        return max(range(low, high + 1), key=lambda multiplier: self._room(multiplier, scale))

    def _room(self, multiplier: int, scale: int) -> int:
        least, most = self.offsets(multiplier, scale)
        return most - least

    def prove(self, parameters: RequantiseParameters) -> bool:
        """Check that the hardware's function has every step at the right sum.

        Where the function never decreases, it is enough to look at both sides of every step. With
        ties to odd it does only if the next sum is out of the gap that is taken for a tie.
        """
        if parameters.ties is Ties.ODD and parameters.multiplier < 1 << OFFSET_SHIFT:
            return False
        fields = (parameters.multiplier, parameters.offset, parameters.shift, parameters.ties)
        reached = requantise(self._reached_at, *fields, self._low, self._high)
        missed = requantise(self._missed_at, *fields, self._low, self._high)
        return bool(np.all(reached >= self._reached) and np.all(missed < self._missed))


def _bits(name: str) -> int:
    return next(field.bits for field in REQUANTISE.fields if field.name == name)


def _aligned(
    multiplier: int, least: int, most: int, shift: int, ties: Ties
) -> RequantiseParameters | None:
    """Parameters with an offset in the middle of least..most, if the format has one."""
    unit = 1 << OFFSET_SHIFT
    first, last = -(-least // unit), most // unit
    if first > last or not 0 < multiplier < 1 << _bits("multiplier"):
        return None
    offset = (first + last) // 2
    if not -(1 << (_bits("offset") - 1)) <= offset < 1 << (_bits("offset") - 1):
        return None
    return RequantiseParameters(multiplier, offset, shift, ties)
