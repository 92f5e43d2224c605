"""Overlaying sparse kernels in tiles.

A tile holds kernels whose non-zeros do not collide, so that one row of weights serves them all.
Which kernels fit together is found, not assumed: kernels are the nodes of a graph with an edge
where two collide, and tiles are the colours of a colouring of it. Networks trained with
complementary masks fall into perfect tiles; for other sparsity a tile may be given `depth` rows of
weights for every input, and takes as many colliding non-zeros.

The search is greedy colouring improved by iterated greedy (Culberson 1992): taking the kernels
again, tile by tile in another order, never needs more tiles. Small problems that are left with more
tiles than the bound are tried as an exact cover.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Packing", "fewest_tiles", "pack"]

ROUNDS = 60
"""Rounds of iterated greedy after the last improvement."""

COVER_NODES = 20_000
"""Nodes of the search for an exact cover."""


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
    rng = np.random.default_rng(seed)
    bound = fewest_tiles(occupied, kernels_per_tile, depth)
    order = list(np.argsort(-occupied.sum(axis=1), kind="stable"))
    tiles = _greedy(occupied, order, kernels_per_tile, depth)
    since_better = 0
    while len(tiles) > bound and since_better < ROUNDS:
        order = [kernel for i in _next_order(tiles, since_better, rng) for kernel in tiles[i]]
        again = _greedy(occupied, order, kernels_per_tile, depth)
        since_better = 0 if len(again) < len(tiles) else since_better + 1
        tiles = again
    if len(tiles) > bound and depth == 1:
        tiles = _exact_cover(occupied, kernels_per_tile, bound) or tiles
    return Packing(tuple(sorted(tuple(sorted(tile)) for tile in tiles)), depth)


def _greedy(
    occupied: npt.NDArray[np.bool_], order: list[int], kernels_per_tile: int, depth: int
) -> list[list[int]]:
    """Put each kernel in the fullest tile that takes it."""
    rows = occupied.shape[1]
    counts = np.zeros((0, rows), np.uint8)
    filled = np.zeros(0, np.int64)
    tiles: list[list[int]] = []
    for kernel in order:
        mask = occupied[kernel]
        fits = (counts[:, mask] < depth).all(axis=1)
        fits &= np.array([len(tile) < kernels_per_tile for tile in tiles], bool)
        candidates = np.flatnonzero(fits)
        if candidates.size:
            best = int(candidates[np.argmax(filled[candidates])])
        else:
            best = len(tiles)
            tiles.append([])
            counts = np.vstack([counts, np.zeros((1, rows), np.uint8)])
            filled = np.append(filled, 0)
        tiles[best].append(kernel)
        counts[best] += mask
        filled[best] += int(mask.sum())
    return tiles


def _next_order(tiles: list[list[int]], round_: int, rng: np.random.Generator) -> list[int]:
    """An order of tiles for the next round: reversed, largest first, or at random."""
    numbers = list(range(len(tiles)))
    if round_ % 3 == 0:
        return numbers[::-1]
    if round_ % 3 == 1:
        return sorted(numbers, key=lambda i: -len(tiles[i]))
    return list(rng.permutation(numbers))


def _exact_cover(
    occupied: npt.NDArray[np.bool_], kernels_per_tile: int, bound: int
) -> list[list[int]] | None:
    """Tiles that are full to the last row, found by depth-first search; None if it takes too long.

    Kernels that are left when no more full tile can be made are packed greedily.
    """
    masks = [int.from_bytes(np.packbits(row).tobytes(), "big") for row in occupied]
    rows = occupied.shape[1]
    full = int.from_bytes(np.packbits(np.ones(rows, bool)).tobytes(), "big")
    nodes = COVER_NODES

    def fill(covered: int, chosen: list[int], free: list[int]) -> list[int] | None:
        nonlocal nodes
        if covered == full:
            return chosen
        if len(chosen) == kernels_per_tile or nodes == 0:
            return None
        missing = full & ~covered
        row = missing & -missing
        for kernel in free:
            if masks[kernel] & row and not masks[kernel] & covered:
                nodes -= 1
                found = fill(covered | masks[kernel], [*chosen, kernel], free)
                if found:
                    return found
        return None

    free = list(range(len(masks)))
    tiles: list[list[int]] = []
    while free and nodes:
        first = free[0]
        found = fill(masks[first], [first], free[1:])
        if not found:
            break
        tiles.append(found)
        free = [kernel for kernel in free if kernel not in found]
    if free:
        rest = _greedy(occupied[free], list(range(len(free))), kernels_per_tile, 1)
        tiles += [[free[i] for i in tile] for tile in rest]
    return tiles if len(tiles) <= bound else None
