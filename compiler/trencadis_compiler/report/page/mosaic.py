"""The mosaic of a layer: which kernel owns each place of its tiles, as data for the page."""

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.report.page.tiling import Tiling

__all__ = ["HOLE", "Mosaic", "mosaic_of"]

HOLE = 255
"""Value of a place that no kernel's weight is in."""

MAX_VALUED = 100_000
"""Places up to which the weights themselves are in the page too."""


@dataclass(frozen=True)
class Mosaic:
    """Tiles of a layer, laid side by side.

    Attributes
    ----------
    rows : int
        Inputs: a window position and a channel each.
    columns : int
        Tiles, times the rows of weights that each input has in them.
    rows_all, columns_all : int
        The same of the whole layer, where only a part is shown.
    depth : int
        Columns per tile: over 1 where weights collide.
    owners : str
        Kernel's place in its tile for every row and column, `HOLE` for none: bytes, row by row,
        deflated, in base64.
    weights : str
        The weights likewise, as int8; empty where there are too many.
    filled, collisions : int
        Places of the whole layer that are filled, and of these the ones in further rows of a tile.
    """

    rows: int
    columns: int
    rows_all: int
    columns_all: int
    depth: int
    owners: str
    weights: str
    filled: int
    collisions: int


def mosaic_of(tiling: Tiling, max_places: int) -> Mosaic:
    """The mosaic of a layer, of the first inputs and tiles if it has more places than allowed.

    Parameters
    ----------
    tiling : Tiling
        The layer and its tiles.
    max_places : int
        Most places to show.
    """
    kernels, depth = tiling.weights, tiling.depth
    size, columns_all = kernels.length, tiling.rows
    columns = min(columns_all, max(depth, max_places // min(size, 4096) // depth * depth))
    rows = min(size, max(1, max_places // columns))
    owners = np.full((rows, columns), HOLE, np.uint8)
    weights = np.zeros((rows, columns), np.int8)
    collisions = filled = 0
    for number, tile in enumerate(tiling.tiles):
        taken = np.zeros(size, np.int64)
        for place, kernel in enumerate(tile):
            mine = slice(kernels.starts[kernel], kernels.starts[kernel + 1])
            where = kernels.places[mine]
            level = taken[where]
            filled += len(where)
            collisions += int(np.count_nonzero(level))
            column = number * depth + level
            shown = (where < rows) & (column < columns)
            owners[where[shown], column[shown]] = min(place, HOLE - 1)
            weights[where[shown], column[shown]] = kernels.values[mine][shown]
            taken[where] += 1
    valued = owners.size <= MAX_VALUED
    return Mosaic(
        rows=rows,
        columns=columns,
        rows_all=size,
        columns_all=columns_all,
        depth=depth,
        owners=_packed(owners),
        weights=_packed(weights) if valued else "",
        filled=filled,
        collisions=collisions,
    )


def _packed(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")
