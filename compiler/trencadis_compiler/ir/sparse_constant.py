"""Constants of which only the non-zeros are kept, because all elements would take too much."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["SparseConstant"]


@dataclass(frozen=True, eq=False)
class SparseConstant:
    """A matrix given by its non-zeros.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    rows, columns : int64 array, shape (non-zeros,)
        Where each non-zero is.
    values : array, shape (non-zeros,)
        The non-zeros.
    """

    shape: tuple[int, int]
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    values: npt.NDArray[Any]

    @classmethod
    def of_flat(
        cls, shape: tuple[int, int], flat: npt.NDArray[np.int64], values: npt.NDArray[Any]
    ) -> Self:
        """A matrix of values at positions in C order."""
        rows, columns = np.divmod(flat, shape[1])
        return cls(shape, rows, columns, values)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 2

    @property
    def size(self) -> int:
        """Elements, zeros included."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.values.dtype

    @property
    def T(self) -> "SparseConstant":
        """The transposed matrix."""
        rows, columns = self.shape
        return SparseConstant((columns, rows), self.columns, self.rows, self.values)

    def min(self, *, initial: int) -> int:
        """The least of all elements and `initial`; zeros count."""
        return int(self.values.min(initial=min(initial, 0)))

    def max(self, *, initial: int) -> int:
        """The greatest of all elements and `initial`; zeros count."""
        return int(self.values.max(initial=max(initial, 0)))
