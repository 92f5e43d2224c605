"""Bounds on sums, and the proof that accumulators hold them."""

import numpy as np
import numpy.typing as npt

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer

__all__ = ["prove_range", "reachable_sums"]

Bounds = npt.NDArray[np.int64]


def reachable_sums(layer: Layer, survivors: int | None) -> tuple[Bounds, Bounds]:
    """Bounds on the sums of products of every channel, bias not included.

    Parameters
    ----------
    layer : Layer
        The layer.
    survivors : int or None
        At most so many channels of an input position are not zero; None if all may be.

    Returns
    -------
    tuple of int64 arrays, shape (channels,)
        Least and most.
    """
    above = 255 - layer.input.zero_key
    below = -layer.input.zero_key
    kernels = layer.weights
    values = kernels.values.astype(np.int64)
    high = np.maximum(values * above, values * below)
    low = np.minimum(values * above, values * below)
    if survivors is not None and survivors < kernels.shape[1]:
        # Of every kernel and position the products that reach farthest.
        group = kernels.kernel * kernels.window + kernels.places % kernels.window
        low = np.where(_first(group, low, survivors), low, 0)
        high = np.where(_first(group, -high, survivors), high, 0)
    return kernels.totals(low), kernels.totals(high)


def _first(
    group: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.bool_]:
    """Tell which numbers are among the least of their group, so many of each."""
    order = np.lexsort((numbers, group))
    ordered = group[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    kept = np.zeros(len(order), bool)
    kept[order[rank < count]] = True
    return kept


def prove_range(layer: Layer, survivors: int | None, sum_bits: int) -> None:
    """Prove that no input makes a sum leave its accumulator, requantised or not.

    Parameters
    ----------
    layer, survivors
        As for `reachable_sums`.
    sum_bits : int
        Bits of an accumulator, two's complement.

    Raises
    ------
    CompileError
        Naming the channel whose sums may reach too far.
    """
    least, most = reachable_sums(layer, survivors)
    half = 1 << (sum_bits - 1)
    outside = np.flatnonzero((least < -half) | (most >= half))
    if outside.size:
        channel = int(outside[0])
        raise CompileError(
            f"layer {layer.name!r}, channel {channel}: sums may reach "
            f"{least[channel]}..{most[channel]}, more than the {sum_bits} bits of the "
            "accumulators; choose a board with wider sums, such as a copy of this one's file with "
            "a larger sum_bits"
        )
