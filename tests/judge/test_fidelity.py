"""A copy that ignores its input is another function, whatever its mean is."""

import numpy as np
import pytest

from trencadis_judge import JudgeError, compare_tensors

RNG = np.random.default_rng(0)
BIASES = 5 * RNG.normal(size=10)
SIGNAL = RNG.normal(size=(64, 10))


def test_a_copy_that_ignores_its_input_does_not_correlate() -> None:
    original = SIGNAL + BIASES
    ignorant = np.broadcast_to(BIASES, original.shape)
    plain = np.corrcoef(original.ravel(), ignorant.ravel())[0, 1]
    assert plain > 0.95  # what a plain correlation would say
    (found,) = compare_tensors({"y": original}, {"y": ignorant})
    assert found.correlation == 0
    assert not found.faithful


def test_a_copy_with_a_little_noise() -> None:
    original = SIGNAL + BIASES
    (found,) = compare_tensors({"y": original}, {"y": original + 0.01 * RNG.normal(size=(64, 10))})
    assert found.correlation > 0.99
    assert found.error < 0.001
    assert found.faithful


def test_what_does_not_vary_is_judged_by_its_error() -> None:
    constant = np.ones((5, 3))
    (same,) = compare_tensors({"y": constant}, {"y": constant})
    assert (same.correlation, same.error, same.faithful) == (1, 0, True)
    (other,) = compare_tensors({"y": constant}, {"y": constant + RNG.normal(size=(5, 3))})
    assert other.correlation == 0
    assert not other.faithful


def test_one_sample_is_compared_element_by_element() -> None:
    (found,) = compare_tensors({"y": SIGNAL[:1]}, {"y": SIGNAL[:1] * 0.99})
    assert found.correlation == pytest.approx(1)
    (other,) = compare_tensors({"y": SIGNAL[:1]}, {"y": SIGNAL[1:2]})
    assert not other.faithful


def test_numbers_that_are_none_are_no_copy() -> None:
    (found,) = compare_tensors({"y": SIGNAL}, {"y": np.full_like(SIGNAL, np.nan)})
    assert not found.faithful


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(JudgeError, match="in the copy"):
        compare_tensors({"y": SIGNAL}, {"y": SIGNAL[:3]})
    assert compare_tensors({"y": SIGNAL}, {"z": SIGNAL}) == ()
