"""How a layer runs on an engine: tiles, lanes, passes, and the cycles they take."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir import Layer
from trencadis_compiler.packing import Packing, Packings
from trencadis_hw import abi
from trencadis_hw.config import EngineConfig
from trencadis_hw.timing import CREDIT_DELAY, ENDED_DELAY, EngineTiming

__all__ = ["Feed", "LayerPlan", "Reading", "Unit", "plans_for", "products"]

DEEPEST = 8
"""Most weight rows that a tile may be given for an input row."""

MOST_SLOTS = 1 << next(field.bits for field in abi.SEQUENCE.fields if field.name == "slots")
"""Slots of a step, by the format."""


class Reading(Enum):
    """How the lanes share the work of a window."""

    DENSE = "dense"
    """Every lane reads positions of the dense input."""
    LISTS = "lists"
    """Every lane reads the lists of some positions, or of every n-th entry of one."""
    OWNED = "owned"
    """Every lane has a list of its own, of the channels it owns."""


@dataclass(frozen=True)
class Feed:
    """What a layer finds in its input map.

    Attributes
    ----------
    channels, rows, columns : int
        Of the map.
    dense : bool
        The map is the network's input with every channel present.
    entries : int
        Entries of a list: exactly that many, or at most if `exact` is false.
    exact : bool
        All lists have the same number of entries.
    expected : float
        Entries of a list on average.
    spread : bool
        Entries are spread over the channels, as winners are; those of an input may be neighbours.
    """

    channels: int
    rows: int
    columns: int
    dense: bool
    entries: int
    exact: bool
    expected: float
    spread: bool = True


@dataclass(frozen=True)
class Unit:
    """What a lane does in a slot: a window position, and which of the colliding weights there.

    `part` of `parts`: it takes entries part, part + parts, ... of the list, or (`Reading.OWNED`)
    the channels of that block. `window`: 1 if the window is the right one of a pair.
    """

    position: int
    copy: int
    part: int
    window: int = 0


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
    reading : Reading
        How lanes share a window.
    combine : bool
        All lanes work on the same tiles, and the groups' sums are added; otherwise every group has
        tiles of its own.
    parts : int
        Lanes that share a position.
    lanes : tuple of tuples of Unit or None
        The slots of every lane of a group (of all lanes if `combine`); with None where a lane of a
        paired layer has nothing to do.
    paired : bool
        A step is two windows side by side, which share the middle slot: half of the lanes each.
    """

    layer: Layer
    config: EngineConfig
    feed: Feed
    packing: Packing
    reading: Reading
    combine: bool
    parts: int
    lanes: tuple[tuple[Unit | None, ...], ...]
    paired: bool = False

    @property
    def slots(self) -> int:
        """Slots of the busiest lane."""
        return max(len(units) for units in self.lanes)

    @property
    def tiles_a_pass(self) -> int:
        """Tiles that are worked on at the same time."""
        return self.config.tiles * (1 if self.combine else self.config.groups)

    @property
    def passes(self) -> int:
        """Passes over a window."""
        return math.ceil(len(self.packing.tiles) / self.tiles_a_pass)

    @property
    def beats(self) -> int:
        """Beats of sums after a step."""
        return self.packing.kernels_per_tile if self.config.routing == "banked" else 1

    @property
    def columns(self) -> int:
        """Columns of a beat that are used."""
        if self.config.routing == "banked":
            return self.tiles_a_pass
        return self.config.columns

    @property
    def groups(self) -> int:
        """Requantiser groups of a beat."""
        return math.ceil(self.columns / self.config.requantisers)

    @property
    def block(self) -> int:
        """Weight rows of a slot: channels of a position, or those a lane owns."""
        if self.reading is Reading.OWNED:
            return math.ceil(self.feed.channels / self.parts)
        return self.feed.channels

    @property
    def weight_rows(self) -> int:
        """Weight rows of a lane."""
        return self.passes * self.slots * self.block

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

    @property
    def entries(self) -> int:
        """Entries of a walk, at most."""
        return self.block if self.reading is Reading.OWNED else self.pitch // self.parts

    @property
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

    @property
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

    @property
    def interval(self) -> int:
        """Cycles a step takes at least.

        Long enough to drain the step before, for the requantisers and the emitter to keep up, and
        for the queue behind the array to have room again.
        """
        vector_steps = self.window_steps * self.passes
        emitted = 0
        if self.layer.winners and self.layer.winners.selection is abi.Selection.EXACT:
            emitted = 0 if self.layer.winners.whole else self.layer.winners.k + 1
        walked = self.slots * (1 if self.dynamic else self.entries)
        # The sums of so many pooling windows may be under way, from the issue on.
        windows = self.config.queue_beats // self.beats
        under_way = EngineTiming.of(self.config).array + self.beats * self.groups + CREDIT_DELAY
        return max(
            walked,
            self.beats,
            math.ceil(self.beats * self.groups / self.window_steps),
            math.ceil(emitted / vector_steps),
            math.ceil(under_way / windows / self.window_steps),
        )

    @property
    def steps(self) -> int:
        """Steps of the layer."""
        _, rows, columns = self.layer.out_shape
        return rows * columns * self.window_steps * self.passes

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

    @property
    def cycles(self) -> float:
        """Cycles in which the layer keeps the array; an expectation if it is not static."""
        if not self.dynamic:
            return self.steps * self.interval
        return self.steps * max(self.interval, self.slots * self.expected_walk)

    @property
    def products(self) -> float:
        """Useful multiplications of a word: of weights and activations that are not zero."""
        return products(self.layer, self.feed)

    @property
    def packing_efficiency(self) -> float:
        """Non-zeros over weight positions of all tiles."""
        rows = self.layer.weights[0].size
        return self.layer.nonzeros / (len(self.packing.tiles) * self.packing.depth * rows)


