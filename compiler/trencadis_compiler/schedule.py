"""In which order an engine runs its layers, and how many cycles that takes.

A layer can only start when its input map is complete, and a map is complete some time after its
producer has issued its last work: it still passes through the array, the requantisers and k-WTA. If
an engine ran the layers of one word after the other it would wait at every one of them. So it works
on two words: the second half of the layers lags one word behind, and the two halves alternate.
"""

import math
from dataclasses import dataclass

from trencadis_hw.timing import LAYER_OVERHEAD, WORD_OVERHEAD, EngineTiming

from trencadis_compiler.place import PlacedLayer, Placement

__all__ = ["EngineSchedule", "Schedule", "Turn", "schedule"]

LOAD_OVERHEAD = 4
"""Cycles between two input words."""

WORDS = 8
"""Words after which a program has settled."""


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
    """

    turns: tuple[Turn, ...]
    period: float
    waiting: float


@dataclass(frozen=True)
class Schedule:
    """The programs of a core and the cycles they take.

    Attributes
    ----------
    engines : tuple of EngineSchedule
        One an engine.
    period : float
        Cycles from word group to word group in steady state: those of the slowest engine, or of
        loading the input.
    static : bool
        The period does not depend on the data, and is exact.
    """

    engines: tuple[EngineSchedule, ...]
    period: float
    static: bool


def schedule(placement: Placement) -> Schedule:
    """Find the order of layers with the shortest period."""
    engines = tuple(
        _engine_schedule(placement.on_engine(engine))
        for engine in range(len(placement.core.engines))
    )
    feed = placement.layers[0].plan.feed
    loading = feed.channels * feed.rows * feed.columns + LOAD_OVERHEAD
    period = max(loading, *(engine.period for engine in engines))
    static = all(placed.plan.static for placed in placement.layers) and not any(
        engine.waiting for engine in engines
    )
    return Schedule(engines, period, static)


def _engine_schedule(layers: tuple[PlacedLayer, ...]) -> EngineSchedule:
    candidates = [tuple(Turn(layer, 0) for layer in layers)]
    for first in range(1, len(layers)):
        candidates.append(_interleave(layers[:first], layers[first:]))
    return min((_run(turns) for turns in candidates), key=lambda found: found.period)


def _interleave(early: tuple[PlacedLayer, ...], late: tuple[PlacedLayer, ...]) -> tuple[Turn, ...]:
    """Turns of the early layers and, one word behind, of the late ones, alternating."""
    turns: list[Turn] = []
    for i in range(max(len(early), len(late))):
        turns += [Turn(layer, 0) for layer in early[i : i + 1]]
        turns += [Turn(layer, 1) for layer in late[i : i + 1]]
    return tuple(turns)


def _run(turns: tuple[Turn, ...]) -> EngineSchedule:
    """Play the program until its period settles."""
    timing = EngineTiming.of(turns[0].layer.plan.config)
    by_number = {turn.layer.number: turn.layer for turn in turns}
    full: dict[tuple[int, int], float] = {}
    read: dict[tuple[int, int], float] = {}
    now = 0.0
    starts: list[float] = []
    waits: list[float] = []
    for word in range(WORDS):
        starts.append(now)
        now += WORD_OVERHEAD
        waits.append(0.0)
        for turn in turns:
            mine, number = word - turn.delay, turn.layer.number
            now += LAYER_OVERHEAD
            if mine < 0:
                continue
            ready = now
            if number - 1 in by_number:
                ready = max(ready, full[number - 1, mine])
            if number + 1 in by_number:
                # The buffer to write must have been read; if its reader comes later: deadlock.
                older = mine - by_number[number + 1].source.buffers
                ready = max(ready, read.get((number + 1, older), math.inf) if older >= 0 else 0.0)
            if ready == math.inf:
                return EngineSchedule(turns, math.inf, math.inf)
            waits[-1] += ready - now
            now = ready + turn.layer.plan.cycles + turn.layer.plan.tail
            read[number, mine] = now
            full[number, mine] = now + _completion(turn.layer, timing)
    return EngineSchedule(turns, starts[-1] - starts[-2], waits[-2])


def _completion(placed: PlacedLayer, timing: EngineTiming) -> float:
    """Cycles from a layer's last issue until its output map is complete, at most."""
    plan = placed.plan
    rows = placed.vector_rows
    cycles = (
        timing.array + plan.beats + plan.beats * plan.groups + timing.requantise + timing.reorder
    )
    winners = plan.layer.winners
    if winners and winners.whole and rows > plan.config.select_rows:
        cycles += 5 * rows + 20
    elif winners:
        cycles += 4 * (rows + 5)
    else:
        cycles += rows
    cycles += plan.layer.weights.shape[0] if not winners else winners.k + plan.config.lanes
    return cycles + timing.write
