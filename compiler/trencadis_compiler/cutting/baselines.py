"""The same network with one sparsity less, to say what each one buys on the same array."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from trencadis_compiler.cutting.grid import Grid, largest_part
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer, Network
from trencadis_compiler.mapping.candidates import plans_for
from trencadis_compiler.mapping.chain import chain_of, split_chain
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.mapping.place import feeds_of, place
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.mapping.schedule import schedule
from trencadis_compiler.mapping.size_memories import roomy
from trencadis_compiler.packing.tiles import FULL_EFFORT
from trencadis_format.config import CoreConfig, EngineConfig
from trencadis_format.timing import LAYER_OVERHEAD, SAMPLE_OVERHEAD

__all__ = ["Baselines", "predict_baselines"]


@dataclass(frozen=True)
class Baselines:
    """Cycles per inference of one core, as the compiler predicts them.

    Attributes
    ----------
    dense : float
        Every weight and every activation is multiplied.
    sparse_weights : float
        Zero weights are left out, every activation is multiplied.
    """

    dense: float
    sparse_weights: float


def predict_baselines(
    network: Network, core: CoreConfig, planner: Planner | None = None
) -> Baselines:
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
    planner = planner or Planner(FULL_EFFORT.shared(len(network.layers)))
    return Baselines(_cycles(dense, large, planner), _cycles(sparse, large, planner))


def _cycles(network: Network, core: CoreConfig, planner: Planner) -> float:
    everything = {layer.name: 1.0 for layer in network.layers}
    try:
        period = schedule(place(network, core, everything, planner=planner)).period
    except CompileError:
        period = _period_in_parts(network, core, everything)
    return period / core.batch_lanes


def _period_in_parts(network: Network, core: CoreConfig, density: Mapping[str, float]) -> float:
    """Cycles of a network whose weights no memory holds: some of the kernels at a time.

    No engine waits for another; where the weights come from meanwhile is left open.
    """
    feeds = feeds_of(network, density)
    cycles = [
        [_layer_cycles(layer, engine, feeds[layer.target]) for engine in core.engines]
        for layer in chain_of(network)
    ]

    if len(cycles) < len(core.engines):  # the other engines only hand the map on
        return SAMPLE_OVERHEAD + max(map(min, cycles))

    def load(engine: int, start: int, stop: int) -> float:
        return sum(cycles[layer][engine] for layer in range(start, stop))

    starts = split_chain(len(cycles), len(core.engines), load)
    if starts is None:
        raise CompileError(
            f"network {network.name!r} without its sparsities fits no chain of "
            f"{len(core.engines)} engines like these; choose another configuration"
        )
    ends = [*starts[1:], len(cycles)]
    return SAMPLE_OVERHEAD + max(map(load, itertools.count(), starts, ends))


def _layer_cycles(layer: Layer, engine: EngineConfig, feed: Feed) -> float:
    """Cycles of a layer on an engine, in as few strips and parts as its map and weights need."""
    if feed.dense and not engine.dense_values:
        return math.inf
    rows = layer.out_shape[1]
    for strips in itertools.takewhile(lambda count: count <= rows, (2**i for i in range(12))):
        strip = largest_part(layer, Grid(row_strips=strips))
        strip_feed = replace(feed, rows=strip.in_shape[1], columns=strip.in_shape[2])
        cycles = _strip_cycles(strip, engine, strip_feed)
        if cycles < math.inf:
            return strips * cycles
    return math.inf


def _strip_cycles(layer: Layer, engine: EngineConfig, feed: Feed) -> float:
    kernels = layer.weights.shape[0]
    for parts in itertools.takewhile(lambda count: count <= kernels, (2**i for i in range(12))):
        size = math.ceil(kernels / parts)
        pieces = [
            layer.weights.part((start, min(start + size, kernels)), (0, layer.weights.shape[1]))
            for start in range(0, kernels, size)
        ]
        try:
            plans = [plans_for(replace(layer, weights=w), engine, feed)[0] for w in pieces]
        except CompileError:
            continue
        return sum(plan.cycles + plan.tail + LAYER_OVERHEAD for plan in plans)
    return math.inf


def _without_winners(layer: Layer) -> Layer:
    return replace(layer, winners=None)


def _with_all_weights(layer: Layer) -> Layer:
    return replace(layer, weights=layer.weights.filled())
