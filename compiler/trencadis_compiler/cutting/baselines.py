"""The same network with one sparsity less, to say what each one buys on the same array."""

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from trencadis_compiler.cutting.grid import Grid, largest_part
from trencadis_compiler.cutting.plan_cut import Cut, plan_cut
from trencadis_compiler.cutting.ways_to_send import ways_to_send
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.kernels import MAX_FILLED
from trencadis_compiler.ir.network import Layer, Network
from trencadis_compiler.mapping.candidates import plans_for
from trencadis_compiler.mapping.chain import chain_of, split_chain
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.mapping.place import feeds_of, place
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.mapping.schedule import schedule
from trencadis_compiler.mapping.size_memories import roomy
from trencadis_compiler.packing.tiles import FULL_EFFORT
from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_format.timing import LAYER_OVERHEAD, SAMPLE_OVERHEAD
from trencadis_format.widths import INPUT_INDEX_BITS

__all__ = ["Baselines", "cut_baselines", "predict_baselines"]


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
    sparse, dense = _without_sparsities(network)
    planner = planner or Planner(FULL_EFFORT.shared(len(network.layers)))
    return Baselines(_cycles(dense, large, planner), _cycles(sparse, large, planner))


def cut_baselines(cut: Cut, kernel: KernelConfig, planner: Planner) -> Baselines:
    """Cycles of a network that a kernel holds in pieces alone, without its sparsities.

    The networks without them are cut as this one was, for the same memories; loading every image
    and moving its maps is included, as it is in `Cut.cycles`.

    Parameters
    ----------
    cut : Cut
        The network as it was cut.
    kernel : KernelConfig
        The kernel.
    planner : Planner
        Planner with the packings that were found.

    Raises
    ------
    CompileError
        If a layer without its sparsities fits in no pieces.
    """
    sparse, dense = _without_sparsities(cut.network)
    everything = {layer.name: 1.0 for layer in cut.network.layers}

    def cycles(network: Network) -> float:
        return plan_cut(
            network, kernel, everything, planner=planner, progress=planner.progress
        ).cycles

    feeds = [placed.feed for program in cut.programs for placed in program.placement.layers]
    same = all(feed.expected == feed.channels for feed in feeds) and not any(
        layer.winners for layer in cut.network.layers
    )
    return Baselines(cycles(dense), cut.cycles if same else cycles(sparse))


def _without_sparsities(network: Network) -> tuple[Network, Network]:
    """A network without its k-WTA, and the same with a weight for every zero."""
    sparse = replace(network, layers=tuple(map(_without_winners, network.layers)))
    return sparse, replace(sparse, layers=tuple(map(_with_all_weights, sparse.layers)))


def _cycles(network: Network, core: CoreConfig, planner: Planner) -> float:
    everything = {layer.name: 1.0 for layer in network.layers}
    periods = []
    for tried in ways_to_send(network, core):
        with suppress(CompileError):
            periods.append(schedule(place(tried, core, everything, planner=planner)).period)
    period = min(periods) if periods else _period_in_parts(network, core, everything)
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
    return min(_cycles_in_parts(layer, engine, sent) for sent in _feeds(feed, engine))


def _feeds(feed: Feed, engine: EngineConfig) -> Iterator[Feed]:
    """A map as it is; a network's input also as lists of all channels, as pieces may read it."""
    if not feed.dense or engine.dense_values:
        yield feed
    if feed.dense and engine.list_entries and feed.channels <= 1 << INPUT_INDEX_BITS:
        yield replace(feed, dense=False, entries=feed.channels, exact=True, spread=False)


def _cycles_in_parts(layer: Layer, engine: EngineConfig, feed: Feed) -> float:
    for grid in _grids(layer):
        part = largest_part(layer, grid)
        cycles = _strip_cycles(part, engine, _feed_of_part(feed, part))
        if cycles < math.inf:
            return grid.row_strips * grid.input_groups * cycles
    return math.inf


def _feed_of_part(feed: Feed, part: Layer) -> Feed:
    """What a part reads, with as many entries as channels if the whole map has them all."""
    channels, rows, columns = part.in_shape
    share = channels / feed.channels
    return replace(
        feed,
        channels=channels,
        rows=rows,
        columns=columns,
        entries=math.ceil(feed.entries * share),
        expected=feed.expected * share,
    )


def _grids(layer: Layer) -> Iterator[Grid]:
    """Ways to cut a layer's map: strips of rows, and of their channels if no strip is small enough.

    Sums of a part of the channels are all sent on, so this is the more expensive cut.
    """
    channels, rows = layer.in_shape[0], layer.out_shape[1]
    for groups in _powers(channels if layer.weights.groups == 1 else 1):
        for strips in _powers(rows):
            yield Grid(row_strips=strips, input_groups=groups)


def _powers(most: int) -> Iterator[int]:
    return itertools.takewhile(lambda count: count <= most, (2**i for i in range(12)))


def _strip_cycles(layer: Layer, engine: EngineConfig, feed: Feed) -> float:
    kernels = layer.weights.shape[0]
    for parts in _powers(kernels):
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
    if layer.weights.size > MAX_FILLED:
        raise CompileError(
            f"layer {layer.name!r} has {layer.weights.size:,} weights, zeros included; at most "
            f"{MAX_FILLED:,} are written out"
        )
    return replace(layer, weights=layer.weights.filled())
