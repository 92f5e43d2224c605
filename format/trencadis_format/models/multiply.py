"""NumPy model of `multiply`."""

import numpy as np
import numpy.typing as npt

__all__ = ["pair_products"]


def pair_products(
    low: npt.ArrayLike, high: npt.ArrayLike, value: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Outputs of `PairMultiplier` for weights `low` and `high` (as stored, less the borrow).

    Returns
    -------
    tuple
        `low_product`, `high_product`, `high_carry`; the exact product of the odd tile's weight is
        the sum of the last two.
    """
    wide = (np.asarray(high, np.int64) << 18) + np.asarray(low, np.int64)
    # The stored `high` is one short for a negative `low`: only the sign extension is added here.
    wide += np.where(np.asarray(low) < 0, np.int64(1) << 18, 0)
    product = wide * np.asarray(value, np.int64)
    low_field = product & 0x3FFFF
    low_product = low_field - ((low_field >> 17) << 18)
    return low_product, product >> 18, (product >> 17) & 1
