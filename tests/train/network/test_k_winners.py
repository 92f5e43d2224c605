import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("torch")

import torch

from trencadis_train.errors import TrainingError
from trencadis_train.network.k_winners import KWinners, KWinners2d, k_winners_mask


def _expected(scores: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.bool_]:
    """Winners by sorting: the largest first, of equal ones the lowest index."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    mask = np.zeros(scores.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask


@given(
    # Few different numbers, so that ties are the rule.
    scores=arrays(
        np.int8, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(-2, 2)
    ),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_exactly_k_win_and_ties_go_to_the_lowest_index(
    scores: npt.NDArray[np.int8], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, scores.shape[1]))
    numbers = scores.astype(np.float32)
    mask = k_winners_mask(torch.from_numpy(numbers), k).numpy()
    assert np.array_equal(mask, _expected(numbers, k))


def test_local_winners_are_chosen_at_every_position() -> None:
    x = torch.from_numpy(np.random.default_rng(1).random((2, 6, 3, 4), np.float32))
    y = KWinners2d(2, 6).eval()(x)
    assert torch.equal((y != 0).sum(dim=1), torch.full((2, 3, 4), 2))
    assert torch.equal(y[:, :, 1, 2], KWinners(2, 6).eval()(x[:, :, 1, 2]))


def test_winners_keep_their_values_and_get_the_gradients() -> None:
    x = torch.tensor([[1.0, 3.0, 2.0]], requires_grad=True)
    y = KWinners(2, 3)(x)
    assert y.tolist() == [[0.0, 3.0, 2.0]]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 1.0, 1.0]]


def test_boosting_helps_who_rarely_wins_but_only_in_training() -> None:
    module = KWinners(1, 2)
    module.duty.copy_(torch.tensor([0.9, 0.1]))
    module.boost = 1.0
    x = torch.tensor([[1.1, 1.0]])
    assert module(x).tolist() == [[0.0, 1.0]]
    module.eval()
    assert module(x).tolist() == [[x[0, 0].item(), 0.0]]


def test_duty_cycles_follow_who_wins() -> None:
    module = KWinners(1, 2, duty_batches=10)
    for _ in range(200):
        module(torch.tensor([[2.0, 1.0], [3.0, 1.0]]))
    assert module.duty[0] > 0.99
    assert module.duty[1] < 0.01


def test_a_winner_of_zero_does_not_count_as_winning() -> None:
    module = KWinners(1, 2, duty_batches=1)
    module(torch.zeros(3, 2))
    assert module.duty.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("k", [0, 5])
def test_refuses_an_impossible_k(k: int) -> None:
    with pytest.raises(TrainingError, match=f"k must be in 1..4, the number of channels, not {k}"):
        KWinners(k, 4)


def test_refuses_other_channels() -> None:
    with pytest.raises(TrainingError, match="k-WTA among 4 channels got 3"):
        KWinners(2, 4)(torch.zeros(1, 3))
