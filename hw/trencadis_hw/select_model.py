"""NumPy model of `select` and `whole_select`."""

import numpy as np
import numpy.typing as npt

from trencadis_hw import abi

__all__ = ["winners"]


def winners(
    keys: npt.NDArray[np.integer], k: int, selection: abi.Selection
) -> npt.NDArray[np.bool_]:
    """Which activations survive k-WTA along the last axis.

    Parameters
    ----------
    keys : int array, shape (..., channels)
        Activations.
    k : int
        Winners, at most the number of channels; ignored for `Selection.ALL`.
    selection : abi.Selection
        Which ones survive.

    Returns
    -------
    bool array, shape (..., channels)
    """
    if selection == abi.Selection.ALL:
        return np.ones(keys.shape, bool)
    if selection == abi.Selection.THRESHOLD:
        threshold = np.partition(keys, -k, axis=-1)[..., -k, None]
        return keys >= threshold
    order = np.argsort(-keys.astype(np.int64), axis=-1, kind="stable")[..., :k]
    result = np.zeros(keys.shape, bool)
    np.put_along_axis(result, order, True, axis=-1)
    return result
