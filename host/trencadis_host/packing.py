"""Between the model's tensors and the words that devices take and give."""

import numpy as np
import numpy.typing as npt

from trencadis_hw.container import InputFormat, Overlay

__all__ = ["InputError", "pack_inputs", "unpack_outputs"]

Words = npt.NDArray[np.uint8]


class InputError(ValueError):
    """An input array does not fit the model. One line: input, rule, what came."""


def pack_inputs(overlay: Overlay, array: npt.ArrayLike) -> Words:
    """Words of a batch of inputs.

    Real inputs are quantised as ONNX's QuantizeLinear does: divided by the scale, rounded half to
    even, clipped. The division is in float64, where it is exact enough for the rounding to be that
    of exact arithmetic.

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
    form = overlay.input
    batch = np.asarray(array)
    _check(form, batch)
    if form.dtype in ("int8", "uint8"):
        keys = batch.astype(np.int16) + form.key_offset
    else:
        if not np.all(np.isfinite(batch)):
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(batch))[0])
            raise InputError(
                f"input {form.name!r} must be finite, but is {batch[index]} at {list(index)}; "
                "clean the data first"
            )
        # Clipped before it is converted: a large number must not wrap around.
        scaled = np.rint(batch.astype(np.float64) / form.scale) + form.zero_key
        keys = np.clip(scaled, 0, 255)
    words = np.zeros((len(batch), overlay.input_bytes), np.uint8)
    sizes = {"C": form.channels, "H": form.rows, "W": form.columns}
    axes = form.axes + "".join(axis for axis in "CHW" if axis not in form.axes)
    maps = keys.reshape(len(batch), *(sizes[axis] for axis in axes))
    order = (0, *(1 + axes.index(axis) for axis in "HWC"))
    words[:, : form.values] = maps.transpose(order).reshape(len(batch), -1)
    return words


def unpack_outputs(overlay: Overlay, words: Words) -> npt.NDArray[np.generic]:
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
    sizes = {"C": form.channels, "H": form.rows, "W": form.columns}
    axes = form.axes + "".join(axis for axis in "CHW" if axis not in form.axes)
    maps = maps.transpose(0, *(1 + "HWC".index(axis) for axis in axes))
    shape = (count, *(size for size in form.shape[1:] if size is not None))
    if form.raw:
        channel = [1] * maps.ndim
        channel[1 + axes.index("C")] = sizes["C"]
        scales = np.reshape(form.scales, channel)
        real = maps.astype(np.float64) * scales + np.reshape(form.offsets, channel)
        return real.astype(form.dtype).reshape(shape)
    if form.integer:
        return (maps.astype(np.int16) - form.key_offset).astype(form.dtype).reshape(shape)
    # As DequantizeLinear: an exact difference, then one float32 product.
    values = (maps.astype(np.int32) - form.zero_key).astype(np.float32)
    return (values * np.float32(form.scales[0])).astype(form.dtype).reshape(shape)


def _check(form: InputFormat, batch: npt.NDArray[np.generic]) -> None:
    expected = ["N" if size is None or i == 0 else size for i, size in enumerate(form.shape)]
    if batch.ndim != len(form.shape) or list(batch.shape[1:]) != expected[1:]:
        raise InputError(
            f"input {form.name!r} must have shape {expected}, not {list(batch.shape)}"
        )
    if len(batch) == 0:
        raise InputError(f"input {form.name!r} has no words; give it at least one")
    if batch.dtype != np.dtype(form.dtype):
        raise InputError(
            f"input {form.name!r} must be {form.dtype}, not {batch.dtype}; convert it with "
            f".astype('{form.dtype}')"
        )
