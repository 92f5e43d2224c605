"""NumPy model of `reorder`."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["reordered"]


def reordered(
    keys: npt.NDArray[np.int64],
    scatter: Sequence[Mapping[str, int]],
    gather: Sequence[Mapping[str, int]],
) -> npt.NDArray[np.int64]:
    """Rows of a vector in index order; what no group has given is -1.

    Parameters
    ----------
    keys : int64 array, shape (groups, requantisers)
        Groups as they leave the requantisers.
    scatter : sequence of `scatter_record` fields, one per group
        Where the keys of a group go.
    gather : sequence of `gather_record` fields, one per row
        Where the activations of a row come from.

    Returns
    -------
    int64 array, shape (rows, requantisers)
    """
    banks = range(keys.shape[1])
    stored = np.full((len(gather), len(banks)), -1, np.int64)
    for group, entry in zip(keys, scatter, strict=True):
        for bank in banks:
            if entry[f"valid{bank}"]:
                stored[entry[f"row{bank}"], bank] = group[entry[f"source{bank}"]]
    return np.array(
        [[row[entry[f"bank{i}"]] for i in banks] for row, entry in zip(stored, gather, strict=True)]
    )
