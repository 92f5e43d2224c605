"""Constants that a file stores as their non-zeros."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from trencadis_judge.errors import JudgeError

__all__ = ["MAX_DENSE_ELEMENTS", "SparseMatrix", "sparse_matrix"]

MAX_DENSE_ELEMENTS = 1 << 27
"""Elements of a sparse constant that is expanded where an operator has no sparse form."""


@dataclass(frozen=True)
class SparseMatrix:
    """A tensor given by its non-zeros.

    Attributes
    ----------
    shape : tuple of int
        Sizes of the axes.
    flat : int64 array, shape (non-zeros,)
        Position of each in C order, rising.
    values : array, shape (non-zeros,)
        The non-zeros.
    """

    shape: tuple[int, ...]
    flat: npt.NDArray[np.int64]
    values: npt.NDArray[Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.values.dtype

    def dense(self) -> npt.NDArray[Any]:
        """Write the zeros out.

        Raises
        ------
        JudgeError
            If there are too many.
        """
        size = int(np.prod(self.shape, dtype=np.float64))
        if size > MAX_DENSE_ELEMENTS:
            raise JudgeError(
                f"a sparse constant of shape {list(self.shape)} has no dense form of at most "
                f"{MAX_DENSE_ELEMENTS} elements; only MatMul and Gemm read it as it is"
            )
        array = np.zeros(size, self.values.dtype)
        array[self.flat] = self.values
        return array.reshape(self.shape)


def sparse_matrix(tensor: onnx.SparseTensorProto) -> SparseMatrix:
    """Read a sparse constant; indices are flat, or one row for each element.

    Raises
    ------
    JudgeError
        If indices lie outside, are unsorted or occur twice.
    """
    shape = tuple(tensor.dims)
    values = numpy_helper.to_array(tensor.values)
    indices = numpy_helper.to_array(tensor.indices).astype(np.int64)
    name = tensor.values.name
    if indices.ndim == 2:
        if indices.shape[1] != len(shape):
            raise JudgeError(f"{name!r}: indices of {indices.shape[1]} axes for {len(shape)}")
        steps = np.array([int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))])
        inside = np.all((indices >= 0) & (indices < np.array(shape)))
        indices = indices @ steps
    else:
        inside = np.all((indices >= 0) & (indices < np.prod(shape, dtype=np.int64)))
    if not inside or indices.shape != values.shape or np.any(np.diff(indices) <= 0):
        raise JudgeError(f"{name!r}: indices of a sparse constant must be inside, and rise")
    return SparseMatrix(shape, indices, values)
