"""Where everything goes: layers to engines, maps and weights to memories, layers to an order."""

import functools
import heapq
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir import Layer, Network
from trencadis_compiler.packing import Packings
from trencadis_compiler.plan import Feed, LayerPlan, Reading, plans_for
from trencadis_hw import abi
from trencadis_hw.config import CoreConfig, EngineConfig

__all__ = [
    "MapPlacement",
    "PlacedLayer",
    "Placement",
    "boundaries_of",
    "feeds_of",
    "map_size",
    "place",
    "slot_addresses",
]

DEFAULT_DENSITY = 0.5
"""Activations that are not zero behind a ReLU, where no profile says better."""

MOST_TRIES = 300
"""Combinations of plans that are tried for room, the fastest first."""


@dataclass(frozen=True)
class MapPlacement:
    """An activation map in the memories of an engine.

    Attributes
    ----------
    number : int
        Of the map, on its engine.
    buffers : int
        1, or 2 if the next word's map may be written while this one is read.
    base, size : int
        First entry in a lane's memory, and entries of a buffer there.
    emission : abi.Emission or None
        How its producer writes it; None for the dense input.
    address : int
        List address of the first position that is not padding.
    pitch, row_step : int
        Entries of a list, and list addresses from row to row.
    lows : tuple of int
        First list address that each lane keeps.
    """

    number: int
    buffers: int
    base: int
    size: int
    emission: abi.Emission | None
    address: int
    pitch: int
    row_step: int
    lows: tuple[int, ...]


@dataclass(frozen=True)
class PlacedLayer:
    """A layer with its place on an engine.

    Attributes
    ----------
    plan : LayerPlan
        How it runs.
    engine, number : int
        Its engine, and its number in that engine's program.
    source : MapPlacement
        The map it reads.
    weight_base, slot_base, requantise_base, gather_base : int
        First rows of its tables.
    table : int or None
        Its activation table.
    """

    plan: LayerPlan
    engine: int
    number: int
    source: MapPlacement
    weight_base: int
    slot_base: int
    requantise_base: int
    gather_base: int
    table: int | None

    @property
    def requantise_rows(self) -> int:
        """Rows of the requantisers' parameters."""
        return self.plan.passes * self.plan.beats * self.plan.groups

    @property
    def vector_rows(self) -> int:
        """Rows of a vector in index order."""
        return math.ceil(self.plan.layer.weights.shape[0] / self.plan.config.requantisers)


@dataclass(frozen=True)
class Placement:
    """A network on a core.

    `layers` are in the order of the network.
    """

    network: Network
    core: CoreConfig
    layers: tuple[PlacedLayer, ...]

    def on_engine(self, engine: int) -> tuple[PlacedLayer, ...]:
        """The layers of an engine, in the order of the network."""
        return tuple(placed for placed in self.layers if placed.engine == engine)


def place(
    network: Network, core: CoreConfig, density: Mapping[str, float] | None = None
) -> Placement:
    """Give every layer of a network its engine and memory.

    Parameters
    ----------
    network : Network
        What to place.
    core : CoreConfig
        Where.
    density : mapping of str to float, optional
        For layers whose activations are sparse by ReLU alone: the part that is not zero.

    Raises
    ------
    CompileError
        If the network does not fit.
    """
    room = sum(engine.layers for engine in core.engines)
    if len(network.layers) > room:
        raise CompileError(
            f"the network has {len(network.layers)} layers, more than the {room} of the overlay's "
            "programs; merge layers or choose a larger configuration"
        )
    for layer in network.layers:
        _check_output(layer, core, last=layer is network.layers[-1])
    best: tuple[float, list[PlacedLayer]] | None = None
    problem: CompileError | None = None
    feeds = feeds_of(network, density or {})

    packings = [Packings(layer.weights) for layer in network.layers]

    @functools.cache  # most boundaries leave a layer where it was
    def plans_of(layer: int, engine: int) -> list[LayerPlan]:
        return _plans(network.layers[layer], core.engines[engine], feeds[layer], packings[layer])

    for boundaries in boundaries_of(len(network.layers), core):
        try:
            plans = list(itertools.starmap(plans_of, enumerate(boundaries)))
        except CompileError as error:
            problem = problem or error
            continue
        for chosen in itertools.islice(_fastest_first(plans), MOST_TRIES):
            load = max(
                sum(
                    plan.cycles for on, plan in zip(boundaries, chosen, strict=True) if on == engine
                )
                for engine in range(len(core.engines))
            )
            if best is not None and load >= best[0]:
                break
            try:
                best = load, _allocate(list(zip(boundaries, chosen, strict=True)), core)
                break
            except CompileError as error:
                problem = problem or error
    if best is None:
        raise problem or CompileError(
            f"a network of {len(network.layers)} layers does not fit a chain of "
            f"{len(core.engines)} engines, of which each needs a layer; choose another "
            "configuration"
        )
    return Placement(network, core, tuple(best[1]))


