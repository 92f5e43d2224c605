"""Rounding exact sums to a type of real numbers once."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["rational_sums", "rounded_fraction", "scaled_sums"]

Reals = npt.NDArray[np.float64]
DType = npt.DTypeLike

SPLITTER = float((1 << 27) + 1)

DOUBT = 2.0**-49
"""Relative to its terms, more than a sum of float64 may be off that has four roundings."""


def scaled_sums(
    sums: npt.NDArray[np.integer],
    scales: npt.ArrayLike,
    offsets: npt.ArrayLike,
    dtype: DType = np.float32,
) -> npt.NDArray[Any]:
    """Compute sums * scales + offsets, exactly, and round to a type once, half to even.

    Parameters
    ----------
    sums : int array
        Sums of an accumulator, of at most 32 bits.
    scales, offsets : array_like of float64
        Broadcast against the sums.
    dtype : dtype
        float16, float32 or float64.

    Notes
    -----
    Float64 would round first, to a number halfway between two of float32 every so often, and
    float32 then the wrong way. Products and sums are split into two numbers without an error
    (T. J. Dekker, "A floating-point technique for extending the available precision", 1971); what
    is left decides where the first number is halfway.
    """
    integers = np.asarray(sums, np.float64)
    factors = np.asarray(scales, np.float64)
    top = factors * SPLITTER
    high = top - (top - factors)
    product = integers * factors
    # Sums have at most 32 bits: split as well, so that all four partial products are exact.
    upper = np.trunc(integers / (1 << 16)) * (1 << 16)
    lower = integers - upper
    rest = factors - high
    left = ((upper * high - product) + upper * rest + lower * high) + lower * rest
    total, over = _two_sum(product, np.asarray(offsets, np.float64))
    total, tail = _two_sum(total, left + over)
    return _rounded(total, tail, np.dtype(dtype))


def rational_sums(
    sums: npt.NDArray[np.integer],
    ratios: Sequence[tuple[int, int, int]],
    axis: int,
    dtype: DType = np.float32,
) -> npt.NDArray[Any]:
    """Compute (sums * numerator + addend) / denominator, and round to a type once, half to even.

    Parameters
    ----------
    sums : int array
        Sums of an accumulator.
    ratios : sequence of (int, int, int)
        Numerator, addend and denominator, of every channel.
    axis : int
        Axis of the sums, that is channels.
    dtype : dtype
        float16, float32 or float64.
    """
    shape = [1] * sums.ndim
    shape[axis] = -1
    scales, offsets = (
        np.reshape([float(Fraction(ratio[part], ratio[2])) for ratio in ratios], shape)
        for part in (0, 1)
    )
    products = sums * scales
    total = products + offsets
    doubt = (np.abs(products) + np.abs(offsets)) * DOUBT + np.finfo(np.float64).tiny
    with np.errstate(over="ignore"):
        low, high = ((total + side * doubt).astype(dtype) for side in (-1, 1))
    for place in np.argwhere(low != high):
        numerator, addend, denominator = ratios[place[axis]]
        exact = Fraction(int(sums[tuple(place)]) * numerator + addend, denominator)
        low[tuple(place)] = rounded_fraction(exact, np.dtype(dtype))
    return low


def rounded_fraction(exact: Fraction, dtype: np.dtype[Any]) -> float:
    """The number of a type nearest to a fraction, half to even; infinity beyond the largest."""
    if not exact:
        return 0.0
    info = np.finfo(dtype)
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (max(exponent, int(info.minexp)) - int(info.nmant))
    rounded = round(exact / step) * step
    if abs(rounded) >= Fraction(2) ** int(info.maxexp):
        return math.inf if exact > 0 else -math.inf
    return float(rounded)


def _two_sum(first: Reals, second: Reals) -> tuple[Reals, Reals]:
    """A sum and its rounding error (D. Knuth, The Art of Computer Programming, volume 2, 4.2.2)."""
    total = first + second
    part = total - first
    return total, (first - (total - part)) + (second - part)


def _rounded(total: Reals, tail: Reals, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Round total + tail, of which the tail is less than half a unit in the last place."""
    with np.errstate(over="ignore"):
        rounded = total.astype(dtype)
    back = rounded.astype(np.float64)
    # The number on the other side of the total; where both are as far away, the tail decides.
    towards = np.where(total > back, np.inf, -np.inf).astype(dtype)
    other = np.nextafter(rounded, towards)
    middle = (total != back) & ((total - back) == (other.astype(np.float64) - total))
    up = tail > 0
    wrong = middle & (tail != 0) & (up == (other > rounded))
    return np.where(wrong, other, rounded)
