"""In which order an engine runs its layers, and how many cycles that takes.

A layer can only start when its input map is complete, and a map is complete some time after its
producer has issued its last work: it still passes through the array, the requantisers and k-WTA. If
an engine ran the layers of one word after the other it would wait at every one of them. So it works
on several words at the same time: layers may lag behind the newest word, and are run in the order
in which they wait least. Programs are played word by word to find that order.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trencadis_compiler.place import PlacedLayer, Placement
from trencadis_compiler.plan import LayerPlan
from trencadis_hw import abi
from trencadis_hw.timing import BORDER, LAYER_OVERHEAD, RELEASE_DELAY, WORD_OVERHEAD, EngineTiming

__all__ = ["EngineSchedule", "Schedule", "Turn", "schedule", "selection_cycles"]

LOAD_OVERHEAD = 4
"""Cycles between two input words."""

WORDS = 13
"""Words of which a program is played."""

SETTLED = 6
"""The last of them, over which cycles are averaged: waits may come every second or third word."""

WHOLE_OVERHEAD = 22
"""Cycles that the selector of whole layers takes for a vector, besides 4 a row."""

PERMUTED = 5
"""Most layers of an engine of which every order is tried."""

MOST_NAMES = 4
"""Layers of an engine that are all named."""

MOST_DELAY = 7
"""Words that a layer may lag behind, by its format."""


@dataclass(frozen=True)
class Turn:
    """A layer's turn in the program of its engine, `delay` word groups behind the newest."""

    layer: PlacedLayer
    delay: int


@dataclass(frozen=True)
class EngineSchedule:
    """The program of an engine.

    Attributes
    ----------
    turns : tuple of Turn
        In order.
    period : float
        Cycles from word group to word group in steady state.
    waiting : float
        Of these, cycles spent waiting for maps.
    exact : bool
        In steady state, no wait is for a map to be complete, of which only a bound is known.
    """

    turns: tuple[Turn, ...]
    period: float
    waiting: float
    exact: bool


@dataclass(frozen=True)
class Schedule:
    """The programs of a core and the cycles they take.

    Attributes
    ----------
    engines : tuple of EngineSchedule
        One an engine.
    period : float
        Cycles from word group to word group in steady state: those of the slowest engine, of
        loading the input, or of what holds these up.
    static : bool
        The period does not depend on the data, and is exact.
    limit : str
        What the period is that of, in words.
    """

    engines: tuple[EngineSchedule, ...]
    period: float
    static: bool
    limit: str


def schedule(placement: Placement) -> Schedule:
    """Find the order of layers with the shortest period."""
    written = _written(placement)
    engines = tuple(
        _engine_schedule(placement.on_engine(engine), written)
        for engine in range(len(placement.core.engines))
    )
    planned = {
        **{_name(placement, number): engine.period for number, engine in enumerate(engines)},
        "loading of the input": _loading(placement.layers[0]),
    }
    held_up = {
        "k-WTA over whole layers": _selecting(placement),
        "handing maps from engine to engine": _handing_over(placement, written),
        "writing of activations, one a cycle": _writing(placement, written),
    }
    periods = planned | held_up
    limit = max(periods, key=lambda name: periods[name])  # of equals the first
    # An engine whose period is only bounded may still be sure to be faster than another. Loading
    # is known to a few cycles: how beats fall into bursts counts, too.
    certain = max((engine.period for engine in engines if engine.exact), default=0.0)
    static = periods[limit] <= certain and all(
        placed.plan.static and _taken(placed, written) == placed.plan.cycles
        for placed in placement.layers
    )
    return Schedule(engines, periods[limit], static, limit)


def _name(placement: Placement, engine: int) -> str:
    """An engine in words, by its layers."""
    layers = [placed.plan.layer.name for placed in placement.on_engine(engine)]
    few = layers if len(layers) <= MOST_NAMES else [layers[0], "...", layers[-1]]
    return f"engine {engine} ({', '.join(few)})"


def _loading(first: PlacedLayer) -> float:
    """Cycles a word in which the input is written, about; of a sparse one, at most."""
    feed = first.plan.feed
    if feed.dense:
        return feed.rows * feed.columns * feed.channels + LOAD_OVERHEAD
    return _entries(first) + LOAD_OVERHEAD


