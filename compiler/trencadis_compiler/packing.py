"""Overlaying sparse kernels in tiles.

A tile holds kernels whose non-zeros do not collide, so that one row of weights serves them all.
Which kernels fit together is found, not assumed: kernels are the nodes of a graph with an edge
where two collide, and tiles are the colours of a colouring of it. Networks trained with
complementary masks fall into perfect tiles; for other sparsity a tile may be given `depth` rows of
weights for every input, and takes as many colliding non-zeros.

Tiles are grown one at a time, each time by the kernel that leaves most others to choose from
(recursive largest first, Leighton 1979): members of a complementary set agree on what fits, others
do not, so sets come out whole whatever the order of kernels. What needs more tiles than the bound
is improved by iterated greedy (Culberson 1992): taking the kernels again, tile by tile in another
order, never needs more tiles. At last an exact cover is tried.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_compiler.cover import full_tiles

__all__ = ["Packing", "Packings", "all_collide", "fewest_tiles", "pack"]

ROUNDS = 60
MOVES = 30_000
"""Rounds of iterated greedy after the last improvement: that many at most, and no more than move
so many kernels."""

ROOM = 64
"""Tiles there is room for at first."""

FULL = 0.9
"""How full tiles must be on average for an exact cover to be worth a try."""

COVER_ATTEMPTS = 10
COVER_NODES = 20_000
"""Attempts at an exact cover, and nodes of the search in each."""


@dataclass(frozen=True)
class Packing:
    """Kernels in tiles.

    Attributes
    ----------
    tiles : tuple of tuples of int
        The kernels of every tile.
    depth : int
        Weight rows every tile needs for an input row.
    """

    tiles: tuple[tuple[int, ...], ...]
    depth: int

    @property
    def kernels_per_tile(self) -> int:
        """Kernels in the fullest tile."""
        return max(len(tile) for tile in self.tiles)


def fewest_tiles(occupied: npt.NDArray[np.bool_], kernels_per_tile: int, depth: int = 1) -> int:
    """A lower bound on the number of tiles."""
    kernels, rows = occupied.shape
    per_row = int(occupied.sum(axis=0).max(initial=0))
    return max(
        1,
        math.ceil(kernels / kernels_per_tile),
        math.ceil(per_row / depth),
        math.ceil(int(occupied.sum()) / (depth * rows)),
    )


def pack(
    occupied: npt.NDArray[np.bool_], kernels_per_tile: int, *, depth: int = 1, seed: int = 0
) -> Packing:
    """Overlay kernels in as few tiles as the search finds.

    Parameters
    ----------
    occupied : bool array, shape (kernels, rows)
        Where the kernels have non-zeros.
    kernels_per_tile : int
        Most kernels in a tile.
    depth : int
        Most non-zeros of a tile in a row.
    seed : int
        Of the search; the same seed gives the same tiles.

    Returns
    -------
    Packing
        Tiles with their kernels in ascending order, tiles ordered by their first kernel.
    """
    if depth < 1 or kernels_per_tile < 1:
        raise ValueError(
            f"depth and kernels_per_tile must be positive, not {depth}, {kernels_per_tile}"
        )
    if kernels_per_tile == 1:
        return Packing(tuple((kernel,) for kernel in range(len(occupied))), depth)
    rng = np.random.default_rng(seed)
    bound = fewest_tiles(occupied, kernels_per_tile, depth)
    collide = _collisions(occupied)
    if depth == 1:
        tiles = _grow(collide, kernels_per_tile)
    else:
        first = list(np.argsort(-occupied.sum(axis=1), kind="stable"))
        tiles = _greedy(occupied, collide, first, kernels_per_tile, depth)
    rounds = min(ROUNDS, math.ceil(MOVES / len(occupied)))
    since_better = 0
    while len(tiles) > bound and since_better < rounds:
        order = [kernel for i in _next_order(tiles, since_better, rng) for kernel in tiles[i]]
        again = _greedy(occupied, collide, order, kernels_per_tile, depth)
        since_better = 0 if len(again) < len(tiles) else since_better + 1
        tiles = again
    if len(tiles) > bound and depth == 1 and _may_fill(occupied, kernels_per_tile, bound):
        tiles = min(tiles, _cover(occupied, collide, kernels_per_tile, bound, rng), key=len)
    return Packing(
        tuple(sorted(tuple(sorted(int(kernel) for kernel in tile)) for tile in tiles)), depth
    )


def all_collide(weights: npt.NDArray[np.int8]) -> bool:
    """No two kernels, shape (kernels, ...), fit into one tile."""
    collide = _collisions((weights != 0).reshape(weights.shape[0], -1))
    return int(collide.sum()) == collide.size - len(collide)


class Packings:
    """The packings of a layer, each searched once, on whatever engine it is tried.

    Parameters
    ----------
    weights : array, shape (kernels, ...)
        Of the layer.
    """

    def __init__(self, weights: npt.NDArray[np.int8]) -> None:
        occupied = (weights != 0).reshape(weights.shape[0], -1)
        self._fewest = functools.cache(functools.partial(fewest_tiles, occupied))
        self._pack = functools.cache(
            lambda kernels_per_tile, depth: pack(occupied, kernels_per_tile, depth=depth)
        )

    def fewest_tiles(self, kernels_per_tile: int, depth: int) -> int:
        """A lower bound on the number of tiles."""
        return self._fewest(kernels_per_tile, depth)

    def pack(self, kernels_per_tile: int, depth: int) -> Packing:
        """Kernels in as few tiles as the search finds."""
        return self._pack(kernels_per_tile, depth)


def _collisions(occupied: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which kernels collide, shape (kernels, kernels); none with itself."""
    # Counts of common rows are exact in float32, whose products are fast.
    wide = occupied.astype(np.float32)
    collide = wide @ wide.T > 0
    np.fill_diagonal(collide, False)
    return collide


