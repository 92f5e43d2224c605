"""What a network computes, in exact arithmetic; the yardstick of emulator and hardware.

It works on the layers as imported, knows nothing of tiles, and requantises by comparing sums with
the exact thresholds instead of multiplying.
"""

import numpy as np
import numpy.typing as npt

from trencadis_compiler.assemble import real_key
from trencadis_compiler.exact import thresholds
from trencadis_compiler.ir import Layer, Network
from trencadis_hw.select_model import winners

__all__ = ["evaluate", "layer_output", "layer_sums"]

Array = npt.NDArray[np.int64]


def evaluate(network: Network, keys: npt.NDArray[np.integer]) -> Array:
    """Keys of the output map, or sums where the network's output is not quantised.

    Parameters
    ----------
    network : Network
        The network.
    keys : int array, shape (words, channels, rows, columns)
        Keys of the input.

    Returns
    -------
    int64 array, shape (words, channels, rows, columns)
    """
    result = np.asarray(keys, np.int64)
    for layer in network.layers:
        result = layer_output(layer, result)
    return result


def layer_sums(layer: Layer, keys: Array) -> Array:
    """Sums of products of a layer, without bias, before pooling."""
    values = keys - layer.input.zero_key
    top, left, bottom, right = layer.padding
    values = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = layer.conv_shape
    (down, across), (dilate_down, dilate_across) = layer.stride, layer.dilation
    sums = np.zeros((len(keys), layer.weights.shape[0], rows, columns), np.float64)
    for i in range(layer.weights.shape[2]):
        for j in range(layer.weights.shape[3]):
            window = values[
                :,
                :,
                i * dilate_down : i * dilate_down + (rows - 1) * down + 1 : down,
                j * dilate_across : j * dilate_across + (columns - 1) * across + 1 : across,
            ]
            # Products of 8-bit numbers: float64 sums are exact far beyond any accumulator.
            kernel = layer.weights[:, :, i, j].astype(np.float64)
            sums += np.einsum("oc,ncyx->noyx", kernel, window.astype(np.float64), optimize=True)
    return sums.astype(np.int64)


def layer_output(layer: Layer, keys: Array) -> Array:
    """Keys of a layer's output map, or pooled sums if they are not requantised."""
    sums = layer_sums(layer, keys)
    (high, wide), (down, across) = layer.pool.kernel, layer.pool.stride
    _, rows, columns = layer.out_shape
    pooled = np.full((*sums.shape[:2], rows, columns), np.iinfo(np.int64).min)
    for i in range(high):
        for j in range(wide):
            window = sums[
                :,
                :,
                i : i + (rows - 1) * down + 1 : down,
                j : j + (columns - 1) * across + 1 : across,
            ]
            pooled = np.maximum(pooled, window)
    if layer.requantised is None:
        return pooled
    result = np.empty_like(pooled)
    for channel in range(pooled.shape[1]):
        slope, intercept = real_key(layer, channel)
        zero = layer.requantised.zero_key
        exact = thresholds(slope, intercept, layer.low, layer.high, zero)
        steps = np.array([min(max(step, -(1 << 62)), 1 << 62) for step in exact], np.int64)
        result[:, channel] = layer.low + np.searchsorted(steps, pooled[:, channel], side="right")
    if layer.table is not None:
        result = layer.table.astype(np.int64)[result]
    if layer.winners is not None:
        assert layer.output is not None
        if layer.winners.whole:
            flat = result.reshape(len(result), -1)
            kept = winners(flat, layer.winners.k, layer.winners.selection).reshape(result.shape)
        else:
            last = np.moveaxis(result, 1, -1)
            kept = winners(last, layer.winners.k, layer.winners.selection)
            kept = np.moveaxis(kept, -1, 1)
        result = np.where(kept, result, layer.output.zero_key)
    return result