def _fastest_first(plans: Sequence[Sequence[LayerPlan]]) -> Iterator[tuple[LayerPlan, ...]]:
    """One plan of every layer, in all combinations, by the sum of their cycles.

    Plans of a layer are in ascending order, so the next combination is a neighbour of one that was
    taken before.
    """

    def cycles(choice: tuple[int, ...]) -> float:
        return sum(of[i].cycles for of, i in zip(plans, choice, strict=True))

    first = tuple(0 for _ in plans)
    heap: list[tuple[float, tuple[int, ...]]] = [(cycles(first), first)]
    seen: set[tuple[int, ...]] = {first}
    while heap:
        _, choice = heapq.heappop(heap)
        yield tuple(of[i] for of, i in zip(plans, choice, strict=True))
        for layer, i in enumerate(choice):
            following = (*choice[:layer], i + 1, *choice[layer + 1 :])
            if i + 1 < len(plans[layer]) and following not in seen:
                seen.add(following)
                heapq.heappush(heap, (cycles(following), following))


def feeds_of(network: Network, density: Mapping[str, float]) -> list[Feed]:
    """What every layer finds in its input map."""
    channels, rows, columns = network.layers[0].in_shape
    nonzeros = network.input_nonzeros
    dense, entries = nonzeros is None, channels if nonzeros is None else nonzeros
    feeds = [Feed(channels, rows, columns, dense, entries, True, entries, dense)]
    for before, layer in zip(network.layers, network.layers[1:], strict=False):
        channels, rows, columns = layer.in_shape
        winners = before.winners
        if winners and winners.selection is abi.Selection.EXACT:
            feeds.append(Feed(channels, rows, columns, False, winners.k, True, winners.k))
        elif not winners and _never_zero(before):
            feeds.append(Feed(channels, rows, columns, False, channels, True, channels))
        else:
            part = density.get(before.name, DEFAULT_DENSITY)
            expected = winners.k if winners else channels * part
            feeds.append(Feed(channels, rows, columns, False, channels, False, expected))
    return feeds


def _never_zero(layer: Layer) -> bool:
    """No activation of a hidden layer is zero, whatever the sums are."""
    assert layer.output is not None, "only the last layer gives sums"
    keys = layer.table if layer.table is not None else np.arange(layer.low, layer.high + 1)
    return layer.output.zero_key not in keys


def boundaries_of(layers: int, core: CoreConfig) -> list[list[int]]:
    """Ways to give consecutive layers to the engines of a chain, at least one layer to each."""
    ways = [[0] * layers]
    for engine in range(1, len(core.engines)):
        ways = [
            way[:start] + [engine] * (layers - start)
            for way in ways
            for start in range(way.index(engine - 1) + 1, layers)
        ]
    return ways


