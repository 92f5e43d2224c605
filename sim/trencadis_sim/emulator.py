"""The overlay in NumPy: the same words from the same image, bit for bit, without cycles."""

import numpy as np
import numpy.typing as npt

from trencadis_host.device import DeviceError, DeviceOptions, Statistics
from trencadis_host.faults import DeviceNameError
from trencadis_hw import abi
from trencadis_hw.closing import Closing
from trencadis_hw.container import Overlay
from trencadis_hw.feed_lists_model import unpack_entries
from trencadis_hw.requantise_model import requantise
from trencadis_hw.select_model import winners
from trencadis_sim.decode import DecodedInput, DecodedLayer, decode

__all__ = ["Emulator", "compute_layer", "open_device"]

Words = npt.NDArray[np.uint8]
Array = npt.NDArray[np.int64]

BATCH = 256
"""Words that are computed at once; more would only take more memory."""


class Emulator(Closing):
    """A device that computes in NumPy what the hardware computes.

    Parameters
    ----------
    overlay : Overlay
        The network.

    Raises
    ------
    DeviceError
        If the image cannot be decoded.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        try:
            self._input, self._layers = decode(overlay.image, overlay.kernel)
        except ValueError as error:
            raise DeviceError(f"device emulator: {error}; compile the model again") from error

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return "emulator"

    def run(self, words: Words) -> tuple[Words, Statistics]:
        """Compute words; see `Device.run`."""
        results = [self._compute(words[i : i + BATCH]) for i in range(0, len(words), BATCH)]
        return np.concatenate(results), Statistics(words=len(words))

    def close(self) -> None:
        """Nothing to let go of."""

    def _compute(self, words: Words) -> Words:
        values = _spread(self._input, words)
        outputs = np.zeros(0, np.int64)
        for layer in self._layers:
            outputs = compute_layer(layer, values)
            if layer.width:
                values = _place(layer, outputs - layer.zero)
        form = self._overlay.output
        dtype = "<i4" if self._layers[-1].raw else np.uint8
        places = np.zeros((len(words), form.rows * form.columns, form.places), dtype)
        places[:, :, : outputs.shape[-1]] = outputs.reshape(len(words), -1, outputs.shape[-1])
        packed = np.zeros((len(words), self._overlay.output_bytes), np.uint8)
        flat = places.reshape(len(words), -1).view(np.uint8)
        packed[:, : flat.shape[1]] = flat
        return packed


def compute_layer(layer: DecodedLayer, values: Array) -> Array:
    """Keys, or sums, that a layer gives.

    Parameters
    ----------
    layer : DecodedLayer
        The layer.
    values : int64 array, shape (words, positions, channels)
        Its input map with its padding.

    Returns
    -------
    int64 array, shape (words, rows, columns, outputs)
    """
    outputs, positions, channels = layer.weights.shape
    index = layer.origins[..., None] + layer.offsets
    # Sums of products are exact in float32 while they stay below 2**24.
    largest = np.abs(layer.weights).sum(axis=(1, 2)).max(initial=0) * 255
    dtype = np.float32 if largest < 1 << 24 else np.float64
    kernels = layer.weights.reshape(outputs, positions * channels).T.astype(dtype)
    if values.shape[2] < channels:
        values = np.pad(values, ((0, 0), (0, 0), (0, channels - values.shape[2])))
    windows = values[:, index.ravel(), :channels].astype(dtype)
    products = windows.reshape(-1, positions * channels) @ kernels
    sums = products.astype(np.int64).reshape(len(values), *layer.origins.shape, outputs)
    half = 1 << (layer.sum_bits - 1)
    sums = (sums + half) % (2 * half) - half
    pooled = sums.max(axis=3)
    if layer.raw:
        return pooled
    keys = requantise(pooled, **layer.parameters, low=layer.low, high=layer.high)
    if layer.table is not None:
        keys = layer.table[keys]
    if layer.selection is not abi.Selection.ALL:
        keys = np.where(winners(keys, layer.k, layer.selection), keys, layer.zero)
    return keys


def _spread(source: DecodedInput, words: Words) -> Array:
    """Values of input words at the positions of the padded input map.

    Raises
    ------
    DeviceError
        If sparse words are not in their format.
    """
    positions = source.rows * source.columns
    if source.sparse:
        entries = np.ascontiguousarray(words).view("<u4")
        try:
            maps = unpack_entries(entries, (positions, source.channels), source.zero)
        except ValueError as error:
            raise DeviceError(f"device emulator: {error}; pack words with pack_inputs") from error
    else:
        maps = words[:, : positions * source.channels].astype(np.int64) - source.zero
    maps = maps.reshape(len(words), source.rows, source.columns, source.channels)
    return _padded(maps, source.width, source.first)


def _place(layer: DecodedLayer, values: Array) -> Array:
    """Values of a layer's outputs at the positions of the next layer's padded map."""
    return _padded(values, layer.width, layer.first)


def _padded(maps: Array, width: int, first: int) -> Array:
    words, rows, columns, channels = maps.shape
    top = first // width
    # As much padding below as above and beside is enough for any window.
    height = rows + top + max(top, width - columns) + 1
    padded = np.zeros((words, height * width, channels), np.int64)
    positions = first + np.arange(rows)[:, None] * width + np.arange(columns)
    padded[:, positions.ravel()] = maps.reshape(words, rows * columns, channels)
    return padded


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> Emulator:
    """The emulator; it takes no argument.

    Raises
    ------
    DeviceError
        If there is an argument, or the image cannot be decoded.
    """
    if argument:
        raise DeviceNameError(f"device emulator takes nothing behind a colon, not {argument!r}")
    return Emulator(overlay)
