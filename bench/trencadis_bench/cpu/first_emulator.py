"""The emulator as it was first: what the device `cpu` is measured against, kept as it was.

Maps are 64-bit integers, batches have 256 samples, and every window is unfolded before one
product of matrices. `trencadis_host.devices.emulator` has become faster since.
"""

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Selection
from trencadis_format.models.feed_lists import unpack_entries
from trencadis_format.models.requantise import requantise
from trencadis_format.overlay import Overlay
from trencadis_host.devices.emulator.decode import DecodedInput, DecodedLayer, decode

__all__ = ["FirstEmulator"]

PackedBatch = npt.NDArray[np.uint8]
Array = npt.NDArray[np.int64]

BATCH = 256


class FirstEmulator:
    """Computes samples.

    Parameters
    ----------
    overlay : Overlay
        The network.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._input, self._layers = decode(overlay.image, overlay.kernel)

    def run(self, samples: PackedBatch) -> PackedBatch:
        """Packed outputs, shape (count, overlay.output_bytes)."""
        return np.concatenate(
            [self._compute(samples[i : i + BATCH]) for i in range(0, len(samples), BATCH)]
        )

    def _compute(self, samples: PackedBatch) -> PackedBatch:
        values = _spread(self._input, samples)
        outputs = np.zeros(0, np.int64)
        for layer in self._layers:
            outputs = _compute_layer(layer, values)
            if layer.width:
                values = _padded(outputs - layer.zero, layer.width, layer.first)
        form = self._overlay.output
        dtype = "<i4" if self._layers[-1].raw else np.uint8
        places = np.zeros((len(samples), form.rows * form.columns, form.places), dtype)
        places[:, :, : outputs.shape[-1]] = outputs.reshape(len(samples), -1, outputs.shape[-1])
        packed = np.zeros((len(samples), self._overlay.output_bytes), np.uint8)
        flat = places.reshape(len(samples), -1).view(np.uint8)
        packed[:, : flat.shape[1]] = flat
        return packed


def _compute_layer(layer: DecodedLayer, values: Array) -> Array:
    """Keys, or sums, shape (samples, rows, columns, outputs)."""
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
    if layer.selection is not Selection.ALL:
        keys = np.where(_winners(keys, layer.k, layer.selection), keys, layer.zero)
    return keys


def _winners(keys: Array, k: int, selection: Selection) -> npt.NDArray[np.bool_]:
    if selection == Selection.THRESHOLD:
        threshold = np.partition(keys, -k, axis=-1)[..., -k, None]
        return keys >= threshold
    order = np.argsort(-keys.astype(np.int64), axis=-1, kind="stable")[..., :k]
    result = np.zeros(keys.shape, bool)
    np.put_along_axis(result, order, True, axis=-1)
    return result


def _spread(source: DecodedInput, samples: PackedBatch) -> Array:
    """Values of packed inputs at the positions of the padded input map."""
    positions = source.rows * source.columns
    if source.sparse:
        entries = np.ascontiguousarray(samples).view("<u4")
        maps = unpack_entries(entries, (positions, source.channels), source.zero)
    else:
        maps = samples[:, : positions * source.channels].astype(np.int64) - source.zero
    maps = maps.reshape(len(samples), source.rows, source.columns, source.channels)
    return _padded(maps, source.width, source.first)


def _padded(maps: Array, width: int, first: int) -> Array:
    count, rows, columns, channels = maps.shape
    top = first // width
    height = rows + top + max(top, width - columns) + 1
    padded = np.zeros((count, height * width, channels), np.int64)
    positions = first + np.arange(rows)[:, None] * width + np.arange(columns)
    padded[:, positions.ravel()] = maps.reshape(count, rows * columns, channels)
    return padded
