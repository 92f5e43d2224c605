"""NumPy model of the addition of two maps."""

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Ties
from trencadis_format.map_tables import ADD_SHIFT

__all__ = ["add_keys"]


def add_keys(
    first_keys: npt.ArrayLike,
    second_keys: npt.ArrayLike,
    *,
    first: int,
    second: int,
    offset: int,
    ties: int,
    low: int,
    high: int,
) -> npt.NDArray[np.int64]:
    """Keys of the sums of two maps; parameters are the fields of `ADD`."""
    scaled = np.asarray(first_keys, np.int64) * first + np.asarray(second_keys, np.int64) * second
    scaled = scaled + offset
    quotient = scaled >> ADD_SHIFT
    rest = scaled - (quotient << ADD_SHIFT)
    if ties == Ties.EVEN:
        quotient = np.where(rest == 0, quotient & ~1, quotient)
    elif ties == Ties.ODD:
        quotient = np.where(rest == (1 << ADD_SHIFT) - 1, quotient | 1, quotient)
    return np.clip(quotient, low, high)