def _selecting(placement: Placement) -> float:
    """Cycles a word for which the busiest selector of whole layers is taken, at most."""
    busy = [0.0] * len(placement.core.engines)
    for placed in placement.layers:
        if _selected_whole(placed):
            busy[placed.engine] += selection_cycles(placed.plan)
    return max(busy)


def selection_cycles(plan: LayerPlan) -> float:
    """Cycles a word for which a layer takes the selector of whole layers, at most."""
    assert plan.layer.winners is not None
    _, rows, columns = plan.layer.out_shape
    vector_rows = math.ceil(plan.layer.weights.shape[0] / plan.config.requantisers)
    emitting = plan.layer.winners.k + plan.config.lanes
    return rows * columns * (4 * vector_rows + WHOLE_OVERHEAD + emitting)


def _vectors(placed: PlacedLayer) -> int:
    """Vectors of a word: positions of the output map."""
    _, rows, columns = placed.plan.layer.out_shape
    return rows * columns


def _taken(placed: PlacedLayer, written: Mapping[tuple[int, int], float]) -> float:
    """Cycles a word for which a layer keeps its engine, about.

    More than those of the array where what is behind it cannot follow, vector by vector: the
    emitter, the selector of whole layers, or the memory that puts vectors in order.
    """
    plan, vectors = placed.plan, _vectors(placed)
    if vectors == 1:
        return plan.cycles
    behind = written[placed.engine, placed.number]
    if _selected_whole(placed):
        behind = selection_cycles(placed.plan)
    timing = EngineTiming.of(plan.config)
    waiting = timing.requantise + timing.reorder + placed.vector_rows
    held = (plan.cycles + vectors * waiting) * placed.vector_rows / plan.config.reorder_rows
    return max(plan.cycles, behind, held)


def _written(placement: Placement) -> dict[tuple[int, int], float]:
    """Cycles a word for which every layer takes its emitter, about, by engine and number.

    It writes an entry a cycle, and the ends of lists; to the host, rows.
    """
    cycles = {}
    followers = (*placement.layers[1:], None)
    for before, after in zip(placement.layers, followers, strict=True):
        # Of rows for lists, one without survivors takes a cycle, too, unless it was left out when
        # winners were selected.
        silent = 1.0
        if after:
            feed, width = after.plan.feed, before.plan.config.requantisers
            selected = before.plan.layer.winners is not None
            silent = 0.0 if selected else (1 - feed.expected / feed.channels) ** width
        entries = _entries(after) if after else 0.0
        rows = _vectors(before) * before.vector_rows
        cycles[before.engine, before.number] = entries + rows * silent
    return cycles


def _writing(placement: Placement, written: Mapping[tuple[int, int], float]) -> float:
    """Cycles a word for which the busiest emitter is taken, or the busiest memories, about.

    Memories take an entry a cycle, whoever writes it. The selector of whole layers has an emitter
    of its own, counted with it.
    """
    engines = len(placement.core.engines)
    emitters, memories = [0.0] * engines, [0.0] * engines
    for placed in placement.layers:
        memories[placed.engine] += _entries(placed)
        if not _selected_whole(placed):
            emitters[placed.engine] += written[placed.engine, placed.number]
    return max(*emitters, *memories)


def _entries(placed: PlacedLayer) -> float:
    """Entries that are written into a layer's map for a word, ends included."""
    feed, plan = placed.plan.feed, placed.plan
    if placed.source.emission is None:
        return 0.0
    ends = {
        abi.Emission.LISTS: plan.pitch - feed.expected,
        abi.Emission.TERMINATED: 1.0,
        abi.Emission.OWNED: float(plan.parts),
    }[placed.source.emission]
    return feed.rows * feed.columns * (feed.expected + ends) + 1


def _handing_over(placement: Placement, written: Mapping[tuple[int, int], float]) -> float:
    """Cycles a word that a map between two engines allows, at most.

    A buffer is taken from the first work of its producer until its consumer has read it.
    """
    slowest = 0.0
    for before, after in itertools.pairwise(placement.layers):
        if before.engine != after.engine:
            timing = EngineTiming.of(before.plan.config)
            taken = (
                _taken(before, written)
                + before.plan.tail
                + _completion(before, timing)
                + BORDER
                + _taken(after, written)
                + RELEASE_DELAY
                + 2 * LAYER_OVERHEAD
            )
            slowest = max(slowest, taken / after.source.buffers)
    return slowest