def _grow(collide: npt.NDArray[np.bool_], kernels_per_tile: int) -> list[list[int]]:
    """Tiles grown one at a time, by the kernel that rules out fewest of those that still fit."""
    free = np.arange(len(collide))
    degrees = np.count_nonzero(collide, axis=1)
    tiles: list[list[int]] = []
    while free.size:
        chosen = int(free[np.argmax(degrees[free])])
        tile = [chosen]
        # Those that still fit, and with how many of these each collides.
        stays = ~collide[chosen, free] & (free != chosen)
        fit = free[stays]
        ruled_out = degrees[fit] - _collisions_with(collide, fit, free[~stays])
        while fit.size and len(tile) < kernels_per_tile:
            chosen = int(fit[np.argmin(ruled_out)])
            tile.append(chosen)
            stays = ~collide[chosen, fit] & (fit != chosen)
            gone, fit = fit[~stays], fit[stays]
            ruled_out = ruled_out[stays] - _collisions_with(collide, fit, gone)
        tiles.append(tile)
        free = np.setdiff1d(free, tile, assume_unique=True)
        degrees[free] -= _collisions_with(collide, free, np.array(tile))
    return tiles


def _collisions_with(
    collide: npt.NDArray[np.bool_], kernels: npt.NDArray[np.intp], others: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """With how many of the others each of some kernels collides."""
    return np.count_nonzero(collide[np.ix_(kernels, others)], axis=1)


def _greedy(
    occupied: npt.NDArray[np.bool_],
    collide: npt.NDArray[np.bool_],
    order: list[int],
    kernels_per_tile: int,
    depth: int,
) -> list[list[int]]:
    """Put each kernel in the fullest tile that takes it."""
    state = _Shallow(collide) if depth == 1 else _Deep(occupied, depth)
    filled = np.zeros(ROOM, np.int64)
    open_ = np.zeros(ROOM, bool)
    sizes = occupied.sum(axis=1).tolist()
    tiles: list[list[int]] = []
    for kernel in order:
        fits = open_ & state.fits(kernel)
        # Tiles hold at least one row, unless all their kernels are empty.
        best = int(np.argmax(np.where(fits, filled, -1)))
        if not fits[best]:
            best = len(tiles)
            tiles.append([])
            if best == len(filled):
                filled = np.concatenate([filled, np.zeros_like(filled)])
                open_ = np.concatenate([open_, np.zeros_like(open_)])
                state.grow()
        tiles[best].append(kernel)
        state.put(kernel, best)
        filled[best] += sizes[kernel]
        open_[best] = len(tiles[best]) < kernels_per_tile
    return tiles


class _Shallow:
    """Tiles that take no colliding kernels: which kernels collide with which tile."""

    def __init__(self, collide: npt.NDArray[np.bool_]) -> None:
        self._collide = collide
        self._blocked = np.zeros((ROOM, len(collide)), bool)

    def fits(self, kernel: int) -> npt.NDArray[np.bool_]:
        """The tiles that take a kernel, as far as its non-zeros go."""
        return ~self._blocked[:, kernel]

    def put(self, kernel: int, tile: int) -> None:
        """Put a kernel in a tile."""
        self._blocked[tile] |= self._collide[kernel]

    def grow(self) -> None:
        """Make room for twice as many tiles."""
        self._blocked = np.concatenate([self._blocked, np.zeros_like(self._blocked)])


class _Deep:
    """Tiles that take `depth` colliding non-zeros: how many they have in every row."""

    def __init__(self, occupied: npt.NDArray[np.bool_], depth: int) -> None:
        self._rows = [np.flatnonzero(row) for row in occupied]
        self._depth = depth
        # By row, then tile: what a kernel looks at lies together.
        self._counts = np.zeros((occupied.shape[1], ROOM), np.uint8)

    def fits(self, kernel: int) -> npt.NDArray[np.bool_]:
        """The tiles that take a kernel, as far as its non-zeros go."""
        return self._counts[self._rows[kernel]].max(axis=0, initial=0) < self._depth

    def put(self, kernel: int, tile: int) -> None:
        """Put a kernel in a tile."""
        self._counts[self._rows[kernel], tile] += 1

    def grow(self) -> None:
        """Make room for twice as many tiles."""
        self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)], axis=1)


