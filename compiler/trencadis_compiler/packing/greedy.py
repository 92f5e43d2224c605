"""Greedy packing: each kernel goes into the fullest tile that takes it."""

from bisect import insort
from collections.abc import Iterable

from trencadis_compiler.ir.occupancy import Occupancy
from trencadis_compiler.packing.greedy_many import greedy_many

__all__ = ["greedy", "greedy_few"]

MANY_TILES = 128
"""Open tiles from which on arrays are faster than looking at one tile after the other."""


def greedy(
    occupancy: Occupancy, order: Iterable[int], kernels_per_tile: int, depth: int
) -> list[list[int]]:
    """Put each kernel into the fullest tile that takes it, or into a new one.

    Parameters
    ----------
    occupancy : Occupancy
        The kernels.
    order : iterable of int
        Kernels in the order in which they are put.
    kernels_per_tile : int
        Most kernels in a tile.
    depth : int
        Most non-zeros of a tile in a row.
    """
    least = occupancy.most_per_row // depth
    if depth == 1 or least > MANY_TILES:
        return greedy_many(occupancy, order, kernels_per_tile, depth)
    return greedy_few(occupancy, order, kernels_per_tile, depth)


def greedy_few(
    occupancy: Occupancy, order: Iterable[int], kernels_per_tile: int, depth: int
) -> list[list[int]]:
    """The same with integers as bit masks, tile by tile; parameters are those of `greedy`."""
    masks, sizes = occupancy.integer_masks, occupancy.sizes.tolist()
    tiles: list[list[int]] = []
    # Level i of a tile is a bit mask of the rows with more than i non-zeros.
    levels: list[list[int]] = []
    full: list[int] = []
    # Tiles that may take another kernel, the fullest first: minus their non-zeros, and number.
    open_tiles: list[tuple[int, int]] = []
    last = depth - 1
    for kernel in order:
        mask = masks[kernel]
        for place, (nonzeros, tile) in enumerate(open_tiles):
            if not full[tile] & mask:
                filled = nonzeros
                del open_tiles[place]
                break
        else:
            filled, tile = 0, len(tiles)
            tiles.append([])
            levels.append([0] * depth)
            full.append(0)
        members = tiles[tile]
        members.append(kernel)
        held = levels[tile]
        for level in range(last, 0, -1):
            held[level] |= held[level - 1] & mask
        held[0] |= mask
        full[tile] = held[last]
        if len(members) < kernels_per_tile:
            insort(open_tiles, (filled - sizes[kernel], tile))
    return tiles