def _plans(layer: Layer, engine: EngineConfig, feed: Feed, packings: Packings) -> list[LayerPlan]:
    """Ways to run a layer on an engine, the fastest first."""
    if feed.dense and not engine.dense_values:
        raise CompileError("the first engine of a chain must have a dense input")
    rows = math.ceil(layer.weights.shape[0] / engine.requantisers)
    selected = layer.winners is not None and layer.winners.selection is not abi.Selection.ALL
    if rows > engine.reorder_rows or (
        selected and rows > max(engine.select_rows, engine.whole_rows)
    ):
        raise CompileError(
            f"layer {layer.name!r} has {layer.weights.shape[0]} channels, more than an engine of "
            "the chain can put in order or select from; choose a larger configuration"
        )
    if not feed.dense and not engine.list_entries:
        raise CompileError(
            f"layer {layer.name!r} reads activation lists, which this engine cannot hold"
        )
    return plans_for(layer, engine, feed, packings)


class _Allocator:
    """Hands out stretches of a memory of an engine."""

    def __init__(self, what: str, capacity: int, engine: int) -> None:
        self._what, self._capacity, self._engine = what, capacity, engine
        self._used = 0

    @property
    def left(self) -> int:
        """Rows not handed out."""
        return self._capacity - self._used

    def take(self, count: int, layer: str) -> int:
        """The first of `count` new rows."""
        if count > self.left:
            raise CompileError(
                f"layer {layer!r} needs {count} {self._what} on engine {self._engine}, of which "
                f"{self.left} of {self._capacity} are left; choose a larger "
                "configuration or a smaller network"
            )
        self._used += count
        return self._used - count


def _allocate(planned: Sequence[tuple[int, LayerPlan]], core: CoreConfig) -> list[PlacedLayer]:
    placed: list[PlacedLayer] = []
    pools = [
        {
            "weights": _Allocator("weight rows", config.weight_rows, engine),
            "slots": _Allocator("slot rows", config.slot_rows, engine),
            "requantise": _Allocator("requantise rows", config.requantise_rows, engine),
            "gather": _Allocator("gather rows", config.requantise_rows, engine),
            "lists": _Allocator("list entries", config.list_entries, engine),
            "dense": _Allocator("dense input values", config.dense_values, engine),
            "maps": _Allocator("activation maps", abi.MAP_COUNT, engine),
            "tables": _Allocator("activation tables", config.tables, engine),
            "layers": _Allocator("layers", config.layers, engine),
        }
        for engine, config in enumerate(core.engines)
    ]
    doubled = _doubled(planned, core)
    for i, (engine, plan) in enumerate(planned):
        pool = pools[engine]
        name = plan.layer.name
        placement = PlacedLayer(
            plan=plan,
            engine=engine,
            number=pool["layers"].take(1, name),
            source=_place_map(plan, pool, buffers=2 if i in doubled else 1),
            weight_base=pool["weights"].take(plan.weight_rows, name),
            slot_base=pool["slots"].take(plan.slots, name),
            requantise_base=pool["requantise"].take(plan.passes * plan.beats * plan.groups, name),
            gather_base=pool["gather"].take(
                math.ceil(plan.layer.weights.shape[0] / plan.config.requantisers), name
            ),
            table=pool["tables"].take(1, name) if plan.layer.table is not None else None,
        )
        placed.append(placement)
    return placed


def _doubled(planned: Sequence[tuple[int, LayerPlan]], core: CoreConfig) -> set[int]:
    """Layers whose input map gets two buffers, so that its producer need not wait for them.

    Maps that come from outside an engine are first, for they would stop another engine or the
    transfers; what is left goes to the others, the smallest first.
    """
    doubled: set[int] = set()
    for engine, config in enumerate(core.engines):
        mine = [i for i, (where, _) in enumerate(planned) if where == engine]
        for dense, capacity in ((True, config.dense_values), (False, config.list_entries)):
            sizes = {
                i: map_size(planned[i][1])
                for i in mine
                if (planned[i][1].reading is Reading.DENSE) == dense
            }
            left = capacity - sum(sizes.values())
            for i in sorted(sizes, key=lambda i: (i != mine[0], sizes[i])):
                if sizes[i] <= left:
                    doubled.add(i)
                    left -= sizes[i]
    return doubled


