"""Between the model's tensors and the words that devices take and give."""

from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_hw import abi
from trencadis_hw.container import InputError, Overlay
from trencadis_hw.feed_lists_model import CrowdedError, pack_entries

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
    copied = batch.dtype.kind in "iu" and not overlay.input.nonzeros
    if pool is None or count <= part or copied:
        return _pack(overlay, batch)
    words = np.empty((count, overlay.input_bytes), np.uint8)

    def pack(start: int) -> None:
        words[start : start + part] = _pack(overlay, batch[start : start + part])

    try:
        for _ in pool.map(pack, range(0, count, part)):
            pass
    except InputError:
        _pack(overlay, batch)  # again, for its place in the batch, not in the part
        raise
    return words


def _pack(overlay: Overlay, batch: npt.NDArray[Any]) -> Words:
    form = overlay.input
    keys = form.keys(batch)
    if form.nonzeros:
        return _pack_sparse(overlay, keys)
    keys = keys.reshape(len(keys), -1)
    whole = overlay.input_bytes == form.values and keys.flags.c_contiguous
    if whole and not np.may_share_memory(keys, batch):
        return keys
    words = np.empty((len(keys), overlay.input_bytes), np.uint8)
    words[:, : form.values] = keys
    words[:, form.values :] = 0
    return words


def _pack_sparse(overlay: Overlay, keys: npt.NDArray[np.uint8]) -> Words:
    """Indices and keys of what is not zero."""
    form = overlay.input
    keys = keys.reshape(len(keys), -1, form.channels)
    entries = overlay.input_bytes // (abi.INPUT_ENTRY.bits // 8)
    try:
        packed = pack_entries(keys, form.zero_key, most=form.nonzeros, entries=entries)
    except CrowdedError as error:
        row, column = divmod(error.position, form.columns)
        raise InputError(
            f"input {form.name!r} may have {form.nonzeros} values that are not zero at a position, "
            f"but word {error.word} has {error.count} at row {row}, column {column}; compile the "
            "model with a larger --input-nonzeros, or without"
        ) from None
    return packed.astype("<u4", copy=False).view(np.uint8)


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
