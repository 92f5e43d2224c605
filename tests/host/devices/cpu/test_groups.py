"""Weights as groups: unpacked again, they are the weights; sums of a group fit 16 bits."""

import numpy as np
import pytest

from trencadis_host.devices.cpu.groups import MAX_CHUNK, PAIR_BYTES, Groups, pack_groups

KERNELS = 48


def packed(seed: int, *, overlapping: bool) -> tuple[np.ndarray, np.ndarray, Groups]:
    """Weights, the bytes that they meet, and groups."""
    rng = np.random.default_rng(seed)
    pitch = int(rng.choice([3, 5, 41])) if overlapping else int(rng.choice([2, 16, 48]))
    channels = int(rng.integers(1, pitch + 1))
    offsets = rng.permutation(np.array([0, 1, 2, 9, 10, 11, 18]))
    weights = rng.integers(-128, 128, (37, len(offsets), channels)).astype(np.int8)
    if seed % 3 == 0:
        weights[:] = rng.choice([-128, 127, 1], weights.shape)
    weights[rng.random(weights.shape) > rng.choice([0.05, 0.3, 1])] = 0
    bytes_of = offsets[:, None] * pitch + np.arange(channels)
    return weights, bytes_of, pack_groups(weights, bytes_of, KERNELS, overlapping=overlapping)


def pairs(groups: Groups) -> np.ndarray:
    """The two weights of every item, shape (groups, 4, 2)."""
    return np.ascontiguousarray(groups.table[:, 4:]).view(np.int8).reshape(-1, 4, 4)[..., :2]


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("seed", range(9))
def test_groups_hold_every_weight_once(seed: int, *, overlapping: bool) -> None:
    weights, bytes_of, groups = packed(seed, overlapping=overlapping)
    per_byte = PAIR_BYTES if overlapping else PAIR_BYTES // 2
    found = np.zeros((KERNELS, int(bytes_of.max()) + 2), np.int64)
    begins = groups.starts[:: groups.chunks]
    for kernel in range(KERNELS):
        own = slice(begins[kernel], begins[kernel + 1])
        places = groups.table[own, :4] // per_byte
        for slot in range(2):
            np.add.at(found[kernel], places + slot, pairs(groups)[own, :, slot])
    expected = np.zeros_like(found)
    expected[: len(weights), bytes_of.ravel()] = weights.reshape(len(weights), -1)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("seed", range(9))
def test_sums_of_groups_fit(seed: int, *, overlapping: bool) -> None:
    _, _, groups = packed(seed, overlapping=overlapping)
    values = pairs(groups).reshape(-1, 8).astype(np.int64)
    assert np.maximum(values, 0).sum(axis=1).max(initial=0) * 255 < 1 << 15
    assert np.maximum(-values, 0).sum(axis=1).max(initial=0) * 255 <= 1 << 15
    assert np.array_equal(groups.table[:, 4:] >> 16, (groups.table[:, 4:] << 16) >> 16)


def test_chunks_are_short() -> None:
    weights = np.full((3, 1, 2000), 100, np.int8)
    groups = pack_groups(weights, np.arange(2000)[None], 16, overlapping=False)
    assert groups.chunks == -(-2000 // MAX_CHUNK)
    assert np.diff(groups.starts).max() == MAX_CHUNK
    assert np.diff(groups.starts).sum() == groups.count == 3 * 2000
