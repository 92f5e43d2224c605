"""The overlay in NumPy: the same samples from the same image, bit for bit, without cycles."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.closing import Closing
from trencadis_format.layer_tables import Selection
from trencadis_format.models.feed_lists import unpack_entries
from trencadis_format.models.requantise import requantise
from trencadis_format.models.select import winners
from trencadis_format.overlay import Overlay
from trencadis_host.devices.emulator.decode import DecodedInput, DecodedLayer, decode
from trencadis_host.devices.maps.device import MapEmulator
from trencadis_host.devices.protocol import DeviceError, DeviceOptions, Statistics
from trencadis_host.errors import DeviceNameError

__all__ = ["Emulator", "PreparedLayer", "compute_layer", "open_device"]

PackedBatch = npt.NDArray[np.uint8]
Array = npt.NDArray[np.int64]

BATCH = 32
"""Samples that are computed at once: of more, windows would not stay in the processor's cache."""


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
            self._input, layers = decode(overlay.image, overlay.kernel)
        except ValueError as error:
            raise DeviceError(f"device emulator: {error}; compile the model again") from error
        self._layers = [PreparedLayer(layer) for layer in layers]

    @property
    def name(self) -> str:
        """Name of the device."""
        return "emulator"

    def run(self, samples: PackedBatch) -> tuple[PackedBatch, Statistics]:
        """Compute samples; see `Device.run`."""
        results = [self._compute(samples[i : i + BATCH]) for i in range(0, len(samples), BATCH)]
        return np.concatenate(results), Statistics(samples=len(samples))

    @property
    def held_bytes(self) -> int:
        """Memory of the weights, as they are decoded and as they are computed with."""
        return sum(2 * prepared.layer.weights.nbytes for prepared in self._layers)

    def reopen(self) -> "Emulator":
        """Itself: it is only memory, which a child process has a copy of."""
        return self

    def close(self) -> None:
        """Nothing to let go of."""

    def layer_outputs(self, samples: PackedBatch) -> list[Array]:
        """Results of every layer, for comparing layer by layer.

        Parameters
        ----------
        samples : uint8 array, shape (samples, overlay.input_bytes)
            As for `run`.

        Returns
        -------
        list of int64 array, shape (samples, rows, columns, channels)
            Keys in the order of channels; of a layer that gives sums, sums in the order of the
            output's places.
        """
        values = _spread(self._input, samples)
        found = []
        for prepared in self._layers:
            outputs, layer = prepared.compute(values), prepared.layer
            found.append(outputs)
            if layer.width:
                values = _padded(outputs - layer.zero, layer.width, layer.first)
        return found

    def _compute(self, samples: PackedBatch) -> PackedBatch:
        outputs = self.layer_outputs(samples)[-1]
        form = self._overlay.output
        dtype = "<i4" if self._layers[-1].layer.raw else np.uint8
        places = np.zeros((len(samples), form.rows * form.columns, form.places), dtype)
        places[:, :, : outputs.shape[-1]] = outputs.reshape(len(samples), -1, outputs.shape[-1])
        packed = np.zeros((len(samples), self._overlay.output_bytes), np.uint8)
        flat = places.reshape(len(samples), -1).view(np.uint8)
        packed[:, : flat.shape[1]] = flat
        return packed


def compute_layer(layer: DecodedLayer, values: npt.NDArray[Any]) -> Array:
    """Keys, or sums, that a layer gives.

    Parameters
    ----------
    layer : DecodedLayer
        The layer.
    values : int or float array, shape (samples, positions, channels)
        Its input map with its padding: whole numbers.

    Returns
    -------
    int64 array, shape (samples, rows, columns, outputs)
    """
    return PreparedLayer(layer).compute(values)


