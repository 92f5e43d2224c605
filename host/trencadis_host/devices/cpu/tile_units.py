"""Weights and windows for kernels that multiply whole tiles: AMX.

A tile of weights has 64 bytes of a window for each of sixteen kernels, zeros included. A tile of a
map has 64 bytes of each of sixteen windows that lie evenly in memory; a layer's windows are covered
with as few such tiles as possible, and what a tile has too many is not used.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.cpu.units import Runs

__all__ = ["CHUNK", "ROWS", "TILE_BYTES", "Cover", "cover", "pack_tiles"]

Array = npt.NDArray[np.int64]

ROWS = 16
"""Windows of a tile of the map, kernels of a tile of weights, and rows of a tile of sums."""

CHUNK = 64
"""Bytes of a window that a tile has."""

TILE_BYTES = ROWS * CHUNK

QUAD = 4


@dataclass(frozen=True)
class Cover:
    """Tiles that have all windows.

    Attributes
    ----------
    unit : int
        Bytes from window to window within a tile.
    starts : int64 array, shape (tiles,)
        Byte at which the first window of a tile begins.
    places : int64 array, shape (windows,)
        Tile and row of every window, as `tile * ROWS + row`.
    """

    unit: int
    starts: Array
    places: Array


def cover(points: Array, units: set[int]) -> Cover:
    """The fewest tiles for windows, by taking the first that is left, again and again.

    Parameters
    ----------
    points : int64 array, shape (windows,)
        Byte at which each window begins.
    units : set of int
        Distances within a tile to choose from, in bytes.
    """
    found = [_cover(points, unit) for unit in sorted(units)]
    return min(found, key=lambda one: len(one.starts))


def _cover(points: Array, unit: int) -> Cover:
    places = np.full(points.shape, -1, np.int64)
    starts: list[int] = []
    while (places < 0).any():
        start = int(points[places < 0].min())
        row, rest = np.divmod(points - start, unit)
        inside = (places < 0) & (rest == 0) & (row >= 0) & (row < ROWS)
        places[inside] = len(starts) * ROWS + row[inside]
        starts.append(start)
    return Cover(unit, np.array(starts, np.int64), places)


def pack_tiles(
    weights: npt.NDArray[np.int8], lists: list[Runs]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """Tiles of weights, and where their bytes of a window lie.

    Parameters
    ----------
    weights : int8 array, shape (outputs, window positions, channels)
        The kernels.
    lists : list of Runs
        Where their bytes are, for each of the windows that share a tile of the map.

    Returns
    -------
    int8 array, shape (blocks, lists, chunks, TILE_BYTES)
        The tiles of every block of sixteen kernels.
    int32 array, shape (chunks,)
        Bytes from a window's first byte to those of a tile.
    """
    kernel, position, channel = np.nonzero(weights)
    values = weights[kernel, position, channel]
    blocks = -(-len(weights) // ROWS)
    counts = -(-lists[0].lengths // CHUNK)
    bases = np.cumsum(counts) - counts
    total = int(counts.sum())
    tiles = np.zeros((blocks, len(lists), total, CHUNK // QUAD, ROWS, QUAD), np.int8)
    for number, runs in enumerate(lists):
        byte = runs.byte[position, channel]
        chunk = bases[runs.run[position, channel]] + byte // CHUNK
        inside = byte % CHUNK
        tiles[kernel // ROWS, number, chunk, inside // QUAD, kernel % ROWS, inside % QUAD] = values
    within = np.arange(total) - np.repeat(bases, counts)
    offsets = np.repeat(lists[0].starts, counts) + within * CHUNK
    return tiles.reshape(blocks, len(lists), total, TILE_BYTES), offsets.astype(np.int32)
