"""Placement: layers on engines, their maps, weights and tables in memories."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer, Network
from trencadis_compiler.mapping.addresses import map_size, slot_addresses
from trencadis_compiler.mapping.allocate import (
    MapPlacement,
    PlacedLayer,
    allocate,
    choose_plans,
)
from trencadis_compiler.mapping.chain import chain_of, split_chain
from trencadis_compiler.mapping.feed import feeds_of
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.packing.tiles import FULL_EFFORT
from trencadis_format.config import CoreConfig, EngineConfig
from trencadis_format.layer_tables import Selection
from trencadis_format.widths import MAP_COUNT

__all__ = [
    "MapPlacement",
    "PlacedLayer",
    "Placement",
    "feeds_of",
    "map_size",
    "place",
    "slot_addresses",
]


@dataclass(frozen=True)
class Placement:
    """A network on a core.

    `layers` are in order from the network's input to its output.
    """

    network: Network
    core: CoreConfig
    layers: tuple[PlacedLayer, ...]

    def on_engine(self, engine: int) -> tuple[PlacedLayer, ...]:
        """The layers of an engine, in the same order."""
        return tuple(placed for placed in self.layers if placed.engine == engine)

    def producer(self, placed: PlacedLayer) -> PlacedLayer | None:
        """The layer that makes a layer's input map; None if the host sends it."""
        return self._by_target.get(placed.layer.source)

    def readers(self, placed: PlacedLayer) -> tuple[PlacedLayer, ...]:
        """The layers that read a layer's output map."""
        return self._readers(placed.target)

    def reader(self, placed: PlacedLayer) -> PlacedLayer | None:
        """The layer that reads a layer's output map; None if it leaves the network.

        The device's formats have one reader of a map: it is taken once.
        """
        readers = self.readers(placed)
        assert len(readers) <= 1, f"{placed.target!r} has {len(readers)} readers"
        return readers[0] if readers else None

    def entrance(self, engine: int) -> PlacedLayer:
        """The layer of an engine that reads what comes from outside the engine."""
        (first,) = (
            placed
            for placed in self.on_engine(engine)
            if (before := self.producer(placed)) is None or before.engine != engine
        )
        return first

    @property
    def input_reader(self) -> PlacedLayer:
        """The layer that reads what the host sends."""
        (reader,) = self._readers(self.network.input.name)
        return reader

    @property
    def output_producer(self) -> PlacedLayer:
        """The layer that makes what the host gets."""
        return self._by_target[self.network.output.name]

    def _readers(self, value: str) -> tuple[PlacedLayer, ...]:
        return tuple(self._by_target[layer.target] for layer in self.network.readers(value))

    @functools.cached_property
    def _by_target(self) -> dict[str, PlacedLayer]:
        return {placed.target: placed for placed in self.layers}


def place(
    network: Network,
    core: CoreConfig,
    density: Mapping[str, float] | None = None,
    *,
    planner: Planner | None = None,
    thorough: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> Placement:
    """Give every layer of a network its engine and memory.

    Parameters
    ----------
    network : Network
        What to place.
    core : CoreConfig
        Where.
    density : mapping of str to float, optional
        Density for layers whose activations are sparse by ReLU alone: the part that is not zero.
    planner : Planner, optional
        Makes the plans, where networks that share layers are placed one after the other.
    thorough : bool
        Search for better packings than those that are found quickly.
    progress : callable
        Called with a message for each packed layer; not used with `planner`.

    Raises
    ------
    CompileError
        If the network does not fit.
    """
    chain = chain_of(network)
    room = sum(engine.layers for engine in core.engines)
    if len(chain) > room:
        raise CompileError(
            f"the network has {len(chain)} layers, more than the {room} of the overlay's "
            "programs; merge layers or choose a larger configuration"
        )
    for layer in chain:
        _check_output(layer, core, last=layer.target in network.outputs)
    feeds = feeds_of(network, density or {})
    plans_of = planner or Planner(FULL_EFFORT.shared(len(chain)), progress)
    problems: list[CompileError] = []

    def plans_on(layer: Layer, config: EngineConfig) -> list[LayerPlan] | None:
        try:
            return plans_of.plans(layer, config, feeds[layer.target], thorough=thorough)
        except CompileError as error:
            problems.append(error)
            return None

    @functools.cache
    def chosen(engine: int, start: int, stop: int) -> tuple[LayerPlan, ...] | None:
        config = core.engines[engine]
        most = min(config.layers, MAP_COUNT)
        if stop - start > most:
            problems.append(_too_many(stop - start, most, engine))
            return None
        plans = [plans_on(layer, config) for layer in chain[start:stop]]
        found = [of for of in plans if of is not None]
        if len(found) < len(plans):
            return None
        fitting = choose_plans(found, config)
        if fitting is None:
            problems.append(_shortage(found, config, engine))
        return fitting

    def load(engine: int, start: int, stop: int) -> float:
        plans = chosen(engine, start, stop)
        return math.inf if plans is None else sum(plan.cycles for plan in plans)

    layers, engines = len(chain), len(core.engines)
    starts = split_chain(layers, engines, load)
    if starts is None:
        raise next(iter(problems), None) or CompileError(
            f"a network of {layers} layers does not fit a chain of "
            f"{engines} engines, of which each needs a layer; choose another "
            "configuration"
        )
    placed: list[PlacedLayer] = []
    for engine, (start, stop) in enumerate(itertools.pairwise([*starts, layers])):
        plans = chosen(engine, start, stop)
        assert plans is not None, "the split is of what fits"
        placed += allocate(plans, core.engines[engine], engine)
    return Placement(network, core, tuple(placed))


def _too_many(layers: int, most: int, engine: int) -> CompileError:
    return CompileError(
        f"{layers} layers of the network are left to engine {engine}, which holds {most}; choose a "
        "larger configuration or a smaller network"
    )


def _shortage(
    plans: Sequence[Sequence[LayerPlan]], config: EngineConfig, engine: int
) -> CompileError:
    """Shortage of the fastest plans of an engine's layers."""
    try:
        allocate([of[0] for of in plans], config, engine)
    except CompileError as error:
        return error
    raise AssertionError("the fastest plans fit after all")


def _check_output(layer: Layer, core: CoreConfig, *, last: bool) -> None:
    """Check that the output stage of an engine can do what the layer wants."""
    most = max(config.reorder_rows * config.requantisers for config in core.engines)
    channels = layer.weights.shape[0]
    if channels > most:
        raise CompileError(
            f"layer {layer.name!r} has {channels} channels, more than the {most} that can be put "
            "in order; choose a "
            "larger configuration"
        )
    if layer.winners and layer.winners.selection is not Selection.ALL:
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
