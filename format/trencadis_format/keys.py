"""Keys of a network's inputs, as fast as memory allows: blocks that stay in the cache."""

import numpy as np
import numpy.typing as npt

__all__ = ["integer_keys", "real_keys"]

BLOCK = 1 << 17
"""Values that are quantised at a time."""

MAX_SURE_ERROR = 0.5 - 2.0**-13
"""Quotients closer than this to an integer are rounded to it by float32, as far as they are not
clipped: below 512 a reciprocal and a product in float32 err by less than 512 * 2**-22."""


def integer_keys(array: npt.NDArray[np.integer], offset: int) -> npt.NDArray[np.uint8]:
    """Keys of quantised integers of 8 bits.

    Parameters
    ----------
    array : int8 or uint8 array
        The integers.
    offset : int
        Added to get keys; 0 or 128.
    """
    keys = np.ascontiguousarray(array).view(np.uint8)
    return keys + np.uint8(offset) if offset else keys


def real_keys(array: npt.NDArray[np.floating], scale: float, zero: int) -> npt.NDArray[np.uint8]:
    """Keys of real numbers: divided by the scale, rounded half to even, clipped.

    The quotient is that of exact arithmetic. Most are found in float32; those near a tie are
    computed again in float64, whose quotient of two float32 rounds as the exact one does.

    Parameters
    ----------
    array : float array
        The numbers.
    scale : float
        A float32 number above 0.
    zero : int
        Key of the number zero.

    Returns
    -------
    uint8 array
        Of the shape of the numbers.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    keys = np.empty(flat.size, np.uint8)
    if flat.dtype.itemsize > 4:
        for start in range(0, flat.size, BLOCK):
            keys[start : start + BLOCK] = _exactly(flat[start : start + BLOCK], scale, zero)
        return keys.reshape(np.shape(array))
    quotients, rounded = np.empty((2, BLOCK), np.float32)
    lowest, highest = np.float32(-zero), np.float32(255 - zero)
    with np.errstate(all="ignore"):
        reciprocal = np.float32(1) / np.float32(scale)
        for start in range(0, flat.size, BLOCK):
            values = flat[start : start + BLOCK]
            out = keys[start : start + BLOCK]
            quotient, near = quotients[: values.size], rounded[: values.size]
            np.multiply(values, reciprocal, out=quotient, casting="same_kind")
            np.rint(quotient, out=near)
            np.subtract(quotient, near, out=quotient)
            # Finding out whether there is something to clip takes a third of the time of clipping.
            if not (near.min() >= lowest and near.max() <= highest):
                np.clip(near, lowest, highest, out=near)
            np.add(near, np.float32(zero), out=near)
            np.copyto(out, near, casting="unsafe")
            highest_part, lowest_part = quotient.max(), quotient.min()
            if np.isnan(highest_part):  # something is not finite, or too large for float32
                out[:] = _exactly(values, scale, zero)
            elif highest_part >= MAX_SURE_ERROR or lowest_part <= -MAX_SURE_ERROR:
                unsure = np.flatnonzero(np.abs(quotient, out=quotient) >= MAX_SURE_ERROR)
                out[unsure] = _exactly(values[unsure], scale, zero)
    return keys.reshape(np.shape(array))


def _exactly(values: npt.NDArray[np.floating], scale: float, zero: int) -> npt.NDArray[np.uint8]:
    """Keys by float64."""
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    # Clipped before it is converted: a large number must not wrap around.
    return np.clip(np.rint(values.astype(np.float64) / scale) + zero, 0, 255).astype(np.uint8)
