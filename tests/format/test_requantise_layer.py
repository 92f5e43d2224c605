"""Requantisers of a whole layer are those that are found channel by channel."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_format.models.requantise_layer import (
    ChannelError,
    Line,
    layer_parameters,
    layer_thresholds,
)
from trencadis_format.models.requantise_parameters import InexactError, requantise_parameters
from trencadis_format.models.thresholds import thresholds

SCALES = st.floats(2**-14, 2**4, width=32).map(Fraction)
POWERS = st.integers(-8, 2).map(lambda power: Fraction(2) ** power)
BOUNDS = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted)


@st.composite
def channels(draw: st.DrawFn) -> tuple[list[Line], np.ndarray, np.ndarray]:
    lines: list[Line] = []
    least, most = [], []
    for _ in range(draw(st.integers(1, 6))):
        slope = draw(SCALES) * draw(SCALES) / draw(st.one_of(SCALES, POWERS))
        slope = min(max(slope, Fraction(1, 1 << 24)), Fraction(1 << 5))
        if draw(st.booleans()):
            slope = draw(POWERS)  # steps on integers: ties
        up = draw(st.integers(-(1 << 20), 1 << 20)) * slope + draw(st.integers(0, 255))
        middle = int((128 - up) / slope) + draw(st.integers(-1000, 1000))
        reach = draw(st.integers(0, 1 << 18))
        lines.append((slope, up))
        least.append(max(middle - reach, -(1 << 23)))
        most.append(max(min(middle + reach, (1 << 23) - 1), least[-1]))
    return lines, np.array(least), np.array(most)


@settings(deadline=None, max_examples=150)
@given(found=channels(), limits=BOUNDS, zero=st.integers(0, 255))
def test_steps_of_a_layer_are_those_of_its_channels(found, limits, zero) -> None:
    lines, least, most = found
    low, high = limits
    steps = layer_thresholds(lines, low, high, zero, least, most)
    assert steps.shape == (len(lines), high - low)
    for (slope, up), row, first, last in zip(lines, steps, least, most, strict=True):
        exact = thresholds(slope, up, low, high, zero)
        assert row.tolist() == [min(max(step, int(first)), int(last) + 1) for step in exact]


@settings(deadline=None, max_examples=150)
@given(found=channels(), limits=BOUNDS, zero=st.integers(0, 255))
def test_parameters_of_a_layer_are_those_of_its_channels(found, limits, zero) -> None:
    lines, least, most = found
    low, high = limits
    expected = []
    for (slope, up), first, last in zip(lines, least.tolist(), most.tolist(), strict=True):
        try:
            expected.append(requantise_parameters(slope, up, low, high, zero, (first, last)))
        except InexactError:
            with pytest.raises(ChannelError, match=f"channel {len(expected)}: "):
                layer_parameters(lines, low, high, zero, least, most)
            return
    assert layer_parameters(lines, low, high, zero, least, most) == expected
