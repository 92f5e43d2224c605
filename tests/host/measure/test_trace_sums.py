"""Figures of tensors, from sums."""

import numpy as np
import pytest

from trencadis_host.measure.trace_sums import PairSums, ValueSums

RNG = np.random.default_rng(5)


def test_values_part_by_part() -> None:
    sums = ValueSums()
    sums.add(np.array([[1.0, 0.0], [np.nan, -3.0]]), 1)
    sums.add(np.array([[np.inf, 0.5]]), 2)
    assert sums.row() == {
        "low": -3.0, "high": 1.0, "nonzero": 3 / 6, "saturated": 3 / 6, "not_finite": 2,
    }  # fmt: skip


def test_values_of_integers_and_of_nothing() -> None:
    sums = ValueSums()
    sums.add(np.array([[True, False]]))
    assert sums.row()["nonzero"] == 0.5
    assert sums.row()["saturated"] is None
    empty = ValueSums().row()
    assert (empty["low"], empty["high"], empty["nonzero"]) == (None, None, None)
    sums = ValueSums()
    sums.add(np.full((2, 2), np.nan))
    assert (sums.row()["low"], sums.row()["not_finite"]) == (None, 4)


def test_pairs_are_those_of_the_whole() -> None:
    first = RNG.normal(size=(12, 3, 4)) + 50
    second = first + RNG.normal(size=first.shape)
    sums = PairSums()
    for start in range(0, 12, 5):
        assert sums.add(first[start : start + 5], second[start : start + 5])
    found = sums.row()
    centred = [(a - a.mean(axis=0)).ravel() for a in (first, second)]
    assert found["correlation"] == pytest.approx(np.corrcoef(*centred)[0, 1], rel=1e-6)
    error = np.sqrt(np.mean((first - second) ** 2)) / (first.max() - first.min())
    assert found["error"] == pytest.approx(error, rel=1e-12)


def test_what_ignores_its_input_does_not_correlate() -> None:
    first = RNG.normal(size=(8, 20)) + np.arange(20) * 100
    sums = PairSums()
    sums.add(first, np.broadcast_to(first.mean(axis=0), first.shape))
    assert sums.row()["correlation"] == 0.0
    assert sums.row()["error"] < 0.01


def test_pairs_that_are_not_finite_are_left_out() -> None:
    first = RNG.normal(size=(6, 5))
    second = first.copy()
    first[0, 1], second[2, 2], second[3, 4] = np.nan, np.inf, -np.inf
    sums = PairSums()
    sums.add(first, second)
    found = sums.row()
    assert found["not_compared"] == 3
    assert found["error"] == 0.0
    assert found["correlation"] == pytest.approx(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 0.0])
def test_nothing_can_be_said(value: float) -> None:
    sums = PairSums()
    sums.add(np.full((2, 3), value), np.full((2, 3), value))
    found = sums.row()
    assert found["correlation"] is None
    assert found["error"] in (None, 0.0)


def test_other_shapes_are_not_compared() -> None:
    sums = PairSums()
    assert not sums.add(np.zeros((2, 3)), np.zeros((3, 2)))
    assert not sums.add(np.zeros(()), np.zeros(()))
    assert sums.add(np.zeros((2, 3)), np.zeros((2, 3)))
    assert not sums.add(np.zeros((2, 4)), np.zeros((2, 4)))
    assert sums.row() == {"correlation": None, "error": 0.0, "not_compared": 0}
