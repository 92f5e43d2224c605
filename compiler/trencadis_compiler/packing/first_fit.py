"""First-fit packing of many kernels with few non-zeros each, in time close to their number.

Instead of comparing kernels, or tiles, it keeps for every row which tiles are full there: the tiles
that do not take a kernel are the union over its non-zeros.
"""

from collections.abc import Iterable

from trencadis_compiler.ir.occupancy import Occupancy

__all__ = ["MANY_KERNELS", "first_fit"]

MANY_KERNELS = 4096
"""Kernels above which no table of pairs is made."""


def first_fit(
    occupancy: Occupancy, order: Iterable[int], kernels_per_tile: int, depth: int
) -> list[list[int]]:
    """Put each kernel into the first tile that takes it; parameters are those of `greedy`."""
    indices, starts = occupancy.indices.tolist(), occupancy.starts.tolist()
    # Bit t of a row's level i: tile t has more than i non-zeros there.
    levels = [[0] * occupancy.rows for _ in range(depth)]
    full = levels[-1]
    complete = 0
    tiles: list[list[int]] = []
    for kernel in order:
        rows = indices[starts[kernel] : starts[kernel + 1]]
        taken = complete
        for row in rows:
            taken |= full[row]
        free = ~taken & (taken + 1)
        number = free.bit_length() - 1
        if number == len(tiles):
            tiles.append([])
        for row in rows:
            for level in range(depth - 1, 0, -1):
                levels[level][row] |= levels[level - 1][row] & free
            levels[0][row] |= free
        tile = tiles[number]
        tile.append(kernel)
        if len(tile) == kernels_per_tile:
            complete |= free
    return tiles
