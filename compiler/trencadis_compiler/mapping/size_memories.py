"""Memories for given arrays: large enough for a network, and no larger."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.ranges import reachable_sums
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.place import PlacedLayer, Placement, place
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_compiler.mapping.schedule import Schedule, schedule
from trencadis_format.config import ENGINE_LIMITS, CoreConfig, EngineConfig

__all__ = [
    "MAX_QUEUE",
    "SHALLOW",
    "needed_memories",
    "power_of_two",
    "roomy",
    "smallest_memories",
    "sum_bits",
    "with_memories_for",
]

MAX_ROWS = {
    name: ENGINE_LIMITS[name].high
    for name in ("weight_rows", "slot_rows", "requantise_rows", "reorder_rows", "tables", "layers")
}
MAX_VALUES = ENGINE_LIMITS["dense_values"].high
MAX_ENTRIES = ENGINE_LIMITS["list_entries"].high
"""Memories as large as the formats allow."""

MAX_QUEUE = 1 << 10
"""Beats of a queue that never is full."""

MIN_SUM_BITS, MAX_SUM_BITS = ENGINE_LIMITS["sum_bits"]
"""Bits of a sum; no cycle depends on them."""
MIN_WEIGHT, MAX_WEIGHT = -128, 127

MIN_ROWS = {"weight_rows": 32, "slot_rows": 16, "requantise_rows": 512}
MIN_QUEUE = 8
MIN_REORDER = 64
"""Smaller ones are made of as many LUTs or block memories."""
MIN_LAYERS = 4

SHALLOW = 64
"""Weight rows up to which LUTs hold them: a block memory has 512 rows at least."""


def with_memories_for(core: CoreConfig, network: Network) -> CoreConfig:
    """The same arrays, with memories and sums that hold a network, even if those of `core` do not.

    Raises
    ------
    CompileError
        If it does not fit memories as large as the formats allow.
    """
    placement = place(network, roomy(core))
    engines = []
    for number, engine in enumerate(core.engines):
        needed = needed_memories(placement.on_engine(number)) | {"sum_bits": MAX_SUM_BITS}
        larger = {name: max(rows, getattr(engine, name)) for name, rows in needed.items()}
        engines.append(replace(engine, **larger))
    return replace(core, engines=tuple(engines))


def needed_memories(placed: Sequence[PlacedLayer]) -> dict[str, int]:
    """Sizes of the memories that the layers of an engine take, by the field that gives them."""
    return _tables(placed) | {
        "dense_values": sum(
            layer.source.buffers * layer.source.size
            for layer in placed
            if layer.source.emission is None
        ),
        "list_entries": _list_entries(placed),
        "reorder_rows": power_of_two(max(layer.vector_rows for layer in placed)),
    }


def smallest_memories(core: CoreConfig, network: Network) -> tuple[CoreConfig, Schedule]:
    """The same arrays with the smallest memories in which a network is as fast as in the largest.

    Depths are powers of two. Sums hold whatever weights of eight bits stand where the network has
    weights, so that it can be trained again.

    Parameters
    ----------
    core : CoreConfig
        Arrays and selectors; of the memories, only whether there are any for dense inputs and for
        lists, and what those of weights are made of, unless they are shallow.
    network : Network
        What is to run.

    Returns
    -------
    core : CoreConfig
        Core with its memories.
    schedule : Schedule
        Schedule of the network there.

    Raises
    ------
    CompileError
        If it does not fit memories as large as the formats allow.
    """
    large = roomy(core, new_lists=False)
    queues = tuple(replace(engine, queue_beats=MAX_QUEUE) for engine in large.engines)
    placement = place(network, replace(large, engines=queues))
    period = schedule(placement).period
    engines = [
        _fitted(engine, placement, number) for number, engine in enumerate(placement.core.engines)
    ]
    # What is left decides when engines wait: of each, the least that makes none wait longer.
    for number in range(len(engines)):
        for name in ("queue_beats", "reorder_rows", "list_entries"):
            for engine in _larger_and_larger(engines[number], name, placement, number):
                tried = (*engines[:number], engine, *engines[number + 1 :])
                if _period(network, replace(core, engines=tried)) <= period:
                    engines[number] = engine
                    break
    fitted = replace(core, engines=tuple(engines))
    return fitted, schedule(place(network, fitted))


def roomy(core: CoreConfig, *, new_lists: bool = True) -> CoreConfig:
    """The same arrays with memories as large as the formats allow; selectors stay as they are.

    Memories for dense inputs only where there are any; for lists too, unless `new_lists`.
    """

    def larger(engine: EngineConfig) -> EngineConfig:
        return replace(
            engine,
            **MAX_ROWS,
            dense_values=MAX_VALUES if engine.dense_values else 0,
            list_entries=MAX_ENTRIES if engine.list_entries or new_lists else 0,
        )

    return replace(core, engines=tuple(map(larger, core.engines)))


def _period(network: Network, core: CoreConfig) -> float:
    try:
        return schedule(place(network, core)).period
    except CompileError:
        return math.inf


def power_of_two(rows: int, least: int = 1) -> int:
    """The smallest power of two that is no less than either."""
    return max(least, 1 << (rows - 1).bit_length())


def _tables(placed: Sequence[PlacedLayer]) -> dict[str, int]:
    """Rows of an engine's tables, by the field that gives their depth."""
    return {
        "weight_rows": max(layer.weight_base + layer.plan.weight_rows for layer in placed),
        "slot_rows": max(layer.slot_base + layer.plan.slots for layer in placed),
        "requantise_rows": max(
            max(layer.requantise_base + layer.requantise_rows for layer in placed),
            max(layer.gather_base + layer.vector_rows for layer in placed),
        ),
        "tables": sum(layer.table is not None for layer in placed),
        "layers": len(placed),
    }


