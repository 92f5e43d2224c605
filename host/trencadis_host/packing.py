"""Between the model's tensors and the words that devices take and give."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_hw.container import Overlay

__all__ = ["pack_inputs", "unpack_outputs"]

Words = npt.NDArray[np.uint8]


def pack_inputs(overlay: Overlay, array: npt.ArrayLike) -> Words:
    """Words of a batch of inputs.

    Parameters
    ----------
    overlay : Overlay
        The network.
    array : array, shape (words, ...)
        The batch, as the model's input is declared; any number of words.

    Returns
    -------
    uint8 array, shape (words, overlay.input_bytes)

    Raises
    ------
    InputError
        If shape or type are not the model's, or a value is not a number.
    """
    keys = overlay.input.keys(array)
    words = np.zeros((len(keys), overlay.input_bytes), np.uint8)
    words[:, : overlay.input.values] = keys.reshape(len(keys), -1)
    return words


def unpack_outputs(overlay: Overlay, words: Words) -> npt.NDArray[Any]:
    """The model's output from output words.

    Parameters
    ----------
    overlay : Overlay
        The network.
    words : uint8 array, shape (words, overlay.output_bytes)
        What a device gave.

    Returns
    -------
    array, shape (words, ...)
        As the model's output is declared.
    """
    form = overlay.output
    count = len(words)
    used = np.ascontiguousarray(words[:, : form.pieces * form.piece_bytes])
    if form.raw:
        used = used.view("<i4")
    maps = used.reshape(count, form.rows, form.columns, form.places)[..., list(form.order)]
    axes = form.axes + "".join(axis for axis in "CHW" if axis not in form.axes)
    maps = maps.transpose(0, *(1 + "HWC".index(axis) for axis in axes))
    shape = (count, *(size for size in form.shape[1:] if size is not None))
    if form.raw:
        channel = [1] * maps.ndim
        channel[1 + axes.index("C")] = form.channels
        real = maps * np.reshape(form.scales, channel) + np.reshape(form.offsets, channel)
        return real.astype(form.dtype).reshape(shape)
    if form.integer:
        return (maps.astype(np.int16) - form.key_offset).astype(form.dtype).reshape(shape)
    # As DequantizeLinear: an exact difference, then one float32 product.
    values = (maps.astype(np.int32) - form.zero_key).astype(np.float32)
    return (values * np.float32(form.scales[0])).astype(form.dtype).reshape(shape)
