"""The same network with one sparsity less, to say what each one buys on the same array."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir import Layer, Network
from trencadis_compiler.memories import roomy
from trencadis_compiler.place import boundaries_of, feeds_of, place
from trencadis_compiler.plan import Feed, plans_for
from trencadis_compiler.schedule import schedule
from trencadis_hw.config import CoreConfig, EngineConfig
from trencadis_hw.timing import LAYER_OVERHEAD, WORD_OVERHEAD

__all__ = ["Baselines", "predict_baselines"]


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
    formats allow. Layers that do not fit even so are computed in parts.

    Raises
    ------
    CompileError
        If the dense network does not fit the array.
    """
    large = roomy(core)
    sparse = replace(network, layers=tuple(map(_without_winners, network.layers)))
    dense = replace(sparse, layers=tuple(map(_with_all_weights, sparse.layers)))
    return Baselines(_cycles(dense, large), _cycles(sparse, large))


def _cycles(network: Network, core: CoreConfig) -> float:
    everything = {layer.name: 1.0 for layer in network.layers}
    try:
        period = schedule(place(network, core, everything)).period
    except CompileError:
        period = _period_in_parts(network, core, everything)
    return period / core.words


def _period_in_parts(network: Network, core: CoreConfig, density: Mapping[str, float]) -> float:
    """Cycles of a network whose weights no memory holds: some of the kernels at a time.

    No engine waits for another; where the weights come from meanwhile is left open.
    """
    feeds = feeds_of(network, density)
    cycles = [
        [_layer_cycles(layer, engine, feed) for engine in core.engines]
        for layer, feed in zip(network.layers, feeds, strict=True)
    ]
    periods = [
        WORD_OVERHEAD
        + max(
            sum(cycles[layer][on] for layer, on in enumerate(engines) if on == engine)
            for engine in range(len(core.engines))
        )
        for engines in boundaries_of(len(network.layers), core)
    ]
    best = min(periods, default=math.inf)
    if best == math.inf:
        raise CompileError(
            f"network {network.name!r} without its sparsities fits no chain of "
            f"{len(core.engines)} engines like these; choose another configuration"
        )
    return best


def _layer_cycles(layer: Layer, engine: EngineConfig, feed: Feed) -> float:
    """Cycles of a layer on an engine, in as few parts as its weights can be held in."""
    if feed.dense and not engine.dense_values:
        return math.inf
    kernels = layer.weights.shape[0]
    for parts in itertools.takewhile(lambda count: count <= kernels, (2**i for i in range(12))):
        size = math.ceil(kernels / parts)
        pieces = [layer.weights[start : start + size] for start in range(0, kernels, size)]
        try:
            plans = [plans_for(replace(layer, weights=w), engine, feed)[0] for w in pieces]
        except CompileError:
            continue
        return sum(plan.cycles + plan.tail + LAYER_OVERHEAD for plan in plans)
    return math.inf


def _without_winners(layer: Layer) -> Layer:
    return replace(layer, winners=None)


def _with_all_weights(layer: Layer) -> Layer:
    return replace(layer, weights=np.where(layer.weights == 0, 1, layer.weights).astype(np.int8))
