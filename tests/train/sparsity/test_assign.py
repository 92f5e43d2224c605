import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_train.errors import TrainingError
from trencadis_train.sparsity.assign import assign_kernels, assign_rows, group_kernels
from trencadis_train.sparsity.masks import complementary_mask, count_collisions, largest_mask


def best_sum(scores, quotas):
    """The largest sum of scores, by another algorithm."""
    optimize = pytest.importorskip("scipy.optimize")
    places = np.repeat(np.arange(len(quotas)), quotas)
    lines, rows = optimize.linear_sum_assignment(scores[places], maximize=True)
    return scores[places[lines], rows].sum()


@settings(deadline=None, max_examples=150)
@given(kernels=st.integers(1, 6), rows=st.integers(0, 14), data=st.data())
def test_rows_are_dealt_out_with_the_largest_sum(kernels, rows, data):
    # Small whole numbers: sums are exact, and ties are common.
    numbers = st.lists(st.integers(-9, 9), min_size=kernels * rows, max_size=kernels * rows)
    scores = np.array(data.draw(numbers), float).reshape(kernels, rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), min_size=kernels, max_size=kernels)))
    quotas = np.diff([0, *cuts])
    owners = assign_rows(scores, quotas)
    dealt = owners >= 0
    assert np.bincount(owners[dealt], minlength=kernels).tolist() == quotas.tolist()
    assert scores[owners[dealt], np.flatnonzero(dealt)].sum() == best_sum(scores, quotas)


@pytest.mark.parametrize("zeros", [0.0, 0.9])
@pytest.mark.parametrize("skew", [0.0, 2.0])
def test_large_problems_are_solved_exactly(zeros, skew):
    rng = np.random.default_rng(5)
    scores = rng.integers(1, 1000, (8, 200)) * (rng.random((8, 200)) >= zeros).astype(float)
    # Kernels that want everything: most rows have to leave them.
    scores = np.rint(scores * np.exp(skew * rng.normal(size=(8, 1))))
    quotas = np.full(8, 25)
    owners = assign_rows(scores, quotas)
    assert (np.bincount(owners) == quotas).all()
    assert scores[owners, np.arange(200)].sum() == best_sum(scores, quotas)


def test_more_rows_than_there_are_cannot_be_dealt_out():
    with pytest.raises(TrainingError, match=r"3 rows cannot be shared out as \[2, 2\]"):
        assign_rows(np.ones((2, 3)), np.array([2, 2]))


@settings(deadline=None, max_examples=40)
@given(ways=st.integers(1, 6), sets=st.integers(1, 5), extra=st.integers(0, 20), data=st.data())
def test_assigned_masks_are_complementary(ways, sets, extra, data):
    rows = ways + extra
    nonzeros = data.draw(st.none() | st.integers(1, rows // ways))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    weights = rng.normal(size=(ways * sets, rows)) * (rng.random((ways * sets, rows)) < 0.5)
    found = assign_kernels(weights, ways, nonzeros=nonzeros)
    assert count_collisions(found.mask, found.sets) == 0
    assert np.bincount(found.sets).tolist() == [ways] * sets
    counts = found.mask.sum(axis=1)
    if nonzeros is None:
        assert counts.sum() == sets * rows
        assert set(counts) <= {rows // ways, -(-rows // ways)}
    else:
        assert set(counts) == {nonzeros}
    total = abs(weights).sum()
    assert found.kept == (abs(weights)[found.mask].sum() / total if total else 1.0)


def test_hidden_complementary_masks_are_found_again():
    """Shuffled kernels of a complementary layer: nothing at all needs to be lost."""
    rng = np.random.default_rng(7)
    mask = complementary_mask(64, 400, 4, rng=rng)
    weights = (rng.normal(size=mask.shape) * mask)[rng.permutation(64)]
    found = assign_kernels(weights, 4)
    assert found.kept == 1.0
    assert (found.mask == (weights != 0)).all()


def test_grouping_and_assignment_keep_more_than_chance():
    rng = np.random.default_rng(3)
    weights = rng.laplace(size=(96, 300)) * np.exp(rng.normal(size=(96, 300)))
    pruned = np.where(largest_mask(weights, 50), weights, 0)
    total = abs(pruned).sum()
    chance = complementary_mask(96, 300, 6, rng=rng)
    neighbours = assign_kernels(pruned, 6, group=False).kept
    grouped = assign_kernels(pruned, 6).kept
    assert abs(pruned[chance]).sum() / total < 0.25
    assert neighbours > 0.6
    assert grouped > neighbours + 0.02


def test_grouping_separates_kernels_that_collide():
    magnitudes = np.array([[3, 0, 0], [3, 0, 0], [0, 2, 1], [0, 1, 2]], float)
    sets = group_kernels(magnitudes, 2, 3)
    assert sets[0] != sets[1]
    assert sets[2] != sets[3]
    assert sets[0] == 0


@pytest.mark.parametrize(
    ("weights", "ways", "nonzeros", "message"),
    [
        (np.ones((6, 8)), 4, None, "ways must divide the 6 kernels of the layer, not 4"),
        (np.ones((6, 4)), 6, None, "ways must be at most the 4 weights of a kernel, not 6"),
        (np.ones((6, 8)), 2, 5, r"nonzeros must be in 1\.\.4, so that 2 kernels share 8 rows"),
        (np.full((6, 8), np.nan), 2, None, "weights must be finite"),
    ],
)
def test_impossible_assignments_are_refused(weights, ways, nonzeros, message):
    with pytest.raises(TrainingError, match=message):
        assign_kernels(weights, ways, nonzeros=nonzeros)