def _check_output(layer: Layer, core: CoreConfig, *, last: bool) -> None:
    """Whether the output stage of an engine can do what the layer wants."""
    most = max(config.reorder_rows * config.requantisers for config in core.engines)
    channels = layer.weights.shape[0]
    if channels > most:
        raise CompileError(
            f"layer {layer.name!r} has {channels} channels, more than the {most} that can be put "
            "in order; choose a "
            "larger configuration"
        )
    if layer.winners and layer.winners.selection is not abi.Selection.ALL:
        most = max(
            max(config.select_rows, config.whole_rows) * config.requantisers
            for config in core.engines
        )
        if channels > most:
            raise CompileError(
                f"layer {layer.name!r} has k-WTA over {channels} channels, more than the {most} "
                "that the selectors hold; choose a larger configuration"
            )
        if last:
            raise CompileError(
                f"layer {layer.name!r} is the last and has k-WTA; the host takes all activations: "
                "remove the k-WTA, or apply it to the output on the host"
            )


def _place_map(plan: LayerPlan, pool: dict[str, _Allocator], *, buffers: int) -> MapPlacement:
    """The input map of a layer in the memories of its engine."""
    feed = plan.feed
    top, left, _, _ = plan.layer.padding
    _, width = plan.layer.padded_shape
    number = pool["maps"].take(1, plan.layer.name)
    size = map_size(plan)
    if plan.reading is Reading.DENSE:
        memory, lows, emission, pitch = pool["dense"], (), None, feed.channels
    else:
        memory, pitch = pool["lists"], plan.pitch
        lows, _ = _regions(plan, width)
        if plan.reading is Reading.OWNED:
            emission = abi.Emission.OWNED
        else:
            emission = abi.Emission.LISTS if feed.exact else abi.Emission.TERMINATED
    return MapPlacement(
        number=number,
        buffers=buffers,
        base=memory.take(buffers * size, plan.layer.name),
        size=size,
        emission=emission,
        address=(top * width + left) * pitch,
        pitch=pitch,
        row_step=width * pitch,
        lows=lows,
    )


def map_size(plan: LayerPlan) -> int:
    """Entries of a lane's memory that one buffer of the layer's input map takes."""
    height, width = plan.layer.padded_shape
    if plan.reading is Reading.DENSE:
        return height * width * plan.feed.channels
    if plan.reading is Reading.OWNED:
        return height * width * plan.pitch
    _, size = _regions(plan, width)
    return size


def _regions(plan: LayerPlan, width: int) -> tuple[tuple[int, ...], int]:
    """The region table's entry of every lane, and the entries of the map a lane keeps."""
    copies = 1 if plan.combine else plan.config.groups
    if plan.reading is Reading.OWNED:
        return tuple(range(len(plan.lanes))) * copies, plan.pitch
    rows, columns = plan.layer.conv_shape
    down, right = plan.layer.stride
    last_window = ((rows - 1) * down * width + (columns - 1) * right) * plan.pitch
    last_entry = (plan.entries - 1) * plan.parts
    addresses = slot_addresses(plan, width)
    lows = tuple(min(lane, default=0) for lane in addresses)
    spread = max(max(lane) - min(lane) for lane in addresses if lane)
    return lows * copies, spread + last_window + last_entry + 1


def slot_addresses(plan: LayerPlan, source_width: int) -> list[list[int]]:
    """For every lane of a group, the list address of each slot in the first step.

    A slot that a lane has nothing to do in has address 0.
    """
    pitch = plan.feed.channels if plan.reading is Reading.DENSE else plan.pitch
    columns = plan.layer.weights.shape[3]
    down, right = plan.layer.dilation
    addresses = []
    for units in plan.lanes:
        lane = []
        for unit in units:
            if unit is None:
                lane.append(0)
                continue
            row, column = divmod(unit.position, columns)
            column = column * right + unit.window * plan.layer.stride[1]
            lane.append((row * down * source_width + column) * pitch)
            if plan.reading is Reading.LISTS:
                lane[-1] += unit.part
        addresses.append(lane)
    return addresses
