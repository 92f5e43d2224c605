"""Topologies that change while training: connections are dropped by magnitude and regrown.

Sources: SET, Mocanu et al., Nature Communications 9, 2018; RigL, Evci et al., ICML 2020 (arXiv
1911.11134), here with the gradient at sampled candidates, since that of all places is dense.
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.network import CsrNetwork
from trencadis_train.sparse.topologies.complementary import regrow_complementary
from trencadis_train.sparse.topologies.topology import Keys, draw_keys

__all__ = ["EvolutionName", "evolve_layer", "evolve_network", "fraction_at", "smallest_weights"]

EvolutionName = Literal["fixed", "set", "rigl"]

CANDIDATES = 8
"""Places at which the gradient is looked at for every connection that is regrown."""


def fraction_at(fraction: float, progress: float, until: float, *, cosine: bool) -> float:
    """Part of the connections to drop.

    Parameters
    ----------
    fraction : float
        At the start.
    progress : float
        Part of the training that is done.
    until : float
        Part of the training from which topologies stay.
    cosine : bool
        Fall to 0 along a cosine; else stay until then.
    """
    if progress >= until:
        return 0.0
    return fraction * (1 + math.cos(math.pi * progress / until)) / 2 if cosine else fraction


def smallest_weights(weights: npt.NDArray[np.float32], fraction: float) -> npt.NDArray[np.bool_]:
    """Choose the weights to drop: the smallest positive and the largest negative ones.

    Of both signs the same part goes, as published; zeros count as positive.
    """
    dropped = np.zeros(len(weights), bool)
    for places in (np.flatnonzero(weights >= 0), np.flatnonzero(weights < 0)):
        count = round(fraction * len(places))
        if count:
            chosen = np.argpartition(np.abs(weights[places]), count - 1)[:count]
            dropped[places[chosen]] = True
    return dropped


def evolve_layer(
    network: CsrNetwork,
    number: int,
    how: EvolutionName,
    fraction: float,
    rng: np.random.Generator,
    ways: int = 1,
) -> int:
    """Drop a part of a layer's connections and grow as many elsewhere.

    Parameters
    ----------
    network : CsrNetwork
        Changed in place. For `rigl` it must just have computed gradients.
    number : int
        Number of the layer.
    how : str
        `fixed` changes nothing.
    fraction : float
        Fraction of the connections.
    rng : Generator
        Decides where new connections are.
    ways : int
        Outputs of a complementary set: consecutive outputs of which no two read the same input.

    Returns
    -------
    int
        How many were changed.
    """
    layer = network.layers[number]
    topology = layer.topology
    free = topology.inputs * topology.outputs - topology.connections
    if ways > 1:  # a full set exchanges inputs among its outputs
        free = topology.connections
    if how == "fixed" or not free or not fraction or not np.isfinite(layer.weights).all():
        return 0
    dropped = smallest_weights(layer.weights, fraction)
    count = min(int(dropped.sum()), free)
    excess = np.flatnonzero(dropped)[count:]
    dropped[excess] = False
    if not count:
        return 0
    if ways > 1:
        grown = regrow_complementary(topology, dropped, ways, rng)
        count = len(grown)
    elif how == "set":
        grown = draw_keys(topology.inputs * topology.outputs, count, rng, topology.keys())
    else:
        grown = _by_gradient(network, number, count, rng)
    weights = _new_weights(layer, grown, rng, zero=how == "rigl")
    network.layers[number] = layer.rewired(~dropped, grown, weights)
    return count


def evolve_network(
    network: CsrNetwork,
    how: EvolutionName,
    fraction: float,
    rng: np.random.Generator,
    ways: tuple[int, ...] = (),
) -> int:
    """`evolve_layer` for every layer that is not dense; how many connections were changed."""
    return sum(
        evolve_layer(network, number, how, fraction, rng, ways[number] if ways else 1)
        for number in range(len(network.layers))
    )


def _new_weights(
    layer: CsrLinear, grown: Keys, rng: np.random.Generator, *, zero: bool
) -> npt.NDArray[np.float32]:
    """Small ones, by the fan-in of a dense layer as published.

    By the true fan-in they would be as large as the trained ones, and every change would undo what
    was learnt: 82.5 instead of 85.3 % on Fashion-MNIST after ten epochs.
    """
    if zero:  # as RigL has it: the network computes what it did
        return np.zeros(len(grown), np.float32)
    limit = np.float32(math.sqrt(6 / layer.topology.inputs))
    return (2 * rng.random(len(grown), np.float32) - 1) * limit


def _by_gradient(network: CsrNetwork, number: int, count: int, rng: np.random.Generator) -> Keys:
    """Choose, of sampled places without connections, those with the largest gradients."""
    topology = network.layers[number].topology
    places = topology.inputs * topology.outputs
    candidates = min(CANDIDATES * count, places - topology.connections)
    keys = draw_keys(places, candidates, rng, topology.keys())
    rows, columns = np.divmod(keys, topology.inputs)
    sizes = np.abs(network.gradient_at(number, rows, columns))
    chosen = np.argpartition(-sizes, count - 1)[:count]
    return np.sort(keys[chosen])