def products(layer: Layer, feed: Feed) -> float:
    """Useful multiplications of a word: of weights and activations that are not zero."""
    rows, columns = layer.conv_shape
    density = 1.0 if feed.dense else feed.expected / feed.channels
    return rows * columns * layer.nonzeros * density


def plans_for(
    layer: Layer, config: EngineConfig, feed: Feed, packings: Packings | None = None
) -> list[LayerPlan]:
    """Ways to run `layer` on an engine, the fastest first; of equals the one with fewest rows.

    Parameters
    ----------
    layer : Layer
        The layer.
    config : EngineConfig
        The engine.
    feed : Feed
        What the layer reads.
    packings : Packings, optional
        Of the layer, where it is planned for several engines: packing takes long.

    Raises
    ------
    CompileError
        If there is none.
    """
    packings = packings or Packings(layer.weights)
    plans: list[LayerPlan] = []
    best = math.inf
    fewest = math.inf
    for depth, limit in itertools.product(range(1, DEEPEST + 1), _limits(config)):
        bound = packings.fewest_tiles(limit, depth)
        # Deeper tiles must save rows. No packing is tried that even at its best is no faster, or
        # does not fit.
        if (depth > 1 and bound * depth >= fewest) or _ideal(
            layer, config, feed, bound, depth
        ) >= best:
            continue
        packing = packings.pack(limit, depth)
        fewest = min(fewest, len(packing.tiles) * depth)
        here = _plans(layer, config, feed, packing)
        plans += here
        best = min([best, *(plan.cycles for plan in here)])
    if not plans and feed.dense and feed.channels > 1 << abi.INDEX_BITS:
        raise CompileError(
            f"layer {layer.name!r} has {feed.channels} input channels; of a dense input there may "
            f"be {1 << abi.INDEX_BITS}: send indices and values (--input-nonzeros "
            f"{feed.channels} or fewer, on a board with sparse_input), or choose a narrower layer"
        )
    if not plans:
        raise CompileError(
            f"layer {layer.name!r} has {feed.channels} input channels on "
            f"{layer.weights.shape[2]}x{layer.weights.shape[3]} windows; no way of sharing them "
            f"among {config.lanes} lanes fits {config.weight_rows} weight rows and lists of "
            f"{1 << abi.INDEX_BITS} channels; choose a larger configuration or a narrower layer"
        )
    return sorted(plans, key=lambda plan: (plan.cycles, plan.weight_rows, plan.slots))


