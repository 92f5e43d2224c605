"""Rounding to a type, and bounds that are unbounded."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from trencadis_judge.values import nearest, propagated

TYPES = [np.dtype(name) for name in ("float16", "float32", "float64", ml_dtypes.bfloat16)]


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
def test_numbers_of_a_type_are_nearest_to_themselves(dtype: np.dtype) -> None:
    info = ml_dtypes.finfo(dtype)
    numbers = [float(n) for n in (info.max, info.tiny, info.smallest_subnormal, 1, info.eps)]
    for number in numbers:
        assert nearest(Fraction(number), dtype) == number
        assert nearest(-Fraction(number), dtype) == -number
    assert nearest(Fraction(0), dtype) == 0
    half = Fraction(float(info.smallest_subnormal)) / 2
    assert nearest(half, dtype) == 0
    assert nearest(3 * half, dtype) == float(4 * half)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
def test_halfway_is_even_and_a_little_more_is_not(dtype: np.dtype) -> None:
    eps = Fraction(float(ml_dtypes.finfo(dtype).eps))
    little = Fraction(1, 10**40)
    assert nearest(1 + eps / 2, dtype) == 1
    assert nearest(1 + eps / 2 + little, dtype) == float(1 + eps)
    assert nearest(1 + 3 * eps / 2, dtype) == float(1 + 2 * eps)
    assert nearest(-1 - 3 * eps / 2 + little, dtype) == float(-1 - eps)


def test_beyond_the_largest() -> None:
    half = np.dtype(np.float16)
    assert nearest(Fraction(65520), half) == math.inf
    assert nearest(Fraction(65520) - Fraction(1, 10**40), half) == 65504
    assert nearest(-(Fraction(10) ** 400), np.dtype(np.float64)) == -math.inf


def test_what_an_error_becomes_by_a_factor() -> None:
    sizes = np.array([2.0, np.inf, 0.0, np.inf, 0.0])
    errors = np.array([0.5, 0.0, np.inf, 1.0, 1.0])
    assert propagated(sizes, errors).tolist() == [1.0, 0.0, np.inf, np.inf, 0.0]
