"""NumPy model of `accumulate`."""

import numpy as np
import numpy.typing as npt

__all__ = ["accumulate"]


def accumulate(
    totals: npt.NDArray[np.int64],
    products: npt.ArrayLike,
    kernels: npt.ArrayLike,
    sum_bits: int,
) -> npt.NDArray[np.int64]:
    """Totals of one bank after `products` were added to the accumulators `kernels` name.

    Parameters
    ----------
    totals : int64 array, shape (kernels,)
        Totals before, modulo 2**sum_bits.
    products, kernels : int array, shape (n,)
        Products and their kernel IDs.
    sum_bits : int
        Width of an accumulator.

    Returns
    -------
    int64 array, shape (kernels,)
    """
    result = totals.copy()
    np.add.at(result, np.asarray(kernels), np.asarray(products, np.int64))
    return result % (1 << sum_bits)
