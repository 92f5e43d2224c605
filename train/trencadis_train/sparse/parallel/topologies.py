"""Networks of different topologies brought together: stale gradients, and averages of networks.

Source: Curci, Mocanu, Pechenizkiy, "Truly sparse neural networks at scale", 2021 (arXiv
2102.01732), section 3.1 (WASAP-SGD). A connection is the same where its 64-bit key
`output * inputs + input` is.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.topologies.topology import Keys, Topology

__all__ = ["average_layers", "moved_gradients"]

Floats = npt.NDArray[np.float32]


def moved_gradients(current: Keys, stale: Keys, gradients: Floats) -> Floats:
    """Gradients of a former topology on the present one.

    What was removed since is discarded; what has grown since has no gradient.

    Parameters
    ----------
    current, stale : int64 array
        Ascending keys of both topologies.
    gradients : float32 array, shape of `stale`
        Gradients of the former connections.

    Returns
    -------
    float32 array, shape of `current`
    """
    found = np.zeros(len(current), np.float32)
    if len(current):
        places = np.minimum(np.searchsorted(current, stale), len(current) - 1)
        same = current[places] == stale
        found[places[same]] = gradients[same]
    return found


def average_layers(layers: Sequence[CsrLinear], connections: int) -> CsrLinear:
    """The mean of layers over the union of their connections, cut to so many again.

    A connection that a layer lacks counts as zero there. The largest magnitudes stay. Momenta are
    averaged likewise.

    Parameters
    ----------
    layers : sequence of CsrLinear
        Layers of equal shape.
    connections : int
        Connections of the result; fewer if the union has fewer.
    """
    first = layers[0].topology
    union = layers[0].topology.keys()
    for layer in layers[1:]:
        union = np.union1d(union, layer.topology.keys())
    weights, momenta = np.zeros(len(union)), np.zeros(len(union))
    for layer in layers:
        places = np.searchsorted(union, layer.topology.keys())
        weights[places] += layer.weights
        momenta[places] += layer.momenta
    weights /= len(layers)
    momenta /= len(layers)
    if len(union) > connections:
        chosen = np.argpartition(-np.abs(weights), connections - 1)[:connections]
        chosen.sort()
        union, weights, momenta = union[chosen], weights[chosen], momenta[chosen]
    return CsrLinear.of(
        Topology.from_keys(first.inputs, first.outputs, union),
        weights.astype(np.float32),
        _mean([layer.bias for layer in layers]),
        momenta.astype(np.float32),
        _mean([layer.bias_momenta for layer in layers]),
    )


def _mean(arrays: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float64), np.float32)
