from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from trencadis_format.layer_tables import REQUANTISE
from trencadis_format.models.requantise import requantise
from trencadis_format.models.requantise_parameters import InexactError, requantise_parameters
from trencadis_format.models.thresholds import thresholds

scales = st.floats(2**-14, 2**4, width=32).map(Fraction)
biases = st.integers(-(1 << 20), 1 << 20)
bounds = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted)


def key(total: int, slope: Fraction, intercept: Fraction, low: int, high: int, zero: int) -> int:
    """By the definition of QuantizeLinear; Python rounds fractions half to even."""
    return min(max(round(slope * total + intercept - zero) + zero, low), high)


@settings(deadline=None, max_examples=150)
@given(
    slope=scales,
    numerator=st.integers(-(1 << 20), 1 << 20),
    limits=bounds,
    zero=st.integers(0, 255),
)
@example(slope=Fraction(1, 4), numerator=0, limits=[0, 255], zero=7)
@example(slope=Fraction(1, 4), numerator=0, limits=[0, 255], zero=8)
def test_thresholds_are_where_rounding_has_them(slope, numerator, limits, zero) -> None:
    low, high = limits
    intercept = Fraction(numerator, 1 << 10)
    steps = thresholds(slope, intercept, low, high, zero)
    assert len(steps) == high - low
    assert steps == sorted(steps)
    for number, step in enumerate(steps[:: max(1, len(steps) // 20)]):
        wanted = low + 1 + number * max(1, len(steps) // 20)
        assert key(step, slope, intercept, low, high, zero) >= wanted
        assert key(step - 1, slope, intercept, low, high, zero) < wanted


@settings(deadline=None, max_examples=60)
@given(
    scales=st.tuples(scales, scales, scales),
    bias=biases,
    limits=bounds,
    zero=st.integers(0, 255),
    spread=st.integers(1, 12),
)
def test_parameters_give_every_step_of_all_reachable_sums(
    scales, bias, limits, zero, spread
) -> None:
    low, high = limits
    slope = scales[0] * scales[1] / scales[2]
    assume(2**-30 < slope < 2**6)
    intercept = bias * slope + zero
    # Reachable sums on both sides of where keys change.
    middle = int((128 - intercept) / slope)
    reach = (middle - (100 << spread), middle + (100 << spread))
    assume(reach[0] >= -(1 << 23) and reach[1] < 1 << 23)
    found = requantise_parameters(slope, intercept, low, high, zero, reach)
    sums = np.unique(np.linspace(*reach, 5001).astype(np.int64))
    near = np.array(thresholds(slope, intercept, low, high, zero), dtype=object)
    near = np.array([int(step) for step in near if reach[0] < step <= reach[1]], np.int64)
    sums = np.concatenate([sums, near, near - 1])
    keys = requantise(
        sums, found.multiplier, found.offset, found.shift, found.ties, low=low, high=high
    )
    expected = [key(int(total), slope, intercept, low, high, zero) for total in sums]
    assert keys.tolist() == expected


@pytest.mark.parametrize("factor", [1, 3, 5, 127])
@pytest.mark.parametrize("power", range(-9, 1))
@pytest.mark.parametrize("zero", [0, 1, 127, 128, 254, 255])
def test_exact_ties_are_rounded_half_to_even(factor, power, zero) -> None:
    # Around zero: keys that are an even number of steps from an odd key of zero are odd.
    slope, intercept = factor * Fraction(2) ** power, Fraction(zero)
    reach = (-70000, 70000)
    found = requantise_parameters(slope, intercept, 0, 255, zero, reach)
    sums = np.arange(reach[0], reach[1] + 1)
    keys = requantise(sums, found.multiplier, found.offset, found.shift, found.ties)
    # np.rint is exact here: sums and scales have few bits.
    assert np.array_equal(keys, np.clip(np.rint(sums * float(slope)) + zero, 0, 255))


def test_every_sum_of_a_channel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        slope = Fraction(float(np.float32(rng.uniform(0.001, 0.02))))
        intercept = Fraction(float(np.float32(rng.normal(0, 10)))) + 3
        found = requantise_parameters(slope, intercept, 3, 255, 3, (-40000, 40000))
        sums = np.arange(-40000, 40001)
        keys = requantise(
            sums, found.multiplier, found.offset, found.shift, found.ties, low=3, high=255
        )
        steps = thresholds(slope, intercept, 3, 255, 3)
        assert np.array_equal(keys, 3 + np.searchsorted(steps, sums, side="right"))


def test_fields_fit_their_record() -> None:
    for slope in (Fraction(1, 3), Fraction(1, 10**6), Fraction(200)):
        found = requantise_parameters(slope, Fraction(1, 7), 0, 255, 0, (-1000, 1000))
        REQUANTISE.pack(**vars(found))


@pytest.mark.parametrize("intercept", [-(10**6), -1, 0, 77, 255, 10**6])
@pytest.mark.parametrize("reach", [(0, 0), (-5, 5)])
def test_channels_that_hardly_reach_any_key(intercept, reach) -> None:
    # Kernels without weights, and biases far beyond the range of keys.
    slope = Fraction(1, 10**5)
    found = requantise_parameters(slope, Fraction(intercept), 0, 255, 0, reach)
    keys = requantise(reach, found.multiplier, found.offset, found.shift, found.ties)
    assert keys.tolist() == [min(max(intercept, 0), 255)] * 2


@pytest.mark.parametrize("zero", [4, 5])
@pytest.mark.parametrize("bias", [Fraction(1, 2), Fraction(-77, 4), Fraction(5, 1 << 12)])
def test_exact_ties_with_a_bias(zero, bias) -> None:
    slope, intercept = Fraction(1, 16), bias + zero
    found = requantise_parameters(slope, intercept, zero, 255, zero, (-6000, 6000))
    sums = np.arange(-6000, 6001)
    keys = requantise(sums, found.multiplier, found.offset, found.shift, found.ties, zero, 255)
    assert keys.tolist() == [key(int(n), slope, intercept, zero, 255, zero) for n in sums]


def test_slopes_beyond_the_format_are_refused() -> None:
    with pytest.raises(InexactError, match=r"^no multiplier of 32 bits puts all steps of slope"):
        requantise_parameters(Fraction(1 << 40), Fraction(0), 0, 255, 0, (-1000, 1000))


@pytest.mark.parametrize("intercept", [Fraction(0), Fraction(37, 10), Fraction(300), Fraction(-9)])
def test_channels_that_are_all_but_dead(intercept: Fraction) -> None:
    # Batch normalisation of a channel that training gave up leaves slopes like this one.
    slope, reach = Fraction(float(np.float32(1.3e-41))), (-(1 << 20), 1 << 20)
    found = requantise_parameters(slope, intercept, 0, 255, 0, reach)
    sums = np.array([*reach, -1, 0, 1])
    got = requantise(sums, found.multiplier, found.offset, found.shift, found.ties, 0, 255)
    assert got.tolist() == [key(int(s), slope, intercept, 0, 255, 0) for s in sums]
