"""Plans of layers on engines: tiles, lanes, rounds, and the cycles they take."""

import math
from dataclasses import dataclass
from functools import cached_property

from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.deal import Deal, Reading, Unit
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.packing.tiles import Packing
from trencadis_format.config import EngineConfig
from trencadis_format.layer_tables import Selection
from trencadis_format.timing import CREDIT_DELAY, ENDED_DELAY, EngineTiming

__all__ = ["LayerPlan", "products"]


@dataclass(frozen=True)
class LayerPlan:
    """A layer on an engine.

    Attributes
    ----------
    layer : Layer
        The layer.
    config : EngineConfig
        The engine.
    feed : Feed
        Its input map.
    packing : Packing
        Its tiles.
    combine : bool
        All lanes work on the same tiles, and the groups' sums are added; otherwise every group has
        tiles of its own.
    deal : Deal
        What every lane does in a window.
    """

    layer: Layer
    config: EngineConfig
    feed: Feed
    packing: Packing
    combine: bool
    deal: Deal

    @property
    def reading(self) -> Reading:
        """Way in which lanes share a window."""
        return self.deal.reading

    @property
    def parts(self) -> int:
        """Lanes that share a position."""
        return self.deal.parts

    @property
    def paired(self) -> bool:
        """A step is two windows side by side."""
        return self.deal.paired

    @property
    def lanes(self) -> tuple[tuple[Unit | None, ...], ...]:
        """The slots of every lane of a group (of all lanes if `combine`)."""
        return self.deal.units

    @cached_property
    def slots(self) -> int:
        """Slots of the busiest lane."""
        return self.deal.slots

    @property
    def tiles_per_round(self) -> int:
        """Tiles that the array works on at the same time."""
        return self.config.tiles * (1 if self.combine else self.config.groups)

    @cached_property
    def tile_rounds(self) -> int:
        """Runs over a window, each with other tiles."""
        return math.ceil(self.packing.count / self.tiles_per_round)

    @property
    def beats(self) -> int:
        """Beats of sums after a step."""
        return self.packing.kernels_per_tile if self.config.routing == "banked" else 1

    @property
    def columns(self) -> int:
        """Columns of a beat that are used."""
        if self.config.routing == "banked":
            return self.tiles_per_round
        return self.config.columns

    @cached_property
    def groups(self) -> int:
        """Requantiser groups of a beat."""
        return math.ceil(self.columns / self.config.requantisers)

    @cached_property
    def block(self) -> int:
        """Weight rows of a slot: channels of a position, or those a lane owns."""
        if self.reading is Reading.OWNED:
            return math.ceil(self.feed.channels / self.parts)
        return self.feed.channels

    @cached_property
    def weight_rows(self) -> int:
        """Weight rows of a lane."""
        return self.tile_rounds * self.slots * self.block

    @property
    def dynamic(self) -> bool:
        """The length of a walk depends on the data."""
        return self.reading is Reading.OWNED or not self.feed.exact

    @property
    def pitch(self) -> int:
        """Entries of a list in memory."""
        if self.reading is Reading.OWNED:
            return self.block
        return self.parts * math.ceil(self.feed.entries / self.parts)

    @cached_property
    def entries(self) -> int:
        """Entries of a walk, at most."""
        return self.block if self.reading is Reading.OWNED else self.pitch // self.parts

    @cached_property
    def least(self) -> int:
        """Entries of a walk, at least: what a walk takes in nearly all cases, if it varies."""
        if not self.dynamic:
            return self.entries
        if self.reading is Reading.OWNED and self.feed.exact:
            share = self.block / self.feed.channels
            spread = math.sqrt(self.feed.entries * share * (1 - share))
            typical = math.ceil(self.feed.entries * share + 3 * spread) + ENDED_DELAY
            return min(self.entries, typical)
        return 1

    @cached_property
    def expected_walk(self) -> float:
        """Entries of a walk on average, over all lanes in step."""
        if not self.dynamic:
            return self.entries
        mean = self.feed.expected / (self.parts if self.reading is Reading.OWNED else 1)
        longest = mean + 2 * math.sqrt(mean)
        return min(self.entries, max(self.least, longest + ENDED_DELAY))

    @property
    def window_steps(self) -> int:
        """Steps of a pass over a pooling window."""
        return math.prod(self.layer.pool.kernel) // (2 if self.paired else 1)

    @cached_property
    def interval(self) -> int:
        """Minimum cycles per step.

        Long enough to drain the step before, for the requantisers and the emitter to keep up, and
        for the queue after the array to have room again.
        """
        walked = self.slots * (1 if self.dynamic else self.entries)
        return max(walked, *self._after_array.values())

    @cached_property
    def _after_array(self) -> dict[str, int]:
        """Cycles that a step takes at least, by what follows the multipliers."""
        vector_steps = self.window_steps * self.tile_rounds
        emitted = 0
        if self.layer.winners and self.layer.winners.selection is Selection.EXACT:
            emitted = 0 if self.layer.winners.whole else self.layer.winners.k + 1
        # The sums of so many pooling windows may be under way, from the issue on.
        windows = self.config.queue_beats // self.beats
        under_way = EngineTiming.of(self.config).array + self.beats * self.groups + CREDIT_DELAY
        return {
            "draining": self.beats,
            "requantising": math.ceil(self.beats * self.groups / self.window_steps),
            "emitting": math.ceil(emitted / vector_steps),
            "queueing": math.ceil(under_way / windows / self.window_steps),
        }

    @property
    def limits(self) -> dict[str, float]:
        """Cycles that the layer would take at least, by what could limit it."""
        walked = self.slots * self.expected_walk
        limits = {"multiplying": walked, **self._after_array}
        return {name: self.steps * cycles for name, cycles in limits.items()}

    @property
    def steps(self) -> int:
        """Steps of the layer."""
        _, rows, columns = self.layer.out_shape
        return rows * columns * self.window_steps * self.tile_rounds

    @property
    def static(self) -> bool:
        """The cycles do not depend on the data (but for rare long walks)."""
        return not self.dynamic or (
            self.reading is Reading.OWNED and self.feed.exact and self.feed.spread
        )

    @property
    def tail(self) -> int:
        """Cycles to wait after the layer, so that its last step is drained before another ends.

        The next layer's first step ends at least 3 cycles after this layer's last one.
        """
        idle = 0 if self.dynamic else self.interval - self.slots * self.entries
        return max(0, self.beats - 3 - idle)

    @cached_property
    def cycles(self) -> float:
        """Cycles in which the layer keeps the array; an expectation if it is not static."""
        if not self.dynamic:
            return self.steps * self.interval
        return self.steps * max(self.interval, self.slots * self.expected_walk)

    @property
    def products(self) -> float:
        """Useful multiplications of a sample: of weights and activations that are not zero."""
        return products(self.layer, self.feed)

    @property
    def packing_efficiency(self) -> float:
        """Non-zeros over weight positions of all tiles."""
        rows = self.layer.weights.length
        return self.layer.nonzeros / (self.packing.count * self.packing.depth * rows)


def products(layer: Layer, feed: Feed) -> float:
    """Useful multiplications of a sample: of weights and activations that are not zero."""
    rows, columns = layer.conv_shape
    density = 1.0 if feed.dense else feed.expected / feed.channels
    return rows * columns * layer.nonzeros * density
