"""Packings that are searched once, and as far as they need be."""

import numpy as np
import pytest

from trencadis_compiler.ir.occupancy import Occupancy
from trencadis_compiler.packing.packings import MANY, SAMPLE, Packings
from trencadis_compiler.packing.tiles import Effort, Search


def weights(kernels: int, rows: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(kernels)
    return np.where(rng.random((kernels, rows)) < density, 1, 0).astype(np.int8)


def packings_of(array: np.ndarray) -> Packings:
    return Packings(Occupancy.of(array != 0))


def test_a_first_packing_is_never_better() -> None:
    packings = packings_of(weights(256, 256, 0.25))
    for limit, depth in ((16, 4), (8, 3), (4, 2)):
        first, best = packings.first(limit, depth), packings.best(limit, depth)
        assert packings.fewest_tiles(limit, depth) <= len(best.tiles) < len(first.tiles)
        assert packings.first(limit, depth) is best


def test_a_limit_that_binds_nothing_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[tuple[int, int]] = []

    def counted(occupancy: object, limit: int, depth: int) -> Search:
        searched.append((limit, depth))
        return Search(occupancy, limit, depth)  # type: ignore[arg-type]

    monkeypatch.setattr("trencadis_compiler.packing.packings.Search", counted)
    packings = packings_of(weights(64, 256, 0.3))
    wide = packings.first(16, 2)
    assert wide.kernels_per_tile <= 8
    assert packings.first(8, 2) == wide
    assert packings.first(16, 1).kernels_per_tile == packings.first(8, 1).kernels_per_tile == 1
    assert searched == [(16, 2), (16, 1)]


def test_many_kernels_are_estimated_by_a_sample() -> None:
    many = packings_of(weights(MANY + 300, 64, 0.1))
    assert many.many
    estimate, found = many.expected_tiles(16, 4), len(many.first(16, 4).tiles)
    assert 0.9 * found <= estimate <= 1.2 * found
    few = packings_of(weights(SAMPLE, 64, 0.1))
    assert not few.many
    assert few.expected_tiles(16, 4) == few.fewest_tiles(16, 4)


def test_complementary_sets_of_many_kernels_are_not_sampled() -> None:
    ways, rows = 8, 64
    masks = np.zeros((MANY + 8, 4 * rows), np.int8)
    rng = np.random.default_rng(0)
    for start in range(0, len(masks), ways):
        masks[start + rng.permutation(4 * rows) % ways, np.arange(4 * rows)] = 1
    assert packings_of(masks).expected_tiles(ways, 1) == len(masks) // ways


def test_effort_is_shared_by_long_networks() -> None:
    effort = Effort(rounds=60, moves=30_000, total_moves=300_000)
    assert effort.shared(12) == effort
    assert effort.shared(48) == Effort(60, 7_500, 75_000)


def test_searches_tell_that_they_go_on() -> None:
    told: list[None] = []
    search = Search(packings_of(weights(128, 128, 0.25)).occupancy, 16, 4)
    search.improve(Effort(), progress=lambda: told.append(None))
    assert told
