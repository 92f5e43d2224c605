"""NumPy model of `requantise`."""

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Ties
from trencadis_format.widths import OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP

__all__ = ["requantise"]


def requantise(
    sums: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    offset: npt.ArrayLike,
    shift: npt.ArrayLike,
    ties: npt.ArrayLike,
    low: int = 0,
    high: int = 255,
) -> npt.NDArray[np.int64]:
    """Keys of `sums`; parameters are the fields of `REQUANTISE`, broadcast against them.

    Exact: with sums of up to 24 bits every intermediate fits an int64.
    """
    scaled = np.asarray(sums, np.int64) * np.asarray(multiplier, np.int64)
    scaled = scaled + (np.asarray(offset, np.int64) << OFFSET_SHIFT)
    bits = SHIFT_BASE + SHIFT_STEP * np.asarray(shift, np.int64)
    quotient = scaled >> bits
    rest = scaled - (quotient << bits)
    ties = np.asarray(ties)
    to_even = (ties == Ties.EVEN) & (rest == 0)
    to_odd = (ties == Ties.ODD) & (rest == (1 << bits) - (1 << OFFSET_SHIFT))
    return np.clip(np.where(to_odd, quotient | 1, quotient & ~to_even.astype(np.int64)), low, high)
