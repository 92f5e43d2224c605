"""Weights as groups for kernels whose lanes are samples.

The bytes of two places that lie one after the other make one vector, those of all samples in turn,
which meets two weights at once: an *item*. Up to four items of a kernel whose products add up
within 16 bits are a *group*.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_CHUNK", "PAIR_BYTES", "Groups", "pack_groups"]

Array = npt.NDArray[np.int64]

GROUP = 4

PAIR_BYTES = 32
"""Bytes of two places of sixteen samples."""

SAFE_SUM = 128
"""Weights of one sign that add up to no more cannot leave 16 bits: 128 * 255 < 2**15."""

MAX_CHUNK = 255
"""Groups whose sums are kept as two halves of 16 bits: 255 * 255 < 2**16, 255 * 128 < 2**15."""


@dataclass(frozen=True)
class Groups:
    """Groups of all kernels, in chunks.

    Attributes
    ----------
    table : int32 array, shape (groups, 2 * GROUP)
        Where the vectors lie that the items of a group meet, in bytes from that of a window's
        first place, and their weights: two of 8 bits, twice.
    starts : int32 array, shape (kernels * chunks + 1,)
        First group of every chunk of every kernel.
    chunks : int
        Chunks of a kernel.
    """

    table: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]
    chunks: int

    @property
    def count(self) -> int:
        """Groups of all kernels."""
        return len(self.table)


@dataclass(frozen=True)
class _Items:
    """Items of a kernel: where they lie, their weights, and the sums of each sign."""

    place: Array
    weights: Array
    positive: Array
    negative: Array

    @property
    def size(self) -> Array:
        return np.maximum(self.positive, self.negative)


def pack_groups(
    weights: npt.NDArray[np.int8], bytes_of: Array, kernels: int, *, overlapping: bool
) -> Groups:
    """Groups of the weights that are not zero.

    Parameters
    ----------
    weights : int8 array, shape (outputs, window positions, channels)
        The kernels.
    bytes_of : int64 array, shape (window positions, channels)
        Bytes of a map from the window's first byte to the one that a weight meets.
    kernels : int
        Kernels that the table has; those from `outputs` on have no groups.
    overlapping : bool
        Every byte and the next are a vector, else every even one and the next.
    """
    order = np.argsort(bytes_of.ravel(), kind="stable")
    flat = weights.reshape(len(weights), -1).astype(np.int64)[:, order]
    places = bytes_of.ravel()[order]
    tables = [_kernel(row, places, overlapping) for row in flat]
    counts = np.zeros(kernels, np.int64)
    counts[: len(tables)] = [len(table) for table in tables]
    chunks = max(1, -(-int(counts.max(initial=0)) // MAX_CHUNK))
    bounds = np.minimum(np.arange(1, chunks + 1) * MAX_CHUNK, counts[:, None])
    firsts = np.cumsum(counts) - counts
    empty = np.zeros((0, 2 * GROUP), np.int32)
    return Groups(
        table=np.concatenate([empty, *tables]),
        starts=np.concatenate([[0], (firsts[:, None] + bounds).ravel()]).astype(np.int32),
        chunks=chunks,
    )


def _kernel(weights: Array, places: Array, overlapping: bool) -> npt.NDArray[np.int32]:
    """The groups of one kernel, in the order in which they lie; shape (groups, 2 * GROUP)."""
    taken = np.flatnonzero(weights)
    items = _items(weights[taken], places[taken], overlapping)
    upward = items.positive >= items.negative
    groups = [
        _folded(np.flatnonzero(own), items.size, items.positive, items.negative)
        for own in (upward, ~upward)
    ]
    # Pairs of different signs mostly fit together: the largest of one with the smallest of other.
    sums = [_sums(pairs, items) for pairs in groups]
    count = min(len(pairs) for pairs in groups)
    orders = [
        np.argsort(sign * total.max(axis=1, initial=0), kind="stable")
        for sign, total in zip((1, -1), sums, strict=True)
    ]
    first, second = (order[:count] for order in orders)
    fits = (sums[0][first] + sums[1][second] <= SAFE_SUM).all(axis=1)
    whole = np.concatenate([groups[0][first[fits]], groups[1][second[fits]]], axis=1)
    left = np.concatenate(
        [
            np.delete(pairs, part[fits], axis=0)
            for pairs, part in zip(groups, (first, second), strict=True)
        ]
    )
    rest = _sums(left, items)
    folded = _folded(np.arange(len(left)), rest.max(axis=1, initial=0), rest[:, 0], rest[:, 1])
    other = np.where(folded[:, 1:] < 0, -1, left[folded[:, 1]])
    whole = np.concatenate([whole, np.concatenate([left[folded[:, 0]], other], axis=1)])
    used = whole >= 0
    # An empty slot has the weight 0 and meets what another item of its group meets.
    own = np.where(used, whole, whole.max(axis=1, keepdims=True, initial=0))
    table = np.concatenate([items.place[own], np.where(used, items.weights[own], 0)], axis=1)
    ordered = np.argsort(table[:, :GROUP].min(axis=1, initial=1 << 40), kind="stable")
    return table[ordered].astype(np.uint32).view(np.int32)


def _items(weights: Array, places: Array, overlapping: bool) -> _Items:
    """Weights that are not zero as items, alone or with the next one."""
    next_there = np.append(np.diff(places) == 1, False)
    following = np.append(weights[1:], 0)
    positive = np.maximum(weights, 0) + np.where(next_there, np.maximum(following, 0), 0)
    negative = np.maximum(-weights, 0) + np.where(next_there, np.maximum(-following, 0), 0)
    joins = next_there & (np.maximum(positive, negative) <= SAFE_SUM)
    if overlapping:
        # Of a run of neighbours every second one begins a pair.
        run = np.arange(len(joins)) - np.maximum.accumulate(
            np.where(np.append(True, ~joins[:-1])[: len(joins)], np.arange(len(joins)), 0)
        )
        joins &= run % 2 == 0
    else:
        joins &= places % 2 == 0
    kept = np.flatnonzero(~np.append(False, joins[:-1])[: len(joins)])
    joined, weight = joins[kept], weights[kept]
    low = weight & 0xFF
    high = np.where(joined, following[kept] & 0xFF, 0)
    at = places[kept]
    if not overlapping:
        odd = at % 2 == 1
        low, high = np.where(odd, 0, low), np.where(odd, low, high)
        at = at // 2
    pair = low | high << 8
    alone = ~joined
    return _Items(
        place=at * PAIR_BYTES,
        weights=pair << 16 | pair,
        positive=np.where(alone, np.maximum(weight, 0), positive[kept]),
        negative=np.where(alone, np.maximum(-weight, 0), negative[kept]),
    )


def _sums(pairs: Array, items: _Items) -> Array:
    """Sums of each sign of pairs of items, shape (pairs, 2)."""
    there = pairs >= 0
    return np.stack(
        [np.where(there, sums[pairs], 0).sum(axis=1) for sums in (items.positive, items.negative)],
        axis=1,
    )


def _folded(items: Array, size: Array, positive: Array, negative: Array) -> Array:
    """Items in pairs whose sums are safe, shape (pairs, 2); -1 where an item is alone.

    The largest goes with the smallest; so many of the largest stay alone that all pairs fit.
    """
    ordered = items[np.argsort(size[items], kind="stable")]

    def fits(alone: int) -> bool:
        kept = ordered[: len(ordered) - alone]
        half = len(kept) // 2
        first, second = kept[:half], kept[::-1][:half]
        return all((sums[first] + sums[second] <= SAFE_SUM).all() for sums in (positive, negative))

    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    kept = ordered[: len(ordered) - low]
    half = len(kept) // 2
    single = np.concatenate([kept[half : len(kept) - half], ordered[len(kept) :]])
    pairs = np.stack([kept[:half], kept[::-1][:half]], axis=1)
    return np.concatenate([pairs, np.stack([single, np.full_like(single, -1)], axis=1)])
