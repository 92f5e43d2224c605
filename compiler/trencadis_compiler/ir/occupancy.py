"""Positions of the non-zeros of a layer's kernels, in the forms the searches need."""

import functools
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

__all__ = ["WORD_BITS", "Occupancy"]

WORD_BITS = 64
"""Rows in a word of a bit mask."""

CHUNK = 512
"""Rows that are compared at a time when colliding kernels are looked for."""


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Non-zeros of `kernels` sparse vectors of `rows` elements.

    Attributes
    ----------
    kernels, rows : int
        Number of vectors and their length.
    starts : int64 array, shape (kernels + 1,)
        The non-zeros of kernel i are `indices[starts[i]:starts[i + 1]]`.
    indices : int64 array, shape (non-zeros,)
        Row of each non-zero, ascending within a kernel.
    """

    kernels: int
    rows: int
    starts: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]

    @classmethod
    def of(cls, occupied: npt.NDArray[np.bool_]) -> Self:
        """The occupancy of a mask of shape (kernels, rows)."""
        kernel, row = np.nonzero(occupied)
        kernels, rows = occupied.shape
        return cls._sorted(kernels, rows, kernel, row)

    @classmethod
    def from_coordinates(
        cls,
        kernels: int,
        rows: int,
        kernel: npt.NDArray[np.int64],
        row: npt.NDArray[np.int64],
    ) -> Self:
        """The occupancy of non-zeros given by their coordinates, in any order, none twice."""
        order = np.lexsort((row, kernel))
        return cls._sorted(kernels, rows, kernel[order], row[order])

    @classmethod
    def _sorted(
        cls, kernels: int, rows: int, kernel: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> Self:
        starts = np.zeros(kernels + 1, np.int64)
        np.cumsum(np.bincount(kernel, minlength=kernels), out=starts[1:])
        return cls(kernels, rows, starts, row.astype(np.int64, copy=False))

    @functools.cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Non-zeros of each kernel."""
        return np.diff(self.starts)

    @functools.cached_property
    def most_per_row(self) -> int:
        """Kernels that have a non-zero in the fullest row."""
        return int(np.bincount(self.indices, minlength=1).max(initial=0))

    @property
    def nonzeros(self) -> int:
        """Non-zeros of all kernels."""
        return len(self.indices)

    def rows_of(self, kernel: int) -> npt.NDArray[np.int64]:
        """Rows in which a kernel has non-zeros."""
        return self.indices[self.starts[kernel] : self.starts[kernel + 1]]

    @functools.cached_property
    def masks(self) -> npt.NDArray[np.uint64]:
        """Bit masks, shape (kernels, words): bit i of word j stands for row 64 * j + i."""
        bits = self._dense(0, self.rows)
        words = math.ceil(self.rows / WORD_BITS)
        packed = np.zeros((self.kernels, words * WORD_BITS // 8), np.uint8)
        found = np.packbits(bits, axis=1, bitorder="little")
        packed[:, : found.shape[1]] = found
        return packed.view("<u8").astype(np.uint64, copy=False)

    @functools.cached_property
    def integer_masks(self) -> list[int]:
        """Bit masks as integers, one for each kernel: bit i stands for row i."""
        return [int.from_bytes(row.tobytes(), "little") for row in self.masks]

    @functools.cached_property
    def collide(self) -> npt.NDArray[np.bool_]:
        """Pairs of kernels with a common row, shape (kernels, kernels); none with itself."""
        collide = np.zeros((self.kernels, self.kernels), bool)
        for start in range(0, self.rows, CHUNK):
            # Counts of common rows are exact in float32, whose products are fast.
            wide = self._dense(start, min(start + CHUNK, self.rows)).astype(np.float32)
            collide |= wide @ wide.T > 0
            if collide.all():
                break
        np.fill_diagonal(collide, False)
        return collide

    @functools.cached_property
    def all_collide(self) -> bool:
        """No two kernels fit into one tile of depth 1."""
        return int(self.collide.sum()) == self.kernels * (self.kernels - 1)

    def part(self, kernels: npt.NDArray[np.int64]) -> "Occupancy":
        """The occupancy of some of the kernels, in the order given."""
        sizes = self.sizes[kernels]
        starts = np.zeros(len(kernels) + 1, np.int64)
        np.cumsum(sizes, out=starts[1:])
        # Where each non-zero of the part stands among those of all kernels.
        places = np.arange(starts[-1]) + np.repeat(self.starts[kernels] - starts[:-1], sizes)
        return Occupancy(len(kernels), self.rows, starts, self.indices[places])

    def _dense(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """The mask of shape (kernels, stop - start) of some rows."""
        inside = (self.indices >= start) & (self.indices < stop)
        kernel = np.repeat(np.arange(self.kernels), self.sizes)[inside]
        dense = np.zeros((self.kernels, stop - start), bool)
        dense[kernel, self.indices[inside] - start] = True
        return dense
