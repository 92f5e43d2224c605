import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_train.errors import TrainingError
from trencadis_train.sparsity.masks import (
    block_mask,
    complementary_mask,
    consecutive_sets,
    count_collisions,
    largest_mask,
    n_m_mask,
    random_mask,
)


@settings(deadline=None, max_examples=60)
@given(ways=st.integers(1, 12), sets=st.integers(1, 5), extra=st.integers(0, 40), data=st.data())
def test_complementary_masks_never_collide_and_have_their_counts(ways, sets, extra, data):
    rows = ways + extra
    nonzeros = data.draw(st.none() | st.integers(1, rows // ways))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    mask = complementary_mask(ways * sets, rows, ways, nonzeros=nonzeros, rng=rng)
    assert count_collisions(mask, consecutive_sets(ways * sets, ways)) == 0
    if nonzeros is None:
        assert mask.sum() == sets * rows
        assert set(mask.sum(axis=1)) <= {rows // ways, -(-rows // ways)}
    else:
        assert set(mask.sum(axis=1)) == {nonzeros}


def test_complementary_masks_cover_the_reference_network_exactly():
    for kernels, rows, ways, nonzeros in (
        (64, 25, 2, 12),
        (64, 1600, 8, 200),
        (1500, 1600, 25, 64),
    ):
        mask = complementary_mask(
            kernels, rows, ways, nonzeros=nonzeros, rng=np.random.default_rng(1)
        )
        assert set(mask.sum(axis=1)) == {nonzeros}


def test_the_same_seed_gives_the_same_mask():
    masks = [complementary_mask(8, 20, 4, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != masks[2]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (64, 25, 3, None),
            "ways must divide the 64 kernels of the layer, not 3; choose one of",
        ),
        ((64, 25, 32, None), "ways must be at most the 25 weights of a kernel, not 32"),
        ((64, 25, 2, 13), "nonzeros must be in 1..12, so that 2 kernels share 25 rows, not 13"),
        ((64, 25, 2, 0), "nonzeros must be in 1..12"),
        ((64, 25, 0, None), "ways must divide the 64 kernels"),
    ],
)
def test_impossible_masks_are_refused(arguments, message):
    kernels, rows, ways, nonzeros = arguments
    with pytest.raises(TrainingError, match=message):
        complementary_mask(kernels, rows, ways, nonzeros=nonzeros, rng=np.random.default_rng(0))


def test_random_masks_have_their_count():
    mask = random_mask(50, 30, 7, rng=np.random.default_rng(0))
    assert set(mask.sum(axis=1)) == {7}
    assert mask.any(axis=0).all()


def test_largest_magnitudes_are_kept_and_the_first_of_equal_ones():
    weights = np.array([[1.0, -3.0, 2.0, 0.5], [1.0, 1.0, -1.0, 1.0]])
    expected = [[False, True, True, False], [True, True, False, False]]
    assert largest_mask(weights, 2).tolist() == expected
    with pytest.raises(TrainingError, match=r"nonzeros must be in 1\.\.4, the weights of a kernel"):
        largest_mask(weights, 5)


@settings(deadline=None, max_examples=40)
@given(m=st.integers(1, 8), groups=st.integers(1, 6), kernels=st.integers(1, 5), data=st.data())
def test_n_m_masks_keep_n_of_every_m(m, groups, kernels, data):
    n = data.draw(st.integers(1, m))
    weights = np.random.default_rng(data.draw(st.integers(0, 99))).normal(
        size=(kernels, m * groups)
    )
    mask = n_m_mask(weights, n, m)
    assert (mask.reshape(-1, m).sum(axis=1) == n).all()
    kept, lost = np.where(mask, abs(weights), np.inf), np.where(mask, 0, abs(weights))
    assert (kept.reshape(-1, m).min(axis=1) >= lost.reshape(-1, m).max(axis=1)).all()


@pytest.mark.parametrize(
    ("n", "m", "message"),
    [
        (2, 5, "m must divide the 8 weights of a kernel, not 5"),
        (1, 0, "m must divide the 8 weights of a kernel, not 0"),
        (5, 4, r"n must be in 1\.\.4, not 5"),
        (0, 4, r"n must be in 1\.\.4, not 0"),
    ],
)
def test_impossible_n_m_masks_are_refused(n, m, message):
    with pytest.raises(TrainingError, match=message):
        n_m_mask(np.ones((2, 8)), n, m)


def test_collisions_are_counted():
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
    assert count_collisions(mask, np.array([0, 0, 0])) == 3
    assert count_collisions(mask, np.array([0, 0, 1])) == 1
    assert count_collisions(mask, np.array([0, 1, 2])) == 0


def test_blocks_are_kept_whole() -> None:
    mask = block_mask(8, 12, (4, 3), 2, rng=np.random.default_rng(1))
    blocks = mask.reshape(2, 4, 4, 3).transpose(0, 2, 1, 3).reshape(2, 4, 12)
    assert set(blocks.sum(axis=2).ravel().tolist()) == {0, 12}
    assert (blocks[:, :, 0].sum(axis=1) == 2).all()
    with pytest.raises(TrainingError, match="must divide a layer of 8 x 12 weights"):
        block_mask(8, 12, (3, 3), 2, rng=np.random.default_rng(1))
