"""MatMul and Gemm with a constant that the file stores as its non-zeros."""

import numpy as np
import numpy.typing as npt

from trencadis_judge.sparse import SparseMatrix
from trencadis_judge.values import Precision, Value, value_of

__all__ = ["sparse_product"]

Reals = npt.NDArray[np.float64]


def sparse_product(
    precision: Precision, value: Value, matrix: SparseMatrix, *, turned: bool
) -> Value:
    """Multiply a tensor with a sparse matrix from the right.

    Parameters
    ----------
    precision : Precision
        Arithmetic.
    value : Value
        Value of shape (..., inputs).
    matrix : SparseMatrix
        Matrix of shape (inputs, outputs), or its transpose if it is turned.
    turned : bool
        The matrix is (outputs, inputs).
    """
    rows, columns = np.divmod(matrix.flat, matrix.shape[1])
    sources, targets = (columns, rows) if turned else (rows, columns)
    outputs = matrix.shape[0] if turned else matrix.shape[1]
    order = np.argsort(targets, kind="stable")
    sources, targets = sources[order], targets[order]
    weights = value_of(matrix.values)
    factors = weights.array.astype(np.float64)[order]
    starts = np.searchsorted(targets, np.arange(outputs))
    counts = np.diff(np.append(starts, len(targets)))
    terms = float(counts.max(initial=0))

    def multiply(numbers: Reals, by: Reals) -> Reals:
        flat = numbers.reshape(-1, numbers.shape[-1])
        result = np.zeros((len(flat), outputs))
        full = counts > 0
        if full.any():
            for row, sums in zip(flat, result, strict=True):
                sums[full] = np.add.reduceat(row[sources] * by, starts[full])
        return result.reshape(*numbers.shape[:-1], outputs)

    array = multiply(value.array, factors)
    grid = None
    if value.grid is not None and weights.grid is not None:
        grid = value.grid + weights.grid
    error = None if value.error is None else multiply(value.error, np.abs(factors))
    return precision.result(
        array,
        value.dtype,
        error,
        grid,
        roundings=terms,
        terms=multiply(np.abs(value.array), np.abs(factors)),
    )