def _limits(config: EngineConfig) -> list[int]:
    """Kernels a tile worth a try: many save passes, few save time to drain."""
    limits = [config.kernels]
    while limits[-1] > 1:
        limits.append(limits[-1] // 2)
    return limits


def _ideal(layer: Layer, config: EngineConfig, feed: Feed, tiles: int, depth: int) -> float:
    """Cycles with that many tiles, all equally full: no packing into as many is faster.

    Infinite if even that has more weight rows than there are.
    """
    kernels = layer.weights.shape[0]
    even = tuple(tuple(range(i, kernels, tiles)) for i in range(min(tiles, kernels)))
    plans = _plans(layer, config, feed, Packing(even, depth))
    return min((plan.cycles for plan in plans), default=math.inf)


def _plans(layer: Layer, config: EngineConfig, feed: Feed, packing: Packing) -> list[LayerPlan]:
    """Ways to run a layer with a packing, as far as its weights fit the engine."""
    return [
        plan
        for combine in ((False, True) if config.groups > 1 else (False,))
        for plan in _readings(layer, config, feed, packing, combine)
        if plan.weight_rows <= config.weight_rows and plan.slots <= MOST_SLOTS
    ]


def _readings(
    layer: Layer, config: EngineConfig, feed: Feed, packing: Packing, combine: bool
) -> Iterator[LayerPlan]:
    positions = layer.weights.shape[2] * layer.weights.shape[3]
    lanes = config.lanes if combine else config.group_lanes
    base = LayerPlan(layer, config, feed, packing, Reading.LISTS, combine, 1, ())
    wide = feed.channels > 1 << abi.INDEX_BITS
    if feed.dense:
        # Groups share the dense input, so they must read the same positions.
        if not combine and not wide:
            dense = replace(base, reading=Reading.DENSE)
            yield _deal(dense, positions, lanes)
            # The slot that two windows share must be one cycle long.
            even = layer.pool.kernel[1] % 2 == 0
            if config.routing == "split-trees" and even and feed.channels == 1:
                yield _pair(dense, positions)
        return
    if not wide:
        yield _deal(base, positions, lanes)
        most = lanes // (positions * packing.depth)
        if feed.exact and most > 1:
            yield _deal(replace(base, parts=min(most, feed.entries)), positions, lanes)
    if positions == 1:
        owned = replace(base, reading=Reading.OWNED, parts=min(lanes, feed.channels))
        if owned.block <= 1 << abi.INDEX_BITS:
            yield _deal(owned, positions, lanes)


def _deal(plan: LayerPlan, positions: int, lanes: int) -> LayerPlan:
    """Give every lane its units, neighbours together: a lane keeps one stretch of the map."""
    depth = plan.packing.depth
    if plan.reading is Reading.OWNED:
        # All copies of a block are slots of the lane that owns it.
        units = tuple(
            tuple(Unit(0, copy, part) for copy in range(depth)) for part in range(plan.parts)
        )
        return replace(plan, lanes=units + ((),) * (lanes - plan.parts))
    work = [
        Unit(position, copy, part)
        for position in range(positions)
        for copy in range(depth)
        for part in range(plan.parts)
    ]
    share = math.ceil(len(work) / lanes)
    dealt = tuple(tuple(work[i * share : (i + 1) * share]) for i in range(lanes))
    return replace(plan, lanes=dealt)


def _pair(plan: LayerPlan, positions: int) -> LayerPlan:
    """Give every lane its units of two windows side by side.

    Slots are the first window's, one for both, and the second window's; as many of the first as of
    the second, and at least one.
    """
    lanes = plan.config.lanes
    work = [(position, copy) for position in range(positions) for copy in range(plan.packing.depth)]
    whole = max(1, math.ceil((len(work) - lanes // 2) / lanes))
    slots: list[list[Unit | None]] = [[None] * (2 * whole + 1) for _ in range(lanes)]
    for window, shared in enumerate((range(lanes // 2), range(lanes // 2, lanes))):
        own = range(window * (whole + 1), window * (whole + 1) + whole)
        places = [(lane, slot) for slot in own for lane in range(lanes)]
        places += [(lane, whole) for lane in shared]
        for (lane, slot), (position, copy) in zip(places, work, strict=False):
            slots[lane][slot] = Unit(position, copy, 0, window)
    return replace(plan, paired=True, lanes=tuple(tuple(lane) for lane in slots))