def _selected_whole(placed: PlacedLayer) -> bool:
    """The layer's winners are found by the selector for long vectors."""
    winners = placed.plan.layer.winners
    return winners is not None and placed.vector_rows > placed.plan.config.select_rows


def _engine_schedule(
    layers: tuple[PlacedLayer, ...], written: Mapping[tuple[int, int], float]
) -> EngineSchedule:
    """The program with the shortest period; of equals, the one that lags least."""
    best: EngineSchedule | None = None
    for delays in _delays(len(layers)):
        for order in _orders(delays):
            found = _run(tuple(Turn(layers[i], delays[i]) for i in order), written)
            if best is None or found.period < best.period:
                best = found
            if not best.waiting:
                return best
    assert best is not None
    return best


def _delays(layers: int) -> list[tuple[int, ...]]:
    """Words that each layer lags behind, at most one more than the layer before it; least first."""
    ways = [
        tuple(itertools.accumulate(steps, initial=0))
        for steps in itertools.product((0, 1), repeat=min(layers - 1, MOST_DELAY))
    ]
    ways = [way + (way[-1],) * (layers - len(way)) for way in ways]
    return sorted(ways, key=sum)


def _orders(delays: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders in which layers may run: all, or, of many layers, those that alternate."""
    numbers = range(len(delays))
    if len(delays) <= PERMUTED:
        yield from itertools.permutations(numbers)
        return
    yield tuple(numbers)
    yield tuple(reversed(numbers))
    by_delay = [[i for i in numbers if delays[i] == delay] for delay in sorted(set(delays))]
    for groups in (by_delay, by_delay[::-1]):
        turns = itertools.chain.from_iterable(itertools.zip_longest(*groups))
        yield tuple(i for i in turns if i is not None)


def _run(turns: tuple[Turn, ...], written: Mapping[tuple[int, int], float]) -> EngineSchedule:
    """Play the program until its period settles."""
    timing = EngineTiming.of(turns[0].layer.plan.config)
    by_number = {turn.layer.number: turn.layer for turn in turns}
    full: dict[tuple[int, int], float] = {}
    read: dict[tuple[int, int], float] = {}
    now = 0.0
    starts: list[float] = []
    waits: list[float] = []
    exact: list[bool] = []
    for word in range(WORDS):
        starts.append(now)
        now += WORD_OVERHEAD
        waits.append(0.0)
        exact.append(True)
        for turn in turns:
            mine, number = word - turn.delay, turn.layer.number
            now += LAYER_OVERHEAD
            if mine < 0:
                continue
            ready = now
            if number - 1 in by_number:
                # A map whose producer comes later in the round is never full: deadlock.
                complete = full.get((number - 1, mine), math.inf)
                exact[-1] = exact[-1] and complete <= ready
                ready = max(ready, complete)
            if number + 1 in by_number:
                # The buffer to write must have been read; if its reader comes later: deadlock.
                older = mine - by_number[number + 1].source.buffers
                ready = max(ready, read.get((number + 1, older), math.inf) if older >= 0 else 0.0)
            if ready == math.inf:
                return EngineSchedule(turns, math.inf, math.inf, exact=False)
            waits[-1] += ready - now
            issued = ready + _taken(turn.layer, written)
            now = issued + turn.layer.plan.tail
            read[number, mine] = issued + RELEASE_DELAY
            full[number, mine] = issued + _completion(turn.layer, timing)
    return EngineSchedule(
        turns,
        period=(starts[-1] - starts[-1 - SETTLED]) / SETTLED,
        waiting=sum(waits[-1 - SETTLED : -1]) / SETTLED,
        exact=all(exact[-1 - SETTLED : -1]),
    )


def _completion(placed: PlacedLayer, timing: EngineTiming) -> float:
    """Cycles from a layer's last issue until its output map is complete, at most."""
    plan = placed.plan
    rows = placed.vector_rows
    cycles = (
        timing.array + plan.beats + plan.beats * plan.groups + timing.requantise + timing.reorder
    )
    winners = plan.layer.winners
    if _selected_whole(placed):
        cycles += 5 * rows + WHOLE_OVERHEAD
    elif winners:
        cycles += 4 * (rows + 6)
    else:
        cycles += rows
    cycles += (winners.k if winners else plan.layer.weights.shape[0]) + plan.config.lanes
    return cycles + timing.write
