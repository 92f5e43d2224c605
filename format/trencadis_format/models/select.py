"""NumPy model of `select` and `whole_select`."""

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Selection

__all__ = ["winners"]


def winners(keys: npt.NDArray[np.integer], k: int, selection: Selection) -> npt.NDArray[np.bool_]:
    """Find the activations that survive k-WTA along the last axis.

    Parameters
    ----------
    keys : int array, shape (..., channels)
        Activations.
    k : int
        Winners, at most the number of channels; ignored for `Selection.ALL`.
    selection : Selection
        Which ones survive.

    Returns
    -------
    bool array, shape (..., channels)
    """
    if selection == Selection.ALL:
        return np.ones(keys.shape, bool)
    if selection == Selection.THRESHOLD:
        threshold = np.partition(keys, -k, axis=-1)[..., -k, None]
        return keys >= threshold
    # Of equal keys the lower channel is the larger number, so that all numbers differ.
    channels = keys.shape[-1]
    largest = int(np.abs(keys).max(initial=0)) * channels + channels
    dtype = next(kind for kind in (np.int16, np.int32, np.int64) if largest <= np.iinfo(kind).max)
    numbers = keys.astype(dtype) * dtype(channels) + np.arange(channels - 1, -1, -1, dtype=dtype)
    last = np.partition(numbers, channels - k, axis=-1)[..., channels - k, None]
    return numbers >= last