class PreparedLayer:
    """A layer with what needs to be made of it only once.

    Parameters
    ----------
    layer : DecodedLayer
        The layer.

    Attributes
    ----------
    layer : DecodedLayer
        The same.
    """

    def __init__(self, layer: DecodedLayer) -> None:
        self.layer = layer
        outputs, positions, channels = layer.weights.shape
        self._windows = (layer.origins[..., None] + layer.offsets).ravel()
        largest = np.abs(layer.weights).sum(axis=(1, 2)).max(initial=0) * 255
        # Sums of products are exact in float32 while they stay below 2**24.
        self._dtype = np.float32 if largest < 1 << 24 else np.float64
        self._wraps = largest >= 1 << (layer.sum_bits - 1)
        kernels = layer.weights.reshape(outputs, positions * channels).T
        self._kernels = np.ascontiguousarray(kernels, self._dtype)

    def compute(self, values: npt.NDArray[Any]) -> Array:
        """Keys, or sums; see `compute_layer`."""
        layer = self.layer
        pooled = self._sums(values)
        if layer.raw:
            return pooled
        keys = requantise(pooled, **layer.parameters, low=layer.low, high=layer.high)
        if layer.table is not None:
            keys = layer.table[keys]
        if layer.selection is not Selection.ALL:
            keys = np.where(winners(keys, layer.k, layer.selection), keys, layer.zero)
        return keys

    def _sums(self, values: npt.NDArray[Any]) -> Array:
        """The largest sum of every pooling window."""
        layer = self.layer
        outputs, positions, channels = layer.weights.shape
        if values.shape[2] < channels:
            values = np.pad(values, ((0, 0), (0, 0), (0, channels - values.shape[2])))
        below = int(self._windows.max(initial=0)) + 1 - values.shape[1]
        if below > 0:
            values = np.pad(values, ((0, 0), (0, below), (0, 0)))
        # Converted before it is unfolded: there are fewer values than products.
        values = values[:, :, :channels].astype(self._dtype)
        windows = np.take(values, self._windows, axis=1)
        products = windows.reshape(-1, positions * channels) @ self._kernels
        sums = products.reshape(len(values), *layer.origins.shape, outputs)
        if not self._wraps:
            largest = sums[:, :, :, 0] if sums.shape[3] == 1 else sums.max(axis=3)
            return largest.astype(np.int64)
        half = 1 << (layer.sum_bits - 1)
        return ((sums.astype(np.int64) + half) % (2 * half) - half).max(axis=3)


def _spread(source: DecodedInput, samples: PackedBatch) -> Array:
    """Values of packed inputs at the positions of the padded input map.

    Raises
    ------
    DeviceError
        If sparse samples are not in their format.
    """
    positions = source.rows * source.columns
    if source.sparse:
        entries = np.ascontiguousarray(samples).view("<u4")
        try:
            maps = unpack_entries(entries, (positions, source.channels), source.zero)
        except ValueError as error:
            raise DeviceError(f"device emulator: {error}; pack samples with pack_inputs") from error
    else:
        maps = samples[:, : positions * source.channels].astype(np.int64) - source.zero
    maps = maps.reshape(len(samples), source.rows, source.columns, source.channels)
    return _padded(maps, source.width, source.first)


def _padded(maps: Array, width: int, first: int) -> Array:
    samples, rows, columns, channels = maps.shape
    top = first // width
    # As much padding below as above and beside is enough for any window.
    height = rows + top + max(top, width - columns) + 1
    padded = np.zeros((samples, height * width, channels), np.int64)
    positions = first + np.arange(rows)[:, None] * width + np.arange(columns)
    padded[:, positions.ravel()] = maps.reshape(samples, rows * columns, channels)
    return padded


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> Emulator | MapEmulator:
    """The emulator; it takes no argument.

    Raises
    ------
    DeviceError
        If there is an argument, or the image cannot be decoded.
    """
    if argument:
        raise DeviceNameError(f"device emulator takes nothing after a colon, not {argument!r}")
    return Emulator(overlay) if overlay.kernel.core.map is None else MapEmulator(overlay)
