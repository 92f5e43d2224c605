"""Memory of an engine for its layers: which plans fit together, and where their tables go."""

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.addresses import kept_regions, map_size
from trencadis_compiler.mapping.deal import Reading
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_format.config import EngineConfig
from trencadis_format.layer_tables import Emission
from trencadis_format.widths import MAP_COUNT

__all__ = ["MapPlacement", "PlacedLayer", "allocate", "choose_plans"]

MAX_TRIES = 300
"""Combinations of plans that are tried for room, the fastest first."""


@dataclass(frozen=True)
class MapPlacement:
    """An activation map in the memories of an engine.

    Attributes
    ----------
    number : int
        Number of the map, on its engine.
    buffers : int
        1, or 2 if the next sample's map may be written while this one is read.
    base, size : int
        First entry in a lane's memory, and entries of a buffer there.
    emission : Emission or None
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
    emission: Emission | None
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
    def layer(self) -> Layer:
        """The layer itself."""
        return self.plan.layer

    @property
    def config(self) -> EngineConfig:
        """Its engine's configuration."""
        return self.plan.config

    @property
    def feed(self) -> Feed:
        """Contents of its input map."""
        return self.plan.feed

    @property
    def target(self) -> str:
        """Name of the value that it makes, by which layers are told apart."""
        return self.plan.layer.target

    @property
    def requantise_rows(self) -> int:
        """Rows of the requantisers' parameters."""
        return self.plan.tile_rounds * self.plan.beats * self.plan.groups

    @property
    def vector_rows(self) -> int:
        """Rows of a vector in index order."""
        return math.ceil(self.layer.weights.shape[0] / self.config.requantisers)


def choose_plans(
    plans: Sequence[Sequence[LayerPlan]], config: EngineConfig
) -> tuple[LayerPlan, ...] | None:
    """Choose a plan of every layer of an engine, so that all fit: the fastest such combination.

    Parameters
    ----------
    plans : sequence of sequences of LayerPlan
        Plans of every layer, the fastest first.
    config : EngineConfig
        The engine.

    Returns
    -------
    tuple of LayerPlan or None
        One plan of every layer; None if none of the combinations tried fits.
    """
    rooms = _rooms(config)
    needs = [[_needs(plan) for plan in of] for of in plans]

    def fits(choice: Sequence[int]) -> bool:
        chosen = [of[i] for of, i in zip(needs, choice, strict=True)]
        return all(sum(need[name] for need in chosen) <= room for name, room in rooms.items())

    def taken(choice: Sequence[int]) -> tuple[LayerPlan, ...]:
        return tuple(of[i] for of, i in zip(plans, choice, strict=True))

    for name, room in rooms.items():
        if sum(min(need[name] for need in of) for of in needs) > room:
            return None
    for choice in itertools.islice(_fastest_first(plans), MAX_TRIES):
        if fits(choice):
            return taken(choice)
    # Of a long chain the combinations are too many: the thriftiest plans of all layers are left.
    for name in ("weight rows", "list entries"):
        thrifty = [min(range(len(of)), key=lambda i, of=of: of[i][name]) for of in needs]
        if fits(thrifty):
            return taken(thrifty)
    return None


def _fastest_first(plans: Sequence[Sequence[LayerPlan]]) -> Iterator[tuple[int, ...]]:
    """Number of a plan of every layer, in all combinations, by the sum of their cycles.

    Plans of a layer are in ascending order, so the next combination is a neighbour of one that was
    taken before.
    """
    cycles = [[plan.cycles for plan in of] for of in plans]

    def total(choice: tuple[int, ...]) -> float:
        return sum(of[i] for of, i in zip(cycles, choice, strict=True))

    first = tuple(0 for _ in plans)
    heap: list[tuple[float, tuple[int, ...]]] = [(total(first), first)]
    seen: set[tuple[int, ...]] = {first}
    while heap:
        _, choice = heapq.heappop(heap)
        yield choice
        for layer, i in enumerate(choice):
            following = (*choice[:layer], i + 1, *choice[layer + 1 :])
            if i + 1 < len(plans[layer]) and following not in seen:
                seen.add(following)
                heapq.heappush(heap, (total(following), following))


