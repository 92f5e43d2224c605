import numpy as np
import pytest

from trencadis_train.sparse.loops import activations


def test_all_relu_alternates() -> None:
    slopes = [activations.negative_slope("all-relu", 0.6, layer) for layer in range(4)]
    assert slopes == [-0.6, 0.6, -0.6, 0.6]
    assert activations.negative_slope("relu", 0.6, 1) == 0
    assert activations.negative_slope("leaky-relu", 0.6, 0) == 0.6


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.5])
def test_the_factor_is_the_derivative(slope: float) -> None:
    a = np.array([[-2, -0.0, 0.5, 3]], np.float32)
    factor = np.empty_like(a)
    activations.activate(a, factor, slope)
    assert factor.tolist() == [[slope, slope, 1, 1]]
    assert a.tolist() == [[-2 * slope, 0, 0.5, 3]]


def test_dropout_keeps_its_part_and_depends_on_the_seed() -> None:
    factors = []
    for seed in (1, 1, 2, 2**63 - 1):
        a = np.ones((400, 64), np.float32)
        factor = np.empty_like(a)
        activations.activate(a, factor, 0.0, 0.25, seed)
        assert (a == factor).all()
        assert set(np.unique(factor).tolist()) == {0.0, float(np.float32(1 / 0.75))}
        assert abs((factor == 0).mean() - 0.25) < 0.01
        factors.append(factor)
    assert (factors[0] == factors[1]).all()
    assert (factors[0] != factors[2]).mean() > 0.3


def test_k_winners_keep_the_first_of_equals() -> None:
    a = np.array([[1, 5], [3, 5], [3, 5], [2, 0]], np.float32)
    factor = np.ones_like(a)
    activations.k_winners(a, factor, 2)
    assert a.T.tolist() == [[0, 3, 3, 0], [5, 5, 0, 0]]
    assert (factor == (a != 0)).all()
