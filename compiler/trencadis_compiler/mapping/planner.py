"""Plans of layers on engines, each searched once however often it is asked for."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.candidates import ideal_plans, plans_for
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_compiler.packing.packings import Packings
from trencadis_compiler.packing.tiles import FULL_EFFORT, Effort
from trencadis_format.config import EngineConfig
from trencadis_format.layer_tables import Selection

__all__ = ["Planner"]


@dataclass
class Planner:
    """Plans that have been found so far.

    Layers are told apart as objects: those that are equal but not the same are planned twice, but
    packed once if their non-zeros are in the same places.

    Attributes
    ----------
    effort : Effort
        Effort for each packing.
    progress : callable
        Called with a message for each packed layer.
    """

    effort: Effort = FULL_EFFORT
    progress: Callable[[str], None] = lambda text: None
    _packings: dict[bytes, Packings] = field(default_factory=dict)
    _plans: dict[
        tuple[int, EngineConfig, Feed, bool], tuple[Layer, list[LayerPlan] | CompileError]
    ] = field(default_factory=dict)

    def trial(self, progress: Callable[[str], None]) -> "Planner":
        """A planner that knows what this one has found, and keeps what it finds to itself."""
        return Planner(self.effort, progress, dict(self._packings), dict(self._plans))

    def plans(
        self, layer: Layer, config: EngineConfig, feed: Feed, *, thorough: bool = True
    ) -> list[LayerPlan]:
        """Ways to run a layer on an engine, the fastest first.

        Unless `thorough`, with packings that are found quickly.

        Raises
        ------
        CompileError
            If there is none.
        """
        key = id(layer), config, feed, thorough
        if key not in self._plans:
            # With the layer, so that its identity stays its own.
            self._plans[key] = layer, self._found(layer, config, feed, thorough)
        found = self._plans[key][1]
        if isinstance(found, CompileError):
            raise found
        return found

    def ideal_plans(self, layer: Layer, config: EngineConfig, feed: Feed) -> Iterator[LayerPlan]:
        """Plans with as few tiles as there may be, without any search; none if none can fit."""
        try:
            _check_engine(layer, config, feed)
        except CompileError:
            return
        yield from ideal_plans(layer, config, feed, self._packed(layer))

    def _found(
        self, layer: Layer, config: EngineConfig, feed: Feed, thorough: bool
    ) -> list[LayerPlan] | CompileError:
        try:
            _check_engine(layer, config, feed)
            return plans_for(layer, config, feed, self._packed(layer), thorough=thorough)
        except CompileError as error:
            return error

    def _packed(self, layer: Layer) -> Packings:
        kernels = layer.weights
        key = kernels.digest
        if key not in self._packings:
            text = f"packing {len(kernels)} kernels of {kernels.length} weights"
            self.progress(text)
            self._packings[key] = Packings(
                kernels.occupancy, self.effort, lambda: self.progress(text)
            )
        return self._packings[key]


def _check_engine(layer: Layer, engine: EngineConfig, feed: Feed) -> None:
    """Check that the engine has what is needed around the array.

    Raises
    ------
    CompileError
        If it has not.
    """
    if feed.dense and not engine.dense_values:
        raise CompileError("the first engine of a chain must have a dense input")
    rows = math.ceil(layer.weights.shape[0] / engine.requantisers)
    selected = layer.winners is not None and layer.winners.selection is not Selection.ALL
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