def _rooms(config: EngineConfig) -> dict[str, int]:
    """Rows, entries and places of an engine's memories, by what they hold."""
    return {
        "weight rows": config.weight_rows,
        "slot rows": config.slot_rows,
        "requantise rows": config.requantise_rows,
        "gather rows": config.requantise_rows,
        "list entries": config.list_entries,
        "dense input values": config.dense_values,
        "activation maps": MAP_COUNT,
        "activation tables": config.tables,
        "layers": config.layers,
    }


def _needs(plan: LayerPlan) -> dict[str, int]:
    """Needs of a layer in an engine's memories, its input map once."""
    dense = plan.reading is Reading.DENSE
    return {
        "weight rows": plan.weight_rows,
        "slot rows": plan.slots,
        "requantise rows": plan.tile_rounds * plan.beats * plan.groups,
        "gather rows": math.ceil(plan.layer.weights.shape[0] / plan.config.requantisers),
        "list entries": 0 if dense else map_size(plan),
        "dense input values": map_size(plan) if dense else 0,
        "activation maps": 1,
        "activation tables": plan.layer.table is not None,
        "layers": 1,
    }


class _Allocator:
    """Stretches of a memory of an engine, handed out one after the other."""

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


def allocate(plans: Sequence[LayerPlan], config: EngineConfig, engine: int) -> list[PlacedLayer]:
    """Give the layers of an engine their memory.

    Raises
    ------
    CompileError
        If a memory is too small, naming the first layer that does not fit.
    """
    rooms = {name: _Allocator(name, room, engine) for name, room in _rooms(config).items()}
    doubled = _doubled(plans, config)
    placed = []
    for i, plan in enumerate(plans):
        name = plan.layer.name
        number = rooms["layers"].take(1, name)
        source = _place_map(plan, rooms, buffers=2 if i in doubled else 1)
        need = _needs(plan)
        placed.append(
            PlacedLayer(
                plan=plan,
                engine=engine,
                number=number,
                source=source,
                weight_base=rooms["weight rows"].take(need["weight rows"], name),
                slot_base=rooms["slot rows"].take(need["slot rows"], name),
                requantise_base=rooms["requantise rows"].take(need["requantise rows"], name),
                gather_base=rooms["gather rows"].take(need["gather rows"], name),
                table=rooms["activation tables"].take(1, name)
                if plan.layer.table is not None
                else None,
            )
        )
    return placed


def _doubled(plans: Sequence[LayerPlan], config: EngineConfig) -> set[int]:
    """Layers whose input map gets two buffers, so that its producer need not wait for them.

    Maps that come from outside the engine are first, for they would stop another engine or the
    transfers; what is left goes to the others, the smallest first.
    """
    doubled: set[int] = set()
    made = {plan.layer.target for plan in plans}
    for dense, capacity in ((True, config.dense_values), (False, config.list_entries)):
        sizes = {
            i: map_size(plan)
            for i, plan in enumerate(plans)
            if (plan.reading is Reading.DENSE) == dense
        }
        left = capacity - sum(sizes.values())
        for i in sorted(sizes, key=lambda i: (plans[i].layer.source in made, sizes[i])):
            if sizes[i] <= left:
                doubled.add(i)
                left -= sizes[i]
    return doubled


def _place_map(plan: LayerPlan, rooms: Mapping[str, _Allocator], *, buffers: int) -> MapPlacement:
    """The input map of a layer in the memories of its engine."""
    feed = plan.feed
    top, left, _, _ = plan.layer.padding
    _, width = plan.layer.padded_shape
    number = rooms["activation maps"].take(1, plan.layer.name)
    size = map_size(plan)
    if plan.reading is Reading.DENSE:
        memory, lows, emission, pitch = rooms["dense input values"], (), None, feed.channels
    else:
        memory, pitch = rooms["list entries"], plan.pitch
        lows, _ = kept_regions(plan, width)
        if plan.reading is Reading.OWNED:
            emission = Emission.OWNED
        else:
            emission = Emission.LISTS if feed.exact else Emission.TERMINATED
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
