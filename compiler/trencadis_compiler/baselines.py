"""The same network with one sparsity less, to say what each one buys on the same array."""

from dataclasses import dataclass, replace

import numpy as np

from trencadis_compiler.ir import Layer, Network
from trencadis_compiler.place import place
from trencadis_compiler.schedule import schedule
from trencadis_hw.config import CoreConfig

__all__ = ["Baselines", "predict_baselines"]

LARGEST = {
    "weight_rows": 1 << 16,
    "slot_rows": 256,
    "list_entries": 1 << 14,
    "requantise_rows": 1 << 16,
}
"""Memories that hold a dense network wherever the formats allow it."""


@dataclass(frozen=True)
class Baselines:
    """Cycles a word of one core, as the compiler predicts them.

    Attributes
    ----------
    dense : float
        Every weight and every activation is multiplied.
    sparse_weights : float
        Zero weights are left out, every activation is multiplied.
    """

    dense: float
    sparse_weights: float


def predict_baselines(network: Network, core: CoreConfig) -> Baselines:
    """Cycles of a network on the array of `core`, without its sparsities.

    The array, its routing and its requantisers stay as they are; memories are as large as the
    formats allow, so that a dense network fits.

    Raises
    ------
    CompileError
        If the dense network does not fit even so.
    """
    roomy = replace(core, engines=tuple(replace(engine, **LARGEST) for engine in core.engines))
    sparse = replace(network, layers=tuple(map(_without_winners, network.layers)))
    dense = replace(sparse, layers=tuple(map(_with_all_weights, sparse.layers)))
    return Baselines(_cycles(dense, roomy), _cycles(sparse, roomy))


def _cycles(network: Network, core: CoreConfig) -> float:
    everything = {layer.name: 1.0 for layer in network.layers}
    return schedule(place(network, core, everything)).period / core.words


def _without_winners(layer: Layer) -> Layer:
    return replace(layer, winners=None)


def _with_all_weights(layer: Layer) -> Layer:
    return replace(layer, weights=np.where(layer.weights == 0, 1, layer.weights).astype(np.int8))
