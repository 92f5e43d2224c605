"""Conversion between the model's tensors and the samples that devices take and give."""

from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.errors import InputError
from trencadis_format.layer_tables import INPUT_ENTRY
from trencadis_format.models.feed_lists import CrowdedError, pack_entries
from trencadis_format.overlay import Overlay
from trencadis_format.rounding import rational_sums, scaled_sums
from trencadis_format.tensor_formats import OutputFormat

__all__ = ["output_tensor", "pack_inputs", "pack_keys", "unpack_maps", "unpack_outputs"]

PackedBatch = npt.NDArray[np.uint8]

PART_VALUES = 1 << 19
"""Values that a thread packs at a time: enough to be worth handing over."""


def pack_inputs(
    overlay: Overlay, array: npt.ArrayLike, pool: Executor | None = None
) -> PackedBatch:
    """Samples of a batch of inputs.

    Parameters
    ----------
    overlay : Overlay
        The network.
    array : array, shape (samples, ...)
        The batch, as the model's input is declared; any number of samples.
    pool : Executor, optional
        Threads to share the work among. NumPy lets go of the interpreter meanwhile.

    Returns
    -------
    uint8 array, shape (samples, overlay.input_bytes)

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
    samples = np.empty((count, overlay.input_bytes), np.uint8)

    def pack(start: int) -> None:
        samples[start : start + part] = _pack(overlay, batch[start : start + part])

    try:
        for _ in pool.map(pack, range(0, count, part)):
            pass
    except InputError:
        _pack(overlay, batch)  # again, for its place in the batch, not in the part
        raise
    return samples


def _pack(overlay: Overlay, batch: npt.NDArray[Any]) -> PackedBatch:
    samples = pack_keys(overlay, overlay.input.keys(batch))
    return samples.copy() if np.may_share_memory(samples, batch) else samples


def pack_keys(overlay: Overlay, keys: npt.NDArray[np.uint8]) -> PackedBatch:
    """Samples of maps that are keys already.

    Parameters
    ----------
    overlay : Overlay
        The network.
    keys : uint8 array, shape (samples, rows, columns, channels)
        Input maps.

    Returns
    -------
    uint8 array, shape (samples, overlay.input_bytes)
        Perhaps a view of `keys`.
    """
    form = overlay.input
    if form.nonzeros:
        return _pack_sparse(overlay, keys)
    keys = keys.reshape(len(keys), -1)
    if overlay.input_bytes == form.values and keys.flags.c_contiguous:
        return keys
    samples = np.empty((len(keys), overlay.input_bytes), np.uint8)
    samples[:, : form.values] = keys
    samples[:, form.values :] = 0
    return samples


def _pack_sparse(overlay: Overlay, keys: npt.NDArray[np.uint8]) -> PackedBatch:
    """Indices and keys of what is not zero."""
    form = overlay.input
    keys = keys.reshape(len(keys), -1, form.channels)
    entries = overlay.input_bytes // (INPUT_ENTRY.bits // 8)
    try:
        packed = pack_entries(keys, form.zero_key, most=form.nonzeros, entries=entries)
    except CrowdedError as error:
        row, column = divmod(error.position, form.columns)
        raise InputError(
            f"input {form.name!r} may have {form.nonzeros} values that are not zero at a position, "
            f"but sample {error.sample} has {error.count} at row {row}, column {column}; compile "
            "the model with a larger --input-nonzeros, or without"
        ) from None
    return packed.astype("<u4", copy=False).view(np.uint8)


def unpack_maps(form: OutputFormat, samples: PackedBatch) -> npt.NDArray[Any]:
    """Keys or sums, shape (samples, rows, columns, channels), channels in order."""
    used = np.ascontiguousarray(samples[:, : form.pieces * form.piece_bytes])
    if form.raw:
        used = used.view("<i4")
    return used.reshape(len(samples), form.rows, form.columns, form.places)[..., list(form.order)]


def unpack_outputs(overlay: Overlay, samples: PackedBatch) -> npt.NDArray[Any]:
    """The model's output from packed outputs.

    Parameters
    ----------
    overlay : Overlay
        The network.
    samples : uint8 array, shape (samples, overlay.output_bytes)
        What a device gave.

    Returns
    -------
    array, shape (samples, ...)
        As the model's output is declared.
    """
    return output_tensor(overlay.output, unpack_maps(overlay.output, samples))


def output_tensor(form: OutputFormat, maps: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The model's output from keys or sums, shape (samples, rows, columns, channels)."""
    count = len(maps)
    axes = form.axes + "".join(axis for axis in "CHW" if axis not in form.axes)
    maps = maps.transpose(0, *(1 + "HWC".index(axis) for axis in axes))
    shape = (count, *(size for size in form.shape[1:] if size is not None))
    if form.raw:
        axis = 1 + axes.index("C")
        if form.ratios:
            return rational_sums(maps, form.ratios, axis, form.dtype).reshape(shape)
        channel = [1] * maps.ndim
        channel[axis] = form.channels
        scales, offsets = (np.reshape(numbers, channel) for numbers in (form.scales, form.offsets))
        return scaled_sums(maps, scales, offsets, form.dtype).reshape(shape)
    if form.integer:
        return (maps.astype(np.int16) - form.key_offset).astype(form.dtype).reshape(shape)
    # As DequantizeLinear: an exact difference, then one float32 product.
    values = (maps.astype(np.int32) - form.zero_key).astype(np.float32)
    return (values * np.float32(form.scales[0])).astype(form.dtype).reshape(shape)