def _dense_values(placed: Iterable[PlacedLayer]) -> int:
    """Values of a lane's dense input memory with two buffers, 0 if no layer reads the input."""
    sources = [layer.source for layer in placed if layer.source.emission is None]
    return sum(2 * source.size for source in sources)


def _list_entries(placed: Iterable[PlacedLayer], *, most_buffers: int = 2) -> int:
    """Entries of a lane's list memory, 0 if no layer reads lists."""
    sources = [layer.source for layer in placed if layer.source.emission is not None]
    return sum(min(most_buffers, source.buffers) * source.size for source in sources)


def _fitted(engine: EngineConfig, placement: Placement, number: int) -> EngineConfig:
    """An engine with memories as large as its tables; those that only decide waits stay."""
    placed = placement.on_engine(number)
    tables = _tables(placed)
    tables |= {name: power_of_two(tables[name], least) for name, least in MIN_ROWS.items()}
    values, entries = _dense_values(placed), _list_entries(placed)
    return replace(
        engine,
        **tables | {"layers": max(MIN_LAYERS, len(placed))},
        weight_memory="distributed" if tables["weight_rows"] <= SHALLOW else engine.weight_memory,
        dense_values=power_of_two(values) if engine.dense_values else 0,
        list_entries=power_of_two(entries) if engine.list_entries else 0,
        sum_bits=max(sum_bits(layer.plan) for layer in placed),
    )


def _larger_and_larger(
    engine: EngineConfig, name: str, placement: Placement, number: int
) -> Iterable[EngineConfig]:
    """An engine with more and more of one memory."""
    placed = placement.on_engine(number)
    if name == "list_entries":
        if not engine.list_entries:
            return
        sizes = (power_of_two(_list_entries(placed, most_buffers=n)) for n in (1, 2))
    else:
        longest = max(layer.vector_rows for layer in placed)
        least = {
            "queue_beats": power_of_two(2 * engine.beats, MIN_QUEUE),
            "reorder_rows": power_of_two(max(longest, 2 * engine.select_rows), MIN_REORDER),
        }[name]
        sizes = (least << i for i in range((getattr(engine, name) // least).bit_length()))
    for size in sizes:
        yield replace(engine, **{name: size})


def sum_bits(plan: LayerPlan) -> int:
    """Width of a sum of any weights of eight bits where the layer has weights; even."""
    bits = MIN_SUM_BITS
    for value in (MIN_WEIGHT, MAX_WEIGHT):
        weights = plan.layer.weights.with_values(np.full(plan.layer.nonzeros, value))
        least, most = reachable_sums(replace(plan.layer, weights=weights), plan.feed.survivors)
        for low, high in zip(least.tolist(), most.tolist(), strict=True):
            bits = max(bits, (-low - 1).bit_length() + 1, high.bit_length() + 1)
    return bits + bits % 2
