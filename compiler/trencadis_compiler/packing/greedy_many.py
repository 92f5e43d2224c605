"""Greedy packing with all tiles looked at together, in arrays: for many of them."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir.occupancy import Occupancy

__all__ = ["greedy_many"]

TILES = 64
"""Number of tiles that state is reserved for at first; it is doubled when it runs out."""


def greedy_many(
    occupancy: Occupancy, order: Iterable[int], kernels_per_tile: int, depth: int
) -> list[list[int]]:
    """Put each kernel into the fullest tile that takes it; parameters are those of `greedy`."""
    state: _State = _Shallow(occupancy) if depth == 1 else _Deep(occupancy, depth)
    # Non-zeros of each tile, and -1 for tiles that are complete or not begun.
    filled = np.full(TILES, -1, np.int64)
    sizes = occupancy.sizes.tolist()
    tiles: list[list[int]] = []
    for kernel in order:
        count = len(tiles)
        candidates = np.where(state.fits(kernel, count), filled[:count], -1)
        best = int(candidates.argmax()) if count else -1
        if best < 0 or candidates[best] < 0:
            best = count
            tiles.append([])
            if best == len(filled):
                filled = np.concatenate([filled, np.full_like(filled, -1)])
                state.grow()
            filled[best] = 0
        tile = tiles[best]
        tile.append(kernel)
        state.put(kernel, best)
        filled[best] = filled[best] + sizes[kernel] if len(tile) < kernels_per_tile else -1
    return tiles


class _State(Protocol):
    """Contents of the tiles so far."""

    def fits(self, kernel: int, tiles: int) -> npt.NDArray[np.bool_]:
        """Tell which of the first `tiles` tiles take a kernel, as far as its non-zeros go."""
        ...

    def put(self, kernel: int, tile: int) -> None:
        """Put a kernel into a tile."""
        ...

    def grow(self) -> None:
        """Reserve state for twice as many tiles."""
        ...


class _Shallow:
    """Tiles that take no colliding kernels: which kernels collide with which tile."""

    def __init__(self, occupancy: Occupancy) -> None:
        self._fitting = ~occupancy.collide
        self._free = np.ones((TILES, occupancy.kernels), bool)

    def fits(self, kernel: int, tiles: int) -> npt.NDArray[np.bool_]:
        return self._free[:tiles, kernel]

    def put(self, kernel: int, tile: int) -> None:
        self._free[tile] &= self._fitting[kernel]

    def grow(self) -> None:
        self._free = np.concatenate([self._free, np.ones_like(self._free)])


class _Deep:
    """Tiles that take `depth` colliding non-zeros: which rows have one, two, ... of them.

    Level i of a tile is a bit mask of the rows with more than i non-zeros; the last one is of those
    that are full.
    """

    def __init__(self, occupancy: Occupancy, depth: int) -> None:
        self._masks = occupancy.masks
        words = self._masks.shape[1]
        self._levels = np.zeros((TILES, depth, words), np.uint64)
        # By word, then tile: the tiles are compared along the contiguous axis.
        self._full = np.zeros((words, TILES), np.uint64)

    def fits(self, kernel: int, tiles: int) -> npt.NDArray[np.bool_]:
        common = self._full[:, :tiles] & self._masks[kernel][:, None]
        return np.bitwise_or.reduce(common, axis=0) == 0

    def put(self, kernel: int, tile: int) -> None:
        mask, levels = self._masks[kernel], self._levels[tile]
        levels[1:] |= levels[:-1] & mask
        levels[0] |= mask
        self._full[:, tile] = levels[-1]

    def grow(self) -> None:
        self._levels = np.concatenate([self._levels, np.zeros_like(self._levels)])
        self._full = np.concatenate([self._full, np.zeros_like(self._full)], axis=1)
