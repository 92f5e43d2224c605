"""NumPy model of an array's step: the same sums whichever way products are routed."""

import numpy as np
import numpy.typing as npt

from trencadis_format.config import EngineConfig

__all__ = ["pair_sums", "step_sums"]


def step_sums(
    config: EngineConfig,
    values: npt.NDArray[np.int64],
    weights: npt.NDArray[np.int64],
    kernels: npt.NDArray[np.int64],
    *,
    combine: bool = False,
) -> npt.NDArray[np.int64]:
    """Sums of one step.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    values : int64 array, shape (cycles, lanes)
        Activations.
    weights, kernels : int64 array, shape (cycles, lanes, tiles)
        Weights and their kernel IDs.
    combine : bool
        Add up the groups (banked routing only).

    Returns
    -------
    int64 array, shape (beats, columns)
        Signed sums modulo 2**sum_bits: kernel by column = group * tiles + tile with banked
        routing, a single beat with column = tile * kernels + kernel with adder trees.
    """
    groups = np.arange(config.lanes) // config.group_lanes
    sums = np.zeros((config.groups, config.tiles, 1 << config.kernel_bits), np.int64)
    products = values[:, :, None] * weights
    _, lane, tile = np.indices(products.shape)
    np.add.at(sums, (groups[lane], tile, kernels), products)
    if config.routing != "banked":
        table = sums[0, :, : config.kernels_per_tile].reshape(1, -1)
    else:
        if combine:
            sums[0] = sums.sum(axis=0)
        table = sums[:, :, : config.kernels_per_tile].reshape(config.columns, -1).T
    half = 1 << (config.sum_bits - 1)
    return (table + half) % (2 * half) - half


def pair_sums(
    config: EngineConfig,
    values: npt.NDArray[np.int64],
    weights: npt.NDArray[np.int64],
    kernels: npt.NDArray[np.int64],
    split: int,
) -> npt.NDArray[np.int64]:
    """Sums of a step over two windows, split between the halves of the lanes in one cycle.

    Parameters
    ----------
    config : EngineConfig
        The engine, with `split-trees`.
    values, weights, kernels : int64 arrays
        As in `step_sums`.
    split : int
        The cycle that the two windows share.

    Returns
    -------
    int64 array, shape (2, columns)
        Signed sums modulo 2**sum_bits.
    """
    cycle, lane = np.indices(values.shape)
    upper = lane >= config.lanes // 2
    first = (cycle < split) | ((cycle == split) & ~upper)
    return np.concatenate(
        [step_sums(config, np.where(mine, values, 0), weights, kernels) for mine in (first, ~first)]
    )
