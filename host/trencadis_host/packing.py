"""Between the model's tensors and the words that devices take and give."""

from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_hw.container import InputError, Overlay

__all__ = ["pack_inputs", "unpack_outputs"]

Words = npt.NDArray[np.uint8]

PART_VALUES = 1 << 19
"""Values that a thread packs at a time: enough to be worth handing over."""


def pack_inputs(overlay: Overlay, array: npt.ArrayLike, pool: Executor | None = None) -> Words:
    """Words of a batch of inputs.

    Parameters
    ----------
    overlay : Overlay
        The network.
    array : array, shape (words, ...)
        The batch, as the model's input is declared; any number of words.
    pool : Executor, optional
        Threads to share the work among. NumPy lets go of the interpreter meanwhile.

    Returns
    -------
    uint8 array, shape (words, overlay.input_bytes)

    Raises
    ------
    InputError
        If shape or type are not the model's, or a value is not a number.
    """
    batch = np.asarray(array)
    count = len(batch) if batch.ndim else 0
    part = max(1, PART_VALUES // overlay.input.values)
    # Integers are only copied: one thread does that as fast as memory allows.
    if pool is None or count <= part or batch.dtype.kind in "iu":
        keys = overlay.input.keys(batch).reshape(count, -1)
        whole = overlay.input_bytes == overlay.input.values and keys.flags.c_contiguous
        if whole and not np.may_share_memory(keys, batch):
            return keys
        words = _empty(overlay, count)
        words[:, : overlay.input.values] = keys
        return words
    words = _empty(overlay, count)

    def pack(start: int) -> None:
        keys = overlay.input.keys(batch[start : start + part])
        words[start : start + part, : overlay.input.values] = keys.reshape(len(keys), -1)

    try:
        for _ in pool.map(pack, range(0, count, part)):
            pass
    except InputError:
        overlay.input.keys(batch)  # again, for its place in the batch, not in the part
        raise
    return words


def _empty(overlay: Overlay, count: int) -> Words:
    """Words whose padding is zero."""
    words = np.empty((count, overlay.input_bytes), np.uint8)
    words[:, overlay.input.values :] = 0
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
