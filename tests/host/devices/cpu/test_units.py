"""Weights as units: unpacked again, they are the weights."""

import numpy as np
import pytest

from trencadis_host.devices.cpu.paths import PATHS, Path
from trencadis_host.devices.cpu.units import Runs, Units, merged_units, pack_dense, pack_sparse


def random_weights(seed: int) -> tuple[np.ndarray, Runs, np.ndarray]:
    """Weights, runs of their window, and offsets of the window's positions."""
    rng = np.random.default_rng(seed)
    offsets = rng.permutation(np.array([0, 1, 2, 9, 10, 11, 18]))
    channels = int(rng.choice([1, 5, 40, 70]))
    weights = rng.integers(-128, 128, (37, len(offsets), channels)).astype(np.int8)
    weights[rng.random(weights.shape) > rng.choice([0.05, 0.3, 1])] = 0
    return weights, Runs.of(offsets, channels + 3, channels), offsets * (channels + 3)


def unpacked(units: Units, lanes: int, shape: tuple[int, ...], starts: np.ndarray) -> np.ndarray:
    weights = np.zeros(shape, np.int64)
    byte_of = {
        int(start) + channel: (position, channel)
        for position, start in enumerate(starts)
        for channel in range(shape[2])
    }
    for block, (begin, end) in enumerate(zip(units.starts, units.starts[1:], strict=False)):
        for unit in range(begin, end):
            for place, weight in enumerate(units.weights[unit].tolist()):
                if weight:
                    index = place % 4 if units.dense else units.indices[unit, place]
                    position, channel = byte_of[int(units.offsets[unit]) + int(index)]
                    weights[block * lanes + place // 4, position, channel] += weight
    return weights


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
@pytest.mark.parametrize("seed", range(4))
def test_sparse_units_hold_every_weight_once(path: Path, seed: int) -> None:
    weights, runs, starts = random_weights(seed)
    units = pack_sparse(weights, runs, path)
    assert np.array_equal(unpacked(units, path.lanes, weights.shape, starts), weights)
    assert (units.indices < path.window).all()


@pytest.mark.parametrize("seed", range(4))
def test_dense_units_hold_every_weight_once(seed: int) -> None:
    weights, runs, starts = random_weights(seed)
    units = pack_dense(weights, runs, 16)
    assert units.dense
    assert np.array_equal(unpacked(units, 16, weights.shape, starts), weights)


@pytest.mark.parametrize("seed", range(4))
def test_pairs_stay_in_16_bits(seed: int) -> None:
    weights, runs, _ = random_weights(seed)
    (path,) = (path for path in PATHS if path.name == "avx2")
    units = pack_sparse(weights, runs, path)
    pairs = units.weights.reshape(-1, 2).astype(np.int64) * 255
    assert np.maximum(pairs, 0).sum(axis=1).max() < 1 << 15
    assert np.minimum(pairs, 0).sum(axis=1).min() >= -(1 << 15)


def test_lists_follow_each_other_within_a_block() -> None:
    weights, runs, _ = random_weights(1)
    parts = [pack_sparse(weights, runs, PATHS[0]), pack_sparse(-(weights // 2), runs, PATHS[0])]
    merged = merged_units(parts)
    for block in range(len(parts[0].starts) - 1):
        for number, part in enumerate(parts):
            begin, end = merged.starts[2 * block + number : 2 * block + number + 2]
            own = slice(*part.starts[block : block + 2])
            assert np.array_equal(merged.weights[begin:end], part.weights[own])
            assert np.array_equal(merged.offsets[begin:end], part.offsets[own])


def test_a_layer_without_weights_has_no_units() -> None:
    _, runs, _ = random_weights(1)
    shape = (20, *runs.byte.shape)
    units = pack_sparse(np.zeros(shape, np.int8), runs, PATHS[0])
    assert units.count == 0
    assert units.starts.tolist() == [0, 0, 0]
