"""Packing of many kernels with few non-zeros."""

import numpy as np
import pytest

from trencadis_compiler.ir.occupancy import Occupancy
from trencadis_compiler.packing.first_fit import MANY_KERNELS, first_fit
from trencadis_compiler.packing.greedy import greedy
from trencadis_compiler.packing.tiles import fewest_tiles, pack


def sparse_masks(kernels: int, rows: int, nonzeros: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    masks = np.zeros((kernels, rows), bool)
    masks[rng.integers(0, kernels, nonzeros), rng.integers(0, rows, nonzeros)] = True
    return masks


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("limit", [2, 7])
def test_tiles_take_each_kernel_once_and_no_more_than_they_hold(depth: int, limit: int) -> None:
    masks = sparse_masks(300, 40, 2000)
    tiles = first_fit(Occupancy.of(masks), range(300), limit, depth)
    assert sorted(kernel for tile in tiles for kernel in tile) == list(range(300))
    for tile in tiles:
        assert len(tile) <= limit
        assert masks[tile].sum(axis=0).max() <= depth


@pytest.mark.parametrize("depth", [1, 2])
def test_tiles_are_about_as_few_as_those_of_the_greedy_search(depth: int) -> None:
    occupancy = Occupancy.of(sparse_masks(600, 80, 6000))
    order = np.argsort(-occupancy.sizes, kind="stable").tolist()
    assert len(first_fit(occupancy, order, 12, depth)) <= 1.1 * len(
        greedy(occupancy, order, 12, depth)
    )


def test_no_kernel_goes_further_than_the_first_tile_that_takes_it() -> None:
    masks = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]], bool)
    assert first_fit(Occupancy.of(masks), range(4), 3, 1) == [[0, 2], [1, 3]]


def test_thousands_of_kernels_are_packed_without_a_table_of_pairs() -> None:
    occupancy = Occupancy.of(sparse_masks(MANY_KERNELS + 1, 500, 9000))
    packing = pack(occupancy, 16)
    assert "collide" not in vars(occupancy)
    assert packing.count <= 1.2 * fewest_tiles(occupancy, 16)
