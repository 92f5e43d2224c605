"""Reference: a network in exact arithmetic; the yardstick of emulator and hardware.

It works on the layers as imported, knows nothing of tiles, and requantises by comparing sums with
the exact thresholds instead of multiplying.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir.network import Layer, Network
from trencadis_format.models.select import winners
from trencadis_format.models.thresholds import thresholds

__all__ = ["evaluate", "evaluate_all", "layer_output", "layer_sums"]

Array = npt.NDArray[np.int64]


def evaluate(network: Network, keys: npt.NDArray[np.integer]) -> Array:
    """Keys of the output map, or sums where the network's output is not quantised.

    Parameters
    ----------
    network : Network
        The network.
    keys : int array, shape (samples, channels, rows, columns)
        Keys of the input.

    Returns
    -------
    int64 array, shape (samples, channels, rows, columns)
    """
    return evaluate_all(network, {network.input.name: keys})[network.output.name]


def evaluate_all(network: Network, keys: Mapping[str, npt.NDArray[np.integer]]) -> dict[str, Array]:
    """Keys, or sums, of every value of a network, given those of its inputs.

    Parameters
    ----------
    network : Network
        The network.
    keys : mapping of str to int array, shape (samples, channels, rows, columns)
        Keys by the name of the input.

    Returns
    -------
    dict of str to int64 array, shape (samples, channels, rows, columns)
        By the value's name, inputs included.
    """
    values = {name: np.asarray(array, np.int64) for name, array in keys.items()}
    for layer in network.layers:
        values[layer.target] = layer_output(layer, values[layer.source])
    return values


def layer_sums(layer: Layer, keys: Array) -> Array:
    """Sums of products of a layer, without bias, before pooling."""
    values = keys - layer.input.zero_key
    top, left, bottom, right = layer.padding
    values = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = layer.conv_shape
    (down, across), (dilate_down, dilate_across) = layer.stride, layer.dilation
    sums = np.zeros((len(keys), rows, columns, len(layer.weights)), np.float64)
    # All channels and positions of every window, a row of the map at a time.
    for row in range(rows):
        down_rows = row * down + np.arange(layer.weights.shape[2]) * dilate_down
        across_columns = (
            np.arange(columns)[:, None] * across + np.arange(layer.weights.shape[3]) * dilate_across
        )
        windows = values[:, :, down_rows[None, :, None], across_columns[:, None, :]]
        windows = windows.transpose(0, 2, 1, 3, 4).reshape(-1, layer.weights.length)
        # Products of 8-bit numbers: float64 sums are exact far beyond any accumulator.
        products = layer.weights.products(windows.astype(np.float64))
        sums[:, row] = products.reshape(len(keys), columns, -1)
    return sums.transpose(0, 3, 1, 2).astype(np.int64)


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
        slope, intercept = layer.real_keys[channel]
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
