"""Tiles grown one at a time (recursive largest first, Leighton 1979).

Each time the kernel is added that leaves most others to choose from: members of a complementary set
agree on what fits, others do not, so sets come out whole whatever the order of kernels.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["grow_tiles"]


def grow_tiles(collide: npt.NDArray[np.bool_], kernels_per_tile: int) -> list[list[int]]:
    """Tiles of kernels that do not collide.

    Parameters
    ----------
    collide : bool array, shape (kernels, kernels)
        Pairs that collide.
    kernels_per_tile : int
        Most kernels in a tile.
    """
    kernels = len(collide)
    free = np.arange(kernels)
    degrees = np.count_nonzero(collide, axis=1)
    # What collides with everything is alone in a tile, whatever else is chosen.
    lonely = degrees == kernels - 1
    tiles = [[int(kernel)] for kernel in free[lonely]]
    free = free[~lonely]
    degrees = degrees - len(tiles)
    while free.size:
        chosen = int(free[np.argmax(degrees[free])])
        tile = [chosen]
        # Those that still fit, and with how many of these each collides.
        stays = ~collide[chosen, free] & (free != chosen)
        fit = free[stays]
        ruled_out = _collisions_among(collide, fit, free[~stays], degrees[fit])
        while fit.size and len(tile) < kernels_per_tile:
            chosen = int(fit[np.argmin(ruled_out)])
            tile.append(chosen)
            stays = ~collide[chosen, fit] & (fit != chosen)
            gone, fit = fit[~stays], fit[stays]
            ruled_out = _collisions_among(collide, fit, gone, ruled_out[stays])
        tiles.append(tile)
        free = np.setdiff1d(free, tile, assume_unique=True)
        degrees[free] -= _collisions_with(collide, free, np.array(tile))
    return tiles


def _collisions_among(
    collide: npt.NDArray[np.bool_],
    kernels: npt.NDArray[np.intp],
    gone: npt.NDArray[np.intp],
    before: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Number of the kernels that each of them collides with, `before` with those gone as well."""
    if len(kernels) < len(gone):
        return _collisions_with(collide, kernels, kernels)
    return before - _collisions_with(collide, kernels, gone)


def _collisions_with(
    collide: npt.NDArray[np.bool_], kernels: npt.NDArray[np.intp], others: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Number of the others that each of some kernels collides with."""
    return np.count_nonzero(collide[np.ix_(kernels, others)], axis=1)
