"""Windows covered by tiles, and weights packed into them."""

import numpy as np
import pytest

from trencadis_host.devices.cpu.tile_layer import Windows, choose_band
from trencadis_host.devices.cpu.tile_units import CHUNK, ROWS, TILE_BYTES, cover, pack_tiles
from trencadis_host.devices.cpu.units import Runs


@pytest.mark.parametrize("seed", range(20))
def test_a_cover_has_every_window_where_it_begins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.unique(rng.integers(0, 200, 60)) * 16
    found = cover(points, {16, 32, 48})
    tile, row = np.divmod(found.places, ROWS)
    assert np.array_equal(found.starts[tile] + row * found.unit, points)
    assert len(np.unique(found.places)) == len(points)


def test_rows_of_a_map_share_tiles_where_padding_is_narrow() -> None:
    """Two rows of seven outputs and the padding between them are sixteen windows."""
    at = np.arange(7)
    windows = Windows((at[:, None] * 9 + at) * 64, (0,), 81 * 64)
    band = choose_band(windows, 16)
    assert -(-7 // band.rows) * len(band.cover.starts) == 4


def test_strides_are_the_distance_within_a_tile() -> None:
    at = np.arange(16)
    windows = Windows((at[:, None] * 66 + at) * 2 * 64, (0,), 33 * 33 * 64)
    band = choose_band(windows, 16)
    assert band.cover.unit == 128
    assert len(band.cover.starts) == band.rows


def test_samples_are_the_windows_of_a_linear_layer() -> None:
    band = choose_band(Windows(np.zeros((1, 1), np.int64), (0,), 4096), 16)
    assert (band.samples, band.cover.unit, band.cover.starts.tolist()) == (16, 4096, [0])


def test_tiles_of_weights_multiply_as_the_instruction_does() -> None:
    """Row r of a tile holds bytes 4 r to 4 r + 3 of each kernel, kernel after kernel."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-128, 128, (20, 9, 24)).astype(np.int8)
    offsets = np.array([0, 1, 2, 12, 13, 14, 24, 25, 26])
    runs = Runs.of(offsets, 24, 24)
    tiles, starts = pack_tiles(weights, [runs])
    assert tiles.shape == (2, 1, 6, TILE_BYTES)
    window = rng.integers(0, 256, 27 * 24 + CHUNK).astype(np.int64)
    sums = np.zeros(2 * ROWS, np.int64)
    for chunk, start in enumerate(starts):
        quads = window[start : start + CHUNK].reshape(ROWS, 1, 4)
        for block in range(2):
            products = quads * tiles[block, 0, chunk].reshape(ROWS, ROWS, 4)
            sums[block * ROWS : block * ROWS + ROWS] += products.sum(axis=(0, 2))
    at = offsets[:, None] * 24 + np.arange(24)
    assert np.array_equal(sums[:20], (weights.astype(np.int64) * window[at]).sum(axis=(1, 2)))
    assert not sums[20:].any()
