"""Weights as units: for every block of kernels, what is taken from which bytes of a map.

A unit holds four weights of each of `lanes` kernels, all of which meet bytes of the same short
window of the map: one permutation brings each kernel its four bytes, one dot product adds them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.cpu.paths import Path

__all__ = ["Runs", "Units", "merged_units", "pack_dense", "pack_sparse"]

Array = npt.NDArray[np.int64]

QUAD = 4

SAFE_PAIR = 128
"""Two weights of one sign that add up to no more cannot leave 16 bits: 128 * 255 < 2**15."""


@dataclass(frozen=True)
class Runs:
    """Bytes of a window, as runs that lie one after the other in memory.

    Attributes
    ----------
    run, byte : int64 array, shape (window positions, channels)
        Which run a value is in, and where.
    starts, lengths : int64 array, shape (runs,)
        Bytes from the window's first byte to a run, and the bytes that it has.
    """

    run: Array
    byte: Array
    starts: Array
    lengths: Array

    @classmethod
    def of(cls, offsets: Array, pitch: int, channels: int) -> "Runs":
        """Runs of a window whose positions have `offsets`, in a map of `pitch`-byte positions."""
        order = np.argsort(offsets, kind="stable")
        ordered = offsets[order]
        first = np.concatenate([[True], np.diff(ordered) != 1])
        number = np.cumsum(first) - 1
        starts = ordered[first]
        ends = ordered[np.concatenate([np.flatnonzero(first)[1:] - 1, [len(ordered) - 1]])]
        run = np.empty_like(offsets)
        run[order] = number
        byte = (offsets - starts[run])[:, None] * pitch + np.arange(channels)
        return cls(
            run=np.broadcast_to(run[:, None], byte.shape),
            byte=byte,
            starts=starts * pitch,
            lengths=(ends - starts) * pitch + channels,
        )

    def windows(self, size: int) -> int:
        """Number of windows of `size` bytes that cover all runs."""
        return int((-(-self.lengths // size)).sum())


@dataclass(frozen=True)
class Units:
    """Units of all blocks of kernels.

    Attributes
    ----------
    indices : uint8 array, shape (units, 4 * lanes)
        Bytes of the window that meet the weights; empty if every kernel takes the same four.
    weights : int8 array, shape (units, 4 * lanes)
        Four weights of each kernel.
    offsets : int32 array, shape (units,)
        Bytes from a map window's first byte to the unit's window.
    starts : int32 array, shape (blocks + 1,)
        First unit of every block of kernels.
    """

    indices: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.int8]
    offsets: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]

    @property
    def dense(self) -> bool:
        """Every kernel takes the same four bytes."""
        return not len(self.indices) and self.count > 0

    @property
    def count(self) -> int:
        """Units of all blocks."""
        return len(self.offsets)


def pack_sparse(weights: npt.NDArray[np.int8], runs: Runs, path: Path) -> Units:
    """Units of the weights that are not zero.

    Parameters
    ----------
    weights : int8 array, shape (outputs, window positions, channels)
        The kernels.
    runs : Runs
        Where their bytes are.
    path : Path
        What the units are for.
    """
    kernel, position, channel = np.nonzero(weights)
    values = weights[kernel, position, channel].astype(np.int64)
    byte = runs.byte[position, channel]
    counts = -(-runs.lengths // path.window)
    bases = np.cumsum(counts) - counts
    window = bases[runs.run[position, channel]] + byte // path.window
    total = int(counts.sum())
    group = kernel * total + window
    if path.exact:
        order = np.lexsort((byte, group))
        slot = np.empty_like(group)
        slot[order] = _rank(group[order])
    else:
        slot = _paired_slots(group, values)
    starts_of = np.repeat(runs.starts, counts)
    inside = np.arange(total) - np.repeat(bases, counts)
    return _filled(
        kernel, window, slot, byte % path.window, values, starts_of + inside * path.window,
        blocks=-(-len(weights) // path.lanes), lanes=path.lanes,
    )  # fmt: skip


def pack_dense(weights: npt.NDArray[np.int8], runs: Runs, lanes: int) -> Units:
    """Units of four neighbouring bytes each, the same for all kernels of a block."""
    kernel, position, channel = np.nonzero(weights)
    values = weights[kernel, position, channel].astype(np.int64)
    byte = runs.byte[position, channel]
    counts = -(-runs.lengths // QUAD)
    bases = np.cumsum(counts) - counts
    window = bases[runs.run[position, channel]] + byte // QUAD
    inside = np.arange(int(counts.sum())) - np.repeat(bases, counts)
    units = _filled(
        kernel, window, byte % QUAD, byte % QUAD, values,
        np.repeat(runs.starts, counts) + inside * QUAD,
        blocks=-(-len(weights) // lanes), lanes=lanes,
    )  # fmt: skip
    return Units(np.zeros((0, QUAD * lanes), np.uint8), units.weights, units.offsets, units.starts)


def _filled(
    kernel: Array,
    window: Array,
    slot: Array,
    index: Array,
    values: Array,
    offsets: Array,
    *,
    blocks: int,
    lanes: int,
) -> Units:
    """Units with every weight in its slot of its window."""
    quads = np.zeros((blocks, len(offsets)), np.int64)
    block = kernel // lanes
    np.maximum.at(quads, (block, window), slot // QUAD + 1)
    flat = quads.ravel()
    firsts = (np.cumsum(flat) - flat).reshape(quads.shape)
    count = int(flat.sum())
    unit = firsts[block, window] + slot // QUAD
    place = (kernel % lanes) * QUAD + slot % QUAD
    indices = np.zeros((count, lanes * QUAD), np.uint8)
    packed = np.zeros((count, lanes * QUAD), np.int8)
    indices[unit, place] = index
    packed[unit, place] = values
    return Units(
        indices=indices,
        weights=packed,
        offsets=np.repeat(np.tile(offsets, blocks), flat).astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(quads.sum(axis=1))]).astype(np.int32),
    )


def _paired_slots(group: Array, values: Array) -> Array:
    """Slots such that the two products of a pair of slots cannot leave 16 bits together.

    Weights of different signs always may be a pair: the largest ones of each sign are. What is
    left over has one sign: two of at most half of `SAFE_PAIR` are a pair, others are alone.
    """
    slot = np.empty_like(group)
    negative = values < 0
    order = np.lexsort((-np.abs(values), negative, group))
    ordered, sign = group[order], negative[order]
    rank = _rank(ordered * 2 + sign)
    size = np.bincount(group, minlength=1)
    negatives = np.bincount(group, weights=negative, minlength=1).astype(np.int64)
    mixed = np.minimum(negatives, size - negatives)[ordered]
    is_mixed = rank < mixed
    rest = np.flatnonzero(~is_mixed)
    magnitude = np.abs(values[order])[rest]
    large = magnitude > SAFE_PAIR // 2
    # Large ones come first, each in a pair of its own; small ones share pairs.
    among = _rank(ordered[rest])
    larges = np.bincount(ordered[rest], weights=large, minlength=len(size)).astype(np.int64)
    larges = larges[ordered[rest]]
    places = 2 * rank + sign
    places[rest] = 2 * mixed[rest] + np.where(large, 2 * among, larges + among)
    slot[order] = places
    return slot


def _rank(group: Array) -> Array:
    """Number of those before each that are of the same group; `group` is sorted."""
    if not len(group):
        return group.copy()
    first = np.concatenate([[True], group[1:] != group[:-1]])
    starts = np.flatnonzero(first)
    return np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))


def merged_units(parts: list[Units]) -> Units:
    """Units of several lists, block by block: list after list within each block."""
    if len(parts) == 1:
        return parts[0]
    blocks = len(parts[0].starts) - 1
    order, counts, base = [], [], 0
    bases = []
    for part in parts:
        bases.append(base)
        base += part.count
    for block in range(blocks):
        for part, first in zip(parts, bases, strict=True):
            begin, end = part.starts[block], part.starts[block + 1]
            order.append(np.arange(first + begin, first + end))
            counts.append(end - begin)
    taken = np.concatenate(order) if order else np.zeros(0, np.int64)
    return Units(
        indices=parts[0].indices
        if parts[0].dense
        else np.concatenate([part.indices for part in parts])[taken],
        weights=np.concatenate([part.weights for part in parts])[taken],
        offsets=np.concatenate([part.offsets for part in parts])[taken],
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
    )
