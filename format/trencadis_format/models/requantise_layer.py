"""Requantisers of all channels of a layer together, in arrays.

The same parameters as `requantise_parameters` finds one channel at a time. Steps are estimated in
float64, with a bound on the error: where that leaves two integers to choose from, exact arithmetic
decides. The first two multipliers of the widest shift, which fit nearly all channels, are tried for
all channels at once; the others are searched one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import REQUANTISE, Ties
from trencadis_format.models.requantise import requantise
from trencadis_format.models.requantise_parameters import (
    InexactError,
    RequantiseParameters,
    requantise_parameters,
)
from trencadis_format.models.thresholds import thresholds
from trencadis_format.widths import OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP

__all__ = ["ChannelError", "layer_parameters", "layer_thresholds"]

Array = npt.NDArray[np.int64]

Line = tuple[Fraction, Fraction]
"""Slope and intercept of the real key of a sum."""

ROUNDING = 2.0**-51
"""Bound on the relative error of an estimate, over the sum of its terms' sizes."""

MAX_EXACT = 8
"""Steps of a channel that are put right one by one; with more, all are computed exactly."""

WIDTHS = {field.name: field.bits for field in REQUANTISE.fields}


class ChannelError(InexactError):
    """No parameters of a channel are exact.

    Parameters
    ----------
    channel : int
        Its number.
    error : InexactError
        Why.
    """

    def __init__(self, channel: int, error: InexactError) -> None:
        super().__init__(f"channel {channel}: {error}")


@dataclass(frozen=True)
class _Steps:
    """Steps of some channels, limited to sums that occur; shape (channels, steps)."""

    first: Array
    keys: Array
    least: Array
    most: Array

    @property
    def reached(self) -> npt.NDArray[np.bool_]:
        """Keys that some sum reaches."""
        return self.first <= self.most

    @property
    def missed(self) -> npt.NDArray[np.bool_]:
        """Keys that some sum does not reach."""
        return self.first > self.least


def layer_thresholds(
    lines: Sequence[Line], low: int, high: int, zero: int, least: Array, most: Array
) -> Array:
    """The steps of `thresholds` for every channel, no less than least and no more than most + 1.

    Parameters
    ----------
    lines : sequence of (Fraction, Fraction)
        Slope and intercept of every channel.
    low, high, zero : int
        As for `thresholds`.
    least, most : int64 arrays, shape (channels,)
        Smallest and largest sums that can occur.

    Returns
    -------
    int64 array, shape (channels, high - low)
    """
    number = np.arange(high - low, dtype=np.float64)
    start = np.array(
        [[float((Fraction(2 * low + 1, 2) - up) / slope)] for slope, up in lines], np.float64
    )
    step = np.array([[float(1 / slope)] for slope, _ in lines], np.float64)
    estimate = start + number * step
    bound = ROUNDING * (np.abs(start) + 2 * number * np.abs(step))
    lowest, highest = least[:, None], most[:, None] + 1
    limited = np.clip(estimate, lowest - 1.0, highest + 1.0)
    found = np.clip(np.ceil(limited).astype(np.int64), lowest, highest)
    near = np.abs(limited - np.rint(limited)) <= bound
    outside = (estimate + bound < lowest - 1) | (estimate - bound > highest + 1)
    doubtful = near & ~outside
    for channel in np.flatnonzero(doubtful.any(axis=1)).tolist():
        where = np.flatnonzero(doubtful[channel])
        slope, up = lines[channel]
        if len(where) > MAX_EXACT:
            exact = thresholds(slope, up, low, high, zero)
            where = np.arange(high - low)
        else:
            exact = [thresholds(slope, up, low + int(i), low + int(i) + 1, zero)[0] for i in where]
        bounds = int(least[channel]), int(most[channel]) + 1
        found[channel, where] = [min(max(one, bounds[0]), bounds[1]) for one in exact]
    return found


