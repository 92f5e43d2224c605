"""Engines worth a try for some layers: a grid, and what each engine of it takes and is good for.

The compiler gives the cycles, `area` the resources.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.addresses import map_size
from trencadis_compiler.mapping.candidates import plans_for
from trencadis_compiler.mapping.cycles import selection_cycles
from trencadis_compiler.mapping.deal import Reading
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_compiler.mapping.size_memories import MAX_QUEUE, SHALLOW, power_of_two, sum_bits
from trencadis_compiler.packing.packings import Packings
from trencadis_flows.area import engine_area
from trencadis_format.config import ENGINE_LIMITS, EngineConfig, Routing, WeightMemory
from trencadis_format.timing import LAYER_OVERHEAD, SAMPLE_OVERHEAD

__all__ = ["AMPLE", "Planner", "Stage", "grid", "lanes_for", "overlay", "stages"]

AMPLE = EngineConfig(
    lanes=25,
    tiles=32,
    kernels_per_tile=32,
    dense_values=ENGINE_LIMITS["dense_values"].high,
    list_entries=ENGINE_LIMITS["list_entries"].high,
    weight_rows=ENGINE_LIMITS["weight_rows"].high,
    slot_rows=ENGINE_LIMITS["slot_rows"].high,
    queue_beats=MAX_QUEUE,
    requantise_rows=ENGINE_LIMITS["requantise_rows"].high,
    reorder_rows=ENGINE_LIMITS["reorder_rows"].high,
    select_rows=64,
    whole_rows=ENGINE_LIMITS["whole_rows"].high,
)
"""An engine whose memories are so large that they decide nothing while cycles are counted."""

MAX_TREES = 4
"""Most kernels of a tile for which adder trees are tried: their cost grows with them."""
MAX_KERNELS_PER_TILE = 32
"""Most kernels of a tile that are tried."""
MAX_MULTIPLIERS = 1024
MAX_LANES = 25
MAX_SLOTS = 7
"""Slots of a window, for which lanes are tried."""
TILES = (2, 4, 8, 16, 32)
REQUANTISERS = (1, 2, 4, 8, 16)
FLAT_LANES = (1, 2, 4, 8, 16)
"""Numbers of lanes for layers without windows: they share channels as they like."""


@dataclass(frozen=True)
class Stage:
    """An engine on its layers.

    Attributes
    ----------
    engine : EngineConfig
        Engine with memories about as large as these layers need.
    cycles : float
        A sample group takes.
    area : mapping of str to float
        Resources by `area`, of all samples in lockstep.
    """

    engine: EngineConfig
    cycles: float
    area: Mapping[str, float]


def overlay(layer: Layer) -> int:
    """Kernels that a tile of this layer may have: dense weights over those not zero."""
    ways = layer.weights.size // max(1, layer.nonzeros)
    return min(MAX_KERNELS_PER_TILE, 1 << (max(1, ways) - 1).bit_length())


def lanes_for(layers: Iterable[Layer], *, split: bool = False) -> list[int]:
    """Lanes among which windows divide well.

    Parameters
    ----------
    layers : iterable of Layer
        What the engine runs.
    split : bool
        For split trees: two windows share an odd number of slots, and lanes are even.
    """
    found: set[int] = set()
    for layer in layers:
        positions = layer.weights.window
        if positions == 1:
            found.update(FLAT_LANES)
            continue
        for slots in range(1, MAX_SLOTS + 1):
            lanes = math.ceil(positions / slots)
            if split:
                lanes = math.ceil(2 * positions / (2 * slots + 1))
                lanes += lanes % 2
            found.add(lanes)
    return sorted(lanes for lanes in found if lanes <= MAX_LANES)


def grid(
    layers: Sequence[Layer], *, dense: bool, weight_memory: WeightMemory
) -> Iterator[EngineConfig]:
    """Engines worth a try for a stage.

    Parameters
    ----------
    layers : sequence of Layer
        What the stage runs.
    dense : bool
        It reads the network's input, with every value of it.
    weight_memory : WeightMemory
        Memory for weights that are too deep for LUTs.
    """
    kernels = max(overlay(layer) for layer in layers)
    routings: tuple[Routing, ...] = ("banked",)
    if kernels <= MAX_TREES:
        routings += ("trees", "split-trees") if dense else ("trees",)
    for routing in routings:
        lanes_worth = lanes_for(layers, split=routing == "split-trees")
        for lanes, tiles, requantisers in itertools.product(lanes_worth, TILES, REQUANTISERS):
            columns = tiles * (1 if routing == "banked" else kernels)
            if columns % requantisers or lanes * tiles > MAX_MULTIPLIERS:
                continue
            if routing == "split-trees" and lanes % 2:
                continue
            yield replace(
                AMPLE,
                lanes=lanes,
                tiles=tiles,
                kernels_per_tile=kernels,
                routing=routing,
                requantisers=requantisers,
                dense_values=AMPLE.dense_values if dense else 0,
                list_entries=0 if dense and len(layers) == 1 else AMPLE.list_entries,
                weight_memory=weight_memory,
            )


class Planner:
    """The fastest plans of the layers of one network, told apart by name, each found once.

    Attributes
    ----------
    problem : CompileError or None
        Why the first layer that did not fit an engine did not.
    """

    def __init__(self) -> None:
        self.problem: CompileError | None = None
        self._packings: dict[str, Packings] = {}
        self._plans: dict[tuple[str, EngineConfig], LayerPlan | None] = {}
        self._sum_bits: dict[str, int] = {}

    def plan(self, layer: Layer, engine: EngineConfig, feed: Feed) -> LayerPlan | None:
        """The fastest plan of a layer on an engine; None, and a `problem`, if there is none."""
        key = layer.name, engine
        if key not in self._plans:
            if layer.name not in self._packings:
                self._packings[layer.name] = Packings(layer.weights.occupancy)
            try:
                self._plans[key] = plans_for(layer, engine, feed, self._packings[layer.name])[0]
            except CompileError as error:
                self._plans[key] = None
                self.problem = self.problem or error
        return self._plans[key]

    def sum_bits(self, plan: LayerPlan) -> int:
        """Width of the sums of a layer, whatever its weights; no plan of it needs another."""
        name = plan.layer.name
        if name not in self._sum_bits:
            self._sum_bits[name] = sum_bits(plan)
        return self._sum_bits[name]


def stages(
    layers: Sequence[Layer],
    feeds: Sequence[Feed],
    engines: Iterable[EngineConfig],
    batch_lanes: int,
    planner: Planner | None = None,
) -> list[Stage]:
    """All engines that can run these layers, the fastest first.

    Parameters
    ----------
    layers : sequence of Layer
        Layers, in their order.
    feeds : sequence of Feed
        What each of them reads.
    engines : iterable of EngineConfig
        What to try.
    batch_lanes : int
        Samples in lockstep.
    planner : Planner, optional
        Planner of the network, where several stages share layers.

    Returns
    -------
    list of Stage
        In ascending order of cycles.
    """
    planner = planner or Planner()
    found: list[Stage] = []
    for engine in engines:
        best = [
            planner.plan(layer, engine, feed) for layer, feed in zip(layers, feeds, strict=True)
        ]
        chosen = [plan for plan in best if plan is not None]
        if len(chosen) < len(best):
            continue
        cycles = SAMPLE_OVERHEAD + sum(plan.cycles + plan.tail + LAYER_OVERHEAD for plan in chosen)
        cycles = max(cycles, *(_selector_cycles(plan) for plan in chosen))
        fitted = _fitted(engine, chosen, max(map(planner.sum_bits, chosen)))
        if fitted is not None:
            found.append(Stage(fitted, cycles, engine_area(fitted, batch_lanes)))
    return sorted(found, key=lambda stage: stage.cycles)


def _selector_cycles(plan: LayerPlan) -> float:
    """Cycles of k-WTA over a whole layer for a sample: it holds one vector at a time."""
    winners = plan.layer.winners
    return selection_cycles(plan) if winners is not None and winners.whole else 0.0


def _fitted(engine: EngineConfig, plans: Sequence[LayerPlan], width: int) -> EngineConfig | None:
    """The engine with memories that suit these layers, in powers of two; None if there are none."""
    vectors = [
        (plan, math.ceil(plan.layer.weights.shape[0] / engine.requantisers)) for plan in plans
    ]
    selected = [(plan.layer.winners, rows) for plan, rows in vectors if plan.layer.winners]
    whole = [rows for winners, rows in selected if winners.whole]
    local = [rows for winners, rows in selected if not winners.whole]
    rows = sum(plan.weight_rows for plan in plans)
    beats = max(plan.beats for plan in plans)
    # Two buffers for every map, or one, where the formats do not allow two.
    values = sum(map_size(plan) for plan in plans if plan.reading is Reading.DENSE)
    entries = sum(map_size(plan) for plan in plans if plan.reading is not Reading.DENSE)
    values *= 2 if 2 * values <= AMPLE.dense_values else 1
    entries *= 2 if 2 * entries <= AMPLE.list_entries else 1
    try:
        return replace(
            engine,
            sum_bits=width,
            weight_rows=power_of_two(rows, 4),
            weight_memory="distributed" if rows <= SHALLOW else engine.weight_memory,
            slot_rows=power_of_two(sum(plan.slots for plan in plans), 8),
            queue_beats=power_of_two(2 * max(beats, engine.beats), 8),
            requantise_rows=power_of_two(
                sum(p.tile_rounds * p.beats * p.groups for p in plans), 64
            ),
            select_rows=max(local, default=0),
            whole_rows=max(whole, default=0),
            reorder_rows=power_of_two(
                max(_vectors_held(plan) * rows for plan, rows in vectors), 32
            ),
            dense_values=power_of_two(values, 64) if engine.dense_values else 0,
            list_entries=power_of_two(entries, 512) if engine.list_entries else 0,
            layers=max(2, len(plans)),
        )
    except ValueError:  # larger than the formats allow
        return None


def _vectors_held(plan: LayerPlan) -> int:
    """Vectors that the reorder memory is to have room for.

    One is written while another is read; of maps, the keys of more are on their way.
    """
    return 2 if plan.layer.out_shape[1:] == (1, 1) else 4
