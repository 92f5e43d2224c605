"""Sweeps: weights that are as sparse as they say, and cycles, planned and on RTL."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trencadis_bench.measure.layer_run import FRONT, layer_after_lists
from trencadis_bench.measure.scaling import (
    SIMULATED_ENGINE,
    SIMULATED_SHAPE,
    Shape,
    complementary_weights,
    measure_point,
    random_weights,
    simulated_sweep,
)
from trencadis_compiler.mapping.place import place
from trencadis_compiler.mapping.schedule import schedule
from trencadis_format.config import CoreConfig, EngineConfig

SHAPE = Shape("3x3", 16, 16, 3, 4)
ENGINE = EngineConfig(
    lanes=9,
    tiles=2,
    kernels_per_tile=16,
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


@pytest.mark.parametrize(("ways", "winners"), [(2, 8), (8, 4), (8, 64), (64, 8)])
def test_what_makes_the_lists_is_never_what_is_measured(ways: int, winners: int) -> None:
    weights = complementary_weights(SIMULATED_SHAPE, ways, 1)
    core = CoreConfig(engines=(FRONT, SIMULATED_ENGINE))
    plan = schedule(place(layer_after_lists(weights, 8, winners), core, {}))
    assert plan.static
    front, measured = plan.engines
    assert front.period < measured.period == plan.period


@pytest.mark.rtl
def test_simulated_cycles_are_those_planned(tmp_path: Path, build_dir: Path) -> None:
    """One kernel, both densities; all outputs are compared on the way."""
    points = simulated_sweep(
        tmp_path, lambda text: None, ways=(8,), winners=(16,), build_dir=build_dir
    )
    assert [(point.ways, point.winners) for point in points] == [(8, 8), (8, 16)]
    for point in points:
        assert point.simulated is not None
        # Beginning a layer and a sample, and draining the last position.
        assert 3 <= point.simulated - point.cycles <= 3 + 8