def layer_parameters(
    lines: Sequence[Line], low: int, high: int, zero: int, least: Array, most: Array
) -> list[RequantiseParameters]:
    """Parameters of every channel, each proved to have all steps where exact arithmetic has them.

    Parameters are those of `layer_thresholds`.

    Raises
    ------
    ChannelError
        If a channel has none.
    """
    steps = _Steps(
        layer_thresholds(lines, low, high, zero, least, most),
        np.broadcast_to(np.arange(low + 1, high + 1), (len(lines), high - low)),
        least[:, None],
        most[:, None],
    )
    shifts = np.array([_widest_shift(slope) for slope, _ in lines])
    scales = np.array([1 << (SHIFT_BASE + SHIFT_STEP * max(0, int(s))) for s in shifts])
    ideals = np.zeros(len(lines), np.int64)
    for channel in np.flatnonzero(shifts >= 0).tolist():
        slope = lines[channel][0]
        ideals[channel] = slope.numerator * int(scales[channel]) // slope.denominator
    found: list[RequantiseParameters | None] = [None] * len(lines)
    left = np.flatnonzero(shifts >= 0)
    for more in (0, 1):
        offsets = _proved(steps, left, ideals[left] + more, scales[left], shifts[left], low, high)
        for place, offset in zip(left.tolist(), offsets, strict=True):
            if offset is not None:
                found[place] = RequantiseParameters(
                    int(ideals[place]) + more, offset, int(shifts[place]), Ties.FLOOR
                )
        left = np.array([place for place in left.tolist() if found[place] is None], np.int64)
    reaches = zip(least.tolist(), most.tolist(), strict=True)
    result = []
    for channel, ((slope, up), reach, known) in enumerate(zip(lines, reaches, found, strict=True)):
        try:
            result.append(known or requantise_parameters(slope, up, low, high, zero, reach))
        except InexactError as error:
            raise ChannelError(channel, error) from error
    return result


def _widest_shift(slope: Fraction) -> int:
    """The widest shift that has a multiplier for a slope; -1 if none, or if ties may be exact."""
    if slope.denominator & (slope.denominator - 1) == 0:
        return -1
    for shift in reversed(range(1 << WIDTHS["shift"])):
        scaled = slope.numerator << (SHIFT_BASE + SHIFT_STEP * shift)
        if slope.denominator <= scaled < ((1 << WIDTHS["multiplier"]) - 1) * slope.denominator:
            return shift
    return -1


def _proved(
    steps: _Steps,
    channels: Array,
    multipliers: Array,
    scales: Array,
    shifts: Array,
    low: int,
    high: int,
) -> list[int | None]:
    """The offset of every channel with a multiplier; None where it has none, or is not exact."""
    some = _Steps(*(part[channels] for part in (steps.first, steps.keys, steps.least, steps.most)))
    multiplier, scale, shift = multipliers[:, None], scales[:, None], shifts[:, None]
    largest = ((1 << (WIDTHS["offset"] - 1)) - 1) << OFFSET_SHIFT
    needed = np.where(some.reached, some.keys * scale - multiplier * some.first, -largest)
    allowed = some.keys * scale - 1 - multiplier * (some.first - 1)
    allowed = np.where(some.missed, allowed, largest)
    first = -(-needed.max(axis=1, initial=-largest) >> OFFSET_SHIFT)
    last = allowed.min(axis=1, initial=largest) >> OFFSET_SHIFT
    offset = (first + last) // 2
    half = 1 << (WIDTHS["offset"] - 1)
    fits = (first <= last) & (offset >= -half) & (offset < half)
    fits &= (multipliers > 0) & (multipliers < 1 << WIDTHS["multiplier"])
    held = np.where(fits, offset, 0)[:, None]
    fields = (multiplier, held, shift, int(Ties.FLOOR))
    reached = requantise(some.first, *fields, low, high) >= some.keys
    missed = requantise(some.first - 1, *fields, low, high) < some.keys
    fits &= (reached | ~some.reached).all(axis=1) & (missed | ~some.missed).all(axis=1)
    return [int(one) if good else None for one, good in zip(offset, fits, strict=True)]
