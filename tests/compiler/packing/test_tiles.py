import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_compiler.ir.occupancy import Occupancy
from trencadis_compiler.packing.cover import full_tiles
from trencadis_compiler.packing.tiles import fewest_tiles, pack


def complementary(kernels: int, rows: int, ways: int, nonzeros: int, seed: int):
    """Masks in sets of `ways` that do not collide, in random order."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((kernels, rows), bool)
    order = rng.permutation(rows)
    for kernel in range(kernels):
        if kernel % ways == 0:
            order = rng.permutation(rows)
        start = kernel % ways * nonzeros
        masks[kernel, order[start : start + nonzeros]] = True
    return rng.permutation(masks)


def check(masks, packing, kernels_per_tile: int) -> None:
    placed = [kernel for tile in packing.tiles for kernel in tile]
    assert sorted(placed) == list(range(len(masks))), "every kernel in one tile"
    for tile in packing.tiles:
        assert 1 <= len(tile) <= kernels_per_tile
        assert masks[list(tile)].sum(axis=0).max(initial=0) <= packing.depth
        assert list(tile) == sorted(tile)
    assert list(packing.tiles) == sorted(packing.tiles)
    assert len(packing.tiles) >= fewest_tiles(Occupancy.of(masks), kernels_per_tile, packing.depth)


@settings(deadline=None, max_examples=80)
@given(
    kernels=st.integers(1, 40),
    rows=st.integers(1, 30),
    density=st.floats(0, 1),
    limit=st.integers(1, 20),
    depth=st.integers(1, 4),
    seed=st.integers(0, 1 << 16),
)
def test_kernels_in_tiles(kernels, rows, density, limit, depth, seed) -> None:
    masks = np.random.default_rng(seed).random((kernels, rows)) < density
    packing = pack(Occupancy.of(masks), limit, depth=depth)
    check(masks, packing, limit)
    assert packing.depth == depth
    assert packing.kernels_per_tile == max(len(tile) for tile in packing.tiles)


@pytest.mark.parametrize("drop", [0, 0.02], ids=["perfect", "quantised"])
@pytest.mark.parametrize(
    ("kernels", "rows", "ways", "nonzeros"),
    [
        (64, 25, 2, 12),
        (64, 1600, 8, 200),
        (1500, 1600, 25, 64),
        (64, 72, 8, 9),
        (64, 72, 4, 18),
        (32, 100, 10, 10),
        (256, 256, 16, 16),
        (100, 120, 5, 24),
    ],
)
def test_complementary_sets_are_found(kernels, rows, ways, nonzeros, drop) -> None:
    masks = complementary(kernels, rows, ways, nonzeros, seed=kernels + ways)
    # Quantising makes some weights zero.
    masks &= np.random.default_rng(0).random(masks.shape) >= drop
    packing = pack(Occupancy.of(masks), ways)
    check(masks, packing, ways)
    assert len(packing.tiles) == math.ceil(kernels / ways)


@pytest.mark.parametrize("drop", [0, 0.02], ids=["perfect", "quantised"])
@pytest.mark.parametrize("seed", range(4))
def test_small_sets_among_many_that_fit_by_chance(seed, drop) -> None:
    # Any two of these kernels fit with probability 27 %: the search finds most sets, not all.
    masks = complementary(64, 16, 4, 4, seed)
    masks &= np.random.default_rng(seed).random(masks.shape) >= drop
    packing = pack(Occupancy.of(masks), 4)
    check(masks, packing, 4)
    assert 16 <= len(packing.tiles) <= 20


def test_dense_kernels_have_a_tile_each() -> None:
    packing = pack(Occupancy.of(np.ones((12, 30), bool)), 8)
    assert packing.tiles == tuple((kernel,) for kernel in range(12))


def test_empty_kernels_fill_tiles() -> None:
    assert len(pack(Occupancy.of(np.zeros((12, 30), bool)), 5).tiles) == 3


def test_more_tiles_than_there_is_room_for_at_first() -> None:
    masks = np.ones((200, 3), bool)
    check(masks, pack(Occupancy.of(masks), 4, depth=2), 4)
    assert len(pack(Occupancy.of(masks), 4, depth=2).tiles) == 100


def test_depth_takes_what_collides() -> None:
    masks = np.ones((6, 4), bool)
    assert [len(pack(Occupancy.of(masks), 6, depth=depth).tiles) for depth in (1, 2, 3, 6)] == [
        6,
        3,
        2,
        1,
    ]


def test_the_same_seed_gives_the_same_tiles() -> None:
    masks = np.random.default_rng(0).random((60, 80)) < 0.1
    assert pack(Occupancy.of(masks), 8, seed=3) == pack(Occupancy.of(masks), 8, seed=3)


@pytest.mark.parametrize(("limit", "depth"), [(0, 1), (1, 0)])
def test_parameters_must_be_positive(limit, depth) -> None:
    with pytest.raises(ValueError, match=f"must be positive, not {depth}, {limit}"):
        pack(Occupancy.of(np.ones((1, 1), bool)), limit, depth=depth)


def test_the_bound_counts_kernels_rows_and_collisions() -> None:
    masks = np.zeros((6, 4), bool)
    assert fewest_tiles(Occupancy.of(masks), 4) == 2
    masks[:5, 0] = True
    assert fewest_tiles(Occupancy.of(masks), 4) == 5
    assert fewest_tiles(Occupancy.of(masks), 4, depth=2) == 3
    assert fewest_tiles(Occupancy.of(np.ones((6, 4), bool)), 6, depth=2) == 3


def test_full_tiles_are_full() -> None:
    masks = complementary(32, 24, 4, 6, seed=1)
    tiles = full_tiles(Occupancy.of(masks), list(range(32)), 4, 20_000)
    assert len(tiles) >= 6
    for tile in tiles:
        assert (masks[tile].sum(axis=0) == 1).all()
    assert len({kernel for tile in tiles for kernel in tile}) == 4 * len(tiles)


def test_a_search_gives_up() -> None:
    masks = complementary(32, 24, 4, 6, seed=1)
    assert full_tiles(Occupancy.of(masks), list(range(32)), 4, 0) == []
