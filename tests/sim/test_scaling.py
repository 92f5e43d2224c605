"""Sweeps: weights that are as sparse as they say, and cycles that never beat the ideal."""

from dataclasses import replace

import numpy as np
import pytest

from trencadis_hw.config import EngineConfig
from trencadis_sim.scaling import Shape, complementary_weights, measure_point, random_weights

SHAPE = Shape("3x3", 16, 16, 3, 4)
ENGINE = EngineConfig(
    lanes=9,
    tiles=2,
    kernels=16,
    requantisers=2,
    list_entries=1 << 14,
    weight_rows=1 << 12,
    slot_rows=64,
)


@pytest.mark.parametrize("ways", [2, 4, 16])
def test_complementary_kernels_share_every_row_without_collisions(ways: int) -> None:
    weights = complementary_weights(SHAPE, ways, seed=1)
    assert np.count_nonzero(weights) == weights.size // ways
    per_row = np.count_nonzero(weights.reshape(16, -1), axis=0)
    assert (per_row == 16 // ways).all()


def test_random_weights_are_as_many() -> None:
    weights = random_weights(SHAPE, 4, seed=1)
    assert np.count_nonzero(weights) == weights.size // 4


@pytest.mark.parametrize(("ways", "cycles"), [(2, 16 * 4 * 8), (8, 16 * 8), (16, 16 * 8)])
def test_cycles_are_work_over_multipliers_of_the_lists(ways: int, cycles: int) -> None:
    # 16 positions; 2 tiles at a time; lists of 8 on each of 9 lanes. 16 ways fill one tile;
    # two of 8 kernels drain sooner.
    point = measure_point("", SHAPE, "complementary", ways, 8, ENGINE)
    assert point is not None
    assert point.cycles == cycles
    assert point.ideal <= point.cycles
    assert point.ideal == 16 * 9 * 8 * 16 / ways / 18


def test_what_does_not_fit_is_left_out() -> None:
    assert measure_point("", SHAPE, "random", 2, 8, replace(ENGINE, weight_rows=4)) is None