def _next_order(tiles: list[list[int]], round_: int, rng: np.random.Generator) -> list[int]:
    """An order of tiles for the next round: reversed, largest first, or at random."""
    numbers = list(range(len(tiles)))
    if round_ % 3 == 0:
        return numbers[::-1]
    if round_ % 3 == 1:
        return sorted(numbers, key=lambda i: -len(tiles[i]))
    return list(rng.permutation(numbers))


def _may_fill(occupied: npt.NDArray[np.bool_], kernels_per_tile: int, bound: int) -> bool:
    """Whether there are enough non-zeros for nearly all tiles to be full."""
    rows = occupied.shape[1]
    largest = int(occupied.sum(axis=1).max(initial=0))
    return kernels_per_tile * largest >= rows and int(occupied.sum()) >= FULL * bound * rows


def _cover(
    occupied: npt.NDArray[np.bool_],
    collide: npt.NDArray[np.bool_],
    kernels_per_tile: int,
    bound: int,
    rng: np.random.Generator,
) -> list[list[int]]:
    """Full tiles as far as they are found, the rest packed greedily; the best of some attempts."""
    best = [[kernel] for kernel in range(len(occupied))]
    for _ in range(COVER_ATTEMPTS):
        order = [int(kernel) for kernel in rng.permutation(len(occupied))]
        tiles = full_tiles(occupied, order, kernels_per_tile, COVER_NODES)
        left = set(order).difference(*tiles)
        tiles += _greedy(occupied, collide, sorted(left), kernels_per_tile, 1)
        best = min(best, tiles, key=len)
        if len(best) <= bound:
            break
    return best
