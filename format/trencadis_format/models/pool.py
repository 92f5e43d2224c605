"""NumPy model of `pool`."""

import numpy as np
import numpy.typing as npt

__all__ = ["pooled_sums"]


def pooled_sums(sums: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The largest sums of a pooling window.

    Parameters
    ----------
    sums : int64 array, shape (steps, beats, columns)
        Sums of the window's steps.

    Returns
    -------
    int64 array, shape (beats, columns)
    """
    return sums.max(axis=0)
