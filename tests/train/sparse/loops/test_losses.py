import numpy as np
import pytest

from trencadis_train.sparse.loops.losses import loss_function


@pytest.mark.parametrize("name", ["cross-entropy", "mse"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_that_of_the_loss(name: str, smoothing: float) -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal((4, 3)).astype(np.float32)
    labels = np.array([0, 3, 1])
    loss = loss_function(name)  # type: ignore[arg-type]
    value, gradient = loss(z, labels, smoothing)
    assert value > 0
    for i, b in ((0, 0), (3, 1), (2, 2)):
        step = np.zeros_like(z)
        step[i, b] = 1e-2
        difference = loss(z + step, labels, smoothing)[0] - loss(z - step, labels, smoothing)[0]
        assert abs(difference / 2e-2 - gradient[i, b]) < 1e-4


def test_huge_outputs_do_not_overflow() -> None:
    value, gradient = loss_function("cross-entropy")(
        np.array([[1e30], [0]], np.float32), np.array([0]), 0.0
    )
    assert value == 0
    assert gradient.tolist() == [[0], [0]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["cross-entropy", "mse"])
def test_outputs_that_are_no_numbers_have_no_loss(name: str) -> None:
    z = np.array([[np.inf], [0]], np.float32)
    value, _ = loss_function(name)(z, np.array([1]), 0.0)  # type: ignore[arg-type]
    assert not np.isfinite(value)
