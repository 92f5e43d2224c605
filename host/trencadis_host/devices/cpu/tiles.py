"""Cutting the outputs of a layer into tiles whose sums fit the registers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Tiling", "starts", "tile_shape"]


@dataclass(frozen=True)
class Tiling:
    """Outputs that are computed together.

    Attributes
    ----------
    samples, rows, columns : int
        Samples, rows and columns of a tile.
    """

    samples: int
    rows: int
    columns: int

    @property
    def outputs(self) -> int:
        """Outputs of a tile."""
        return self.samples * self.rows * self.columns


OVERHEAD = 2.5
"""Cost of a unit besides its products, in products of one window: loads and the loop."""


def tile_shape(rows: int, columns: int, steps: int, accumulators: int, samples: int) -> Tiling:
    """The tile for a map.

    Parameters
    ----------
    rows, columns : int
        Outputs of the map.
    steps : int
        Sums of an output.
    accumulators : int
        Sums that fit the registers.
    samples : int
        Samples that there are at most.

    Notes
    -----
    Tiles overlap where the map is no multiple of them: they are made as equal as possible, first
    along a row, then over rows, then over samples. All sums of an output may be in registers at the
    same time, or parts of them after each other, which makes room for more outputs.
    """
    best, least = Tiling(1, 1, 1), float("inf")
    for parts in range(1, steps + 1):
        per_output = -(-steps // parts)
        if per_output * (parts - 1) >= steps:
            continue
        tiling = _cut(rows, columns, max(1, accumulators // per_output), samples)
        computed = -(-columns // tiling.columns) * tiling.columns
        computed *= -(-rows // tiling.rows) * tiling.rows
        sums = min(accumulators, tiling.outputs * per_output)
        cost = computed * (1 + OVERHEAD / sums)
        if cost < least:
            best, least = tiling, cost
    return best


def _cut(rows: int, columns: int, room: int, samples: int) -> Tiling:
    """The tile of at most `room` outputs."""
    across = _balanced(columns, room)
    down = _balanced(rows, room // across) if across == columns else 1
    deep = min(samples, room // (across * down)) if down == rows and across == columns else 1
    return Tiling(max(1, deep), down, across)


def _balanced(size: int, most: int) -> int:
    """The length of pieces that cover `size` with the fewest pieces of at most `most`."""
    if most < 1:
        return 1
    pieces = -(-size // min(most, size))
    return -(-size // pieces)


def starts(size: int, piece: int) -> npt.NDArray[np.int64]:
    """Beginnings of pieces that cover `size`; the last ones may overlap."""
    return np.minimum(np.arange(0, size, piece), size - piece)
