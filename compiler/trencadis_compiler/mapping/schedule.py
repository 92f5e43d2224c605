"""Schedules: the order in which an engine runs its layers, and the cycles that takes.

A layer can only start when its input map is complete, and a map is complete some time after its
producer has issued its last work: it still passes through the array, the requantisers and k-WTA. If
an engine ran the layers of one sample after the other it would wait at every one of them. So it
works on several samples at the same time: layers may lag behind the newest sample, and are run in
the order in which they wait least. Programs are played sample by sample to find that order.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from trencadis_compiler.mapping.cycles import LayerCycles
from trencadis_compiler.mapping.place import PlacedLayer, Placement
from trencadis_format.layer_tables import SEQUENCE
from trencadis_format.timing import LAYER_OVERHEAD, RELEASE_DELAY, SAMPLE_OVERHEAD

__all__ = ["EngineSchedule", "Schedule", "Turn", "schedule"]

SAMPLES = 13
"""Number of samples for which a program is played when searching for an order."""

SETTLED = 6
"""The last of them, over which cycles are averaged: waits may come every second or third sample."""

PERMUTED = 5
"""Maximum number of layers of an engine for which every order is tried."""

MAX_NAMES = 4
"""Maximum number of layers of an engine that are all named; longer lists are abbreviated."""

MAX_DELAY = SEQUENCE["delay"].high
"""Maximum number of samples that a layer may lag behind the newest, as its format has it."""


@dataclass(frozen=True)
class Turn:
    """A layer's turn in the program of its engine, `delay` sample groups behind the newest."""

    placed: PlacedLayer
    delay: int


@dataclass(frozen=True)
class EngineSchedule:
    """The program of an engine.

    Attributes
    ----------
    turns : tuple of Turn
        Turns, in order.
    period : float
        Cycles from sample group to sample group in steady state.
    waiting : float
        Cycles of these spent waiting for maps.
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
        Cycles from sample group to sample group in steady state: those of the slowest engine, of
        loading the input, or of what holds these up.
    static : bool
        The period does not depend on the data, and is exact.
    limit : str
        Description of what limits the period.
    """

    engines: tuple[EngineSchedule, ...]
    period: float
    static: bool
    limit: str


def schedule(placement: Placement) -> Schedule:
    """Find the order of layers with the shortest period."""
    cycles = LayerCycles(placement)
    engines = tuple(
        _engine_schedule(placement, engine, cycles) for engine in range(len(placement.core.engines))
    )
    planned = {
        **{_name(placement, number): engine.period for number, engine in enumerate(engines)},
        "loading of the input": cycles.loading,
    }
    held_up = {
        "loading of the input between its uses": cycles.refilling,
        "k-WTA over whole layers": cycles.selecting,
        "handing maps from engine to engine": cycles.handover,
        "writing of activations, one per cycle": cycles.writing,
    }
    periods = planned | held_up
    limit = max(periods, key=lambda name: periods[name])  # of equals the first
    # An engine whose period is only bounded may still be sure to be faster than another. Loading
    # is known to a few cycles: how beats fall into bursts counts, too.
    certain = max((engine.period for engine in engines if engine.exact), default=0.0)
    static = periods[limit] <= certain and all(
        placed.plan.static and cycles.engine(placed) == placed.plan.cycles
        for placed in placement.layers
    )
    return Schedule(engines, periods[limit], static, limit)


def _name(placement: Placement, engine: int) -> str:
    """An engine in words, by its layers."""
    layers = [placed.layer.name for placed in placement.on_engine(engine)]
    few = layers if len(layers) <= MAX_NAMES else [layers[0], "...", layers[-1]]
    return f"engine {engine} ({', '.join(few)})"


class _Edges:
    """Edges of the network between layers of one engine, layers by the values that they make."""

    def __init__(self, placement: Placement, engine: int) -> None:
        self.producers: dict[str, str] = {}
        self.readers: dict[str, tuple[PlacedLayer, ...]] = {}
        for placed in placement.on_engine(engine):
            readers = tuple(of for of in placement.readers(placed) if of.engine == engine)
            self.readers[placed.target] = readers
            self.producers |= {reader.target: placed.target for reader in readers}


def _engine_schedule(placement: Placement, engine: int, cycles: LayerCycles) -> EngineSchedule:
    """The program with the shortest period; of equals, the one that lags least."""
    layers = placement.on_engine(engine)
    edges = _Edges(placement, engine)
    best: EngineSchedule | None = None
    for delays in _delays(layers, edges):
        for order in _orders(delays):
            turns = tuple(Turn(layers[i], delays[i]) for i in order)
            found = _run(turns, edges, cycles)
            if best is None or found.period < best.period:
                best = found
            if not best.waiting:
                return best
    assert best is not None
    return best


def _delays(layers: tuple[PlacedLayer, ...], edges: _Edges) -> list[tuple[int, ...]]:
    """Lags of all layers in samples, each at most one above its producer's; least first."""
    reading = [placed.target for placed in layers if placed.target in edges.producers]
    ways = []
    for chosen in itertools.product((0, 1), repeat=min(len(reading), MAX_DELAY)):
        steps = dict(zip(reading, chosen, strict=False))
        lags: dict[str, int] = {}
        for placed in layers:
            before = edges.producers.get(placed.target)
            above = 0 if before is None else lags[before]
            lags[placed.target] = above + steps.get(placed.target, 0)
        ways.append(tuple(lags.values()))
    return sorted(ways, key=sum)


def _orders(delays: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Candidate orders: every permutation of few layers, otherwise those that alternate lags."""
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


def _run(turns: tuple[Turn, ...], edges: _Edges, cycles: LayerCycles) -> EngineSchedule:
    """Play the program until its period settles."""
    full: dict[tuple[str, int], float] = {}
    read: dict[tuple[str, int], float] = {}
    now = 0.0
    starts: list[float] = []
    waits: list[float] = []
    exact: list[bool] = []
    for sample in range(SAMPLES):
        starts.append(now)
        now += SAMPLE_OVERHEAD
        waits.append(0.0)
        exact.append(True)
        for turn in turns:
            placed, mine = turn.placed, sample - turn.delay
            now += LAYER_OVERHEAD
            if mine < 0:
                continue
            ready = now
            if placed.target in edges.producers:
                # A map whose producer comes later in the round is never full: deadlock.
                complete = full.get((edges.producers[placed.target], mine), math.inf)
                exact[-1] = exact[-1] and complete <= ready
                ready = max(ready, complete)
            for reader in edges.readers[placed.target]:
                # The buffer to write must have been read; if its reader comes later: deadlock.
                older = mine - reader.source.buffers
                free = read.get((reader.target, older), math.inf) if older >= 0 else 0.0
                ready = max(ready, free)
            if ready == math.inf:
                return EngineSchedule(turns, math.inf, math.inf, exact=False)
            waits[-1] += ready - now
            issued = ready + cycles.engine(placed)
            now = issued + placed.plan.tail
            read[placed.target, mine] = issued + RELEASE_DELAY
            full[placed.target, mine] = issued + cycles.completion(placed)
    return EngineSchedule(
        turns,
        period=(starts[-1] - starts[-1 - SETTLED]) / SETTLED,
        waiting=sum(waits[-1 - SETTLED : -1]) / SETTLED,
        exact=all(exact[-1 - SETTLED : -1]),
    )
