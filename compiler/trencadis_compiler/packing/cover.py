"""Exact covers: sets of kernels that fill a tile to the last row, none of them twice."""

from collections.abc import Sequence

from trencadis_compiler.ir.occupancy import Occupancy

__all__ = ["full_tiles"]


def full_tiles(
    occupancy: Occupancy, order: Sequence[int], kernels_per_tile: int, nodes: int
) -> list[list[int]]:
    """Tiles that are full to the last row, by depth-first search, each kernel in at most one.

    Parameters
    ----------
    occupancy : Occupancy
        Where the kernels have non-zeros.
    order : sequence of int
        All kernels, in the order in which they are tried.
    kernels_per_tile : int
        Most kernels in a tile.
    nodes : int
        Kernels to try in all before giving up.

    Returns
    -------
    list of lists of int
        The tiles; a kernel that is in none was not found a place.
    """
    search = _Search(occupancy, order, kernels_per_tile, nodes)
    tiles = []
    for first in order:
        if first in search.free:
            tile = search.complete([first])
            if tile:
                tiles.append(tile)
                search.free.difference_update(tile)
    return tiles


class _Search:
    def __init__(
        self,
        occupancy: Occupancy,
        order: Sequence[int],
        kernels_per_tile: int,
        nodes: int,
    ) -> None:
        self._masks = occupancy.integer_masks
        self._full = (1 << occupancy.rows) - 1
        self._by_row: dict[int, list[int]] = {}
        for kernel in order:
            for row in occupancy.rows_of(kernel).tolist():
                self._by_row.setdefault(1 << row, []).append(kernel)
        self._kernels_per_tile = kernels_per_tile
        self._nodes = nodes
        self.free = set(order)

    def complete(self, chosen: list[int]) -> list[int] | None:
        """Kernels that fill a tile together with the chosen ones, which do not collide."""
        covered = 0
        for kernel in chosen:
            covered |= self._masks[kernel]
        missing = self._full & ~covered
        if not missing:
            return chosen
        if len(chosen) == self._kernels_per_tile or self._nodes <= 0:
            return None
        for kernel in self._by_row.get(missing & -missing, ()):
            if kernel in self.free and not self._masks[kernel] & covered:
                self._nodes -= 1
                found = self.complete([*chosen, kernel])
                if found:
                    return found
        return None
