"""Sums are rounded to float32 once."""

import math
from fractions import Fraction

import numpy as np
import pytest

from trencadis_format.rounding import rational_sums, rounded_fraction, scaled_sums

RNG = np.random.default_rng(4)


def nearest(number: Fraction) -> np.float32:
    """The float32 that is nearest, half to even, by rational arithmetic."""
    guess = np.float32(float(number))
    ends = [np.nextafter(guess, np.float32(end)) for end in (-np.inf, np.inf)]
    near = sorted([guess, *ends], key=lambda c: abs(Fraction(float(c)) - number))
    first, second = near[:2]
    if abs(Fraction(float(first)) - number) < abs(Fraction(float(second)) - number):
        return first
    return first if int(first.view(np.int32)) % 2 == 0 else second


@pytest.mark.parametrize("offset", [0.0, 0.37, -12345.678])
def test_usual_numbers(offset: float) -> None:
    sums = RNG.integers(-(1 << 21), 1 << 21, 500)
    scale = float(np.float32(0.013)) * float(np.float32(0.0071))
    found = scaled_sums(sums, scale, offset)
    assert found.dtype == np.float32
    expected = [nearest(Fraction(scale) * int(s) + Fraction(offset)) for s in sums]
    assert (found == expected).all()


def halfway() -> tuple[int, float, Fraction]:
    """A sum and a scale whose product float64 puts halfway, though it is not."""
    # sum * scale = m + 2**-60 with m halfway: choose the scale as (m + 2**-60) / sum, rounded.
    for _ in range(100_000):
        total = int(RNG.integers(1 << 20, 1 << 21)) | 1
        middle = Fraction(int(RNG.integers(1 << 23, 1 << 24)) * 2 + 1, 2)
        scale = float(middle / total)
        exact = Fraction(scale) * total
        if exact != middle and float(np.float64(total) * scale) == float(middle):
            return total, scale, exact
    raise AssertionError("none found")


def test_numbers_that_float64_puts_halfway() -> None:
    once_differs = 0
    for _ in range(200):
        total, scale, exact = halfway()
        right = nearest(exact)
        once_differs += np.float32(np.float64(total) * scale) != right
        assert scaled_sums(np.array([total]), scale, 0.0)[0] == right
        assert scaled_sums(np.array([-total]), scale, 0.0)[0] == -right
    assert once_differs > 50  # float64 alone would be wrong


def test_offsets_that_cancel() -> None:
    scale = float(np.float32(0.1)) * float(np.float32(0.3))
    for total in (12345, -777, (1 << 31) - 1, -(1 << 31)):
        offset = -float(np.float64(total) * scale) + 1e-9
        expected = nearest(Fraction(scale) * total + Fraction(offset))
        assert scaled_sums(np.array([total]), scale, offset)[0] == expected


def test_scales_and_offsets_of_channels() -> None:
    sums = np.arange(6).reshape(2, 3)
    found = scaled_sums(sums, np.array([[1.0], [0.5]]), np.array([[0.0], [0.25]]))
    assert found.tolist() == [[0, 1, 2], [1.75, 2.25, 2.75]]


def test_other_types() -> None:
    sums = RNG.integers(-(1 << 20), 1 << 20, 300)
    for dtype in (np.float16, np.float64):
        found = scaled_sums(sums, 0.013, 0.37, dtype)
        exact = [Fraction(0.013) * int(s) + Fraction(0.37) for s in sums]
        assert found.dtype == dtype
        assert found.tolist() == [rounded_fraction(e, np.dtype(dtype)) for e in exact]


def test_ratios() -> None:
    """Averages of 14 numbers: no float64 is a fourteenth, and ties of float32 are exact."""
    scale = Fraction(float(np.float32(0.0113)))
    ratio = (scale.numerator, 3 * scale.denominator, 14 * scale.denominator)
    sums = np.stack([RNG.integers(-(1 << 21), 1 << 21, 2000), np.arange(-1000, 1000) * 7])
    found = rational_sums(sums, [ratio, (1, 0, 14 << 24)], 0)
    wanted = [
        [nearest((scale * int(s) + 3) / 14) for s in sums[0]],
        [nearest(Fraction(int(s), 14 << 24)) for s in sums[1]],
    ]
    assert found.dtype == np.float32
    assert (found == wanted).all()


def test_ratios_that_are_ties() -> None:
    # (2**24 + 1) * 3 / 3 is halfway between two float32 numbers, a little more is not.
    sums = np.array([[3 * ((1 << 24) + 1)], [3 * ((1 << 24) + 3)]])
    little = 1 << 80
    ratios = [(1, 0, 3), (little, 1, 3 * little), (little, -1, 3 * little)]
    found = rational_sums(np.repeat(sums, 3, axis=1), ratios, 1)
    assert (found - (1 << 24)).tolist() == [[0, 2, 0], [4, 4, 2]]


def test_the_nearest_number_of_a_type() -> None:
    half = np.dtype(np.float16)
    assert rounded_fraction(Fraction(65520), half) == math.inf
    assert rounded_fraction(Fraction(65520) - Fraction(1, 10**40), half) == 65504
    assert rounded_fraction(Fraction(3, 1 << 25), half) == 2.0**-23
    assert rounded_fraction(-Fraction(1, 1 << 25), half) == 0
