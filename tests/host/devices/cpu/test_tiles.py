"""Tiles cover every output and fit the registers."""

import numpy as np
import pytest

from trencadis_host.devices.cpu.tiles import starts, tile_shape


@pytest.mark.parametrize("accumulators", [1, 8, 10, 22])
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_sums_fit_the_registers(accumulators: int, steps: int) -> None:
    for rows, columns, samples in ((1, 1, 16), (5, 5, 4), (14, 14, 1), (7, 30, 2)):
        tiling = tile_shape(rows, columns, steps, accumulators, samples)
        assert tiling.outputs <= max(1, accumulators)
        assert tiling.rows <= rows
        assert tiling.columns <= columns
        assert tiling.samples <= samples


@pytest.mark.parametrize(("size", "piece"), [(1, 1), (5, 2), (14, 7), (30, 11)])
def test_pieces_cover_everything(size: int, piece: int) -> None:
    covered = (starts(size, piece)[:, None] + np.arange(piece)).ravel()
    assert sorted(set(covered.tolist())) == list(range(size))
