"""Importance pruning: hidden neurons with weak inputs are removed, and layers shrink for real.

Source: Curci, Mocanu, Pechenizkiy, "Truly sparse neural networks at scale", 2021 (arXiv
2102.01732), section 3.3: the importance of a neuron is the sum of the magnitudes of its incoming
weights; those below a percentile of their layer go, while training in intervals, or after it.
"""

import numpy as np
import numpy.typing as npt

from trencadis_train.sparse.network import CsrNetwork

__all__ = ["importance", "prune_neurons"]


def importance(network: CsrNetwork, number: int) -> npt.NDArray[np.float64]:
    """Importance of the neurons of a hidden layer, shape (neurons,)."""
    layer = network.layers[number]
    rows = layer.topology.rows()
    sums = np.bincount(rows, np.abs(layer.weights), minlength=layer.topology.outputs)
    return sums.astype(np.float64)


def prune_neurons(network: CsrNetwork, percentile: float, ways: tuple[int, ...] = ()) -> int:
    """Remove the hidden neurons below a percentile of their layer, in place.

    Their incoming and outgoing connections go with them. Complementary sets go as a whole, by the
    mean of their neurons. k of k-WTA stays, and a layer keeps at least as many neurons.

    Parameters
    ----------
    network : CsrNetwork
        Changed.
    percentile : float
        0..100, of the importances of a layer.
    ways : tuple of int
        Outputs of a complementary set of every layer; 1 each without it.

    Returns
    -------
    int
        How many were removed.
    """
    removed = 0
    for number, hidden in enumerate(network.hidden):
        values = importance(network, number)
        size = ways[number] if ways else 1
        grouped = values.reshape(-1, size).mean(axis=1)
        keep = np.repeat(grouped >= np.percentile(grouped, percentile), size)
        if keep.sum() < max(hidden.winners, 1) or keep.all():
            continue
        removed += int((~keep).sum())
        network.layers[number] = network.layers[number].without_outputs(keep)
        network.layers[number + 1] = network.layers[number + 1].without_inputs(keep)
    return removed
