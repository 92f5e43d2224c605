"""Latencies that the compiler's prediction rests on; the RTL is tested against them."""

from dataclasses import dataclass
from typing import Self

from trencadis_format.config import EngineConfig

__all__ = [
    "BORDER",
    "BOUNDS_LATENCY",
    "CREDIT_DELAY",
    "ENDED_DELAY",
    "LANE_LATENCY",
    "LAYER_OVERHEAD",
    "LIST_WRITE_LATENCY",
    "LOOKUP_LATENCY",
    "MULTIPLY_LATENCY",
    "POOL_LATENCY",
    "RELEASE_DELAY",
    "REORDER_LATENCY",
    "REQUANTISE_LATENCY",
    "SAMPLE_OVERHEAD",
    "TABLE_LATENCY",
    "WEIGHT_LATENCY",
    "EngineTiming",
    "array_latency",
]

LANE_LATENCY = 5
"""Cycles from an issue at a lane to its activation."""

LOOKUP_LATENCY = 4
"""Cycles from an issue until what belongs to it is looked up."""

WEIGHT_LATENCY = 2
"""Cycles from the row of a weight memory to its weights."""

MULTIPLY_LATENCY = 3
"""Cycles from the operands of a multiplier to its products."""

POOL_LATENCY = 1
"""Cycles from a beat of sums to the pooled beat."""

REQUANTISE_LATENCY = 8
"""Cycles from a sum to its key."""

BOUNDS_LATENCY = 7
"""Cycles from a sum until the bounds of its key are needed."""

TABLE_LATENCY = 1
"""Cycles from a key to what an activation table gives for it."""

REORDER_LATENCY = 4
"""Cycles from a vector's last group of keys to its first row."""

LIST_WRITE_LATENCY = 4
"""Cycles from a list write on the lanes' bus until the entry can be read."""

LAYER_OVERHEAD = 2
"""Cycles between the last issue of a layer (and its tail) and the first of the next."""

RELEASE_DELAY = LANE_LATENCY + 2
"""Cycles from the last issue of a layer until the map it has read may be written again."""

BORDER = 1
"""Cycles from an engine to the next, for a list entry."""

ENDED_DELAY = LANE_LATENCY + 2
"""Cycles from the issue of an entry until the sequencer knows that all lists have ended."""

CREDIT_DELAY = 3
"""Cycles from a beat's arrival at the queue until the sequencer counts its place as free."""

SAMPLE_OVERHEAD = 1
"""Cycles that a new round through the program takes."""


@dataclass(frozen=True)
class EngineTiming:
    """Cycles that work spends in the parts of an engine.

    Attributes
    ----------
    array : int
        Cycles from an issue to the first beat of its sums.
    requantise : int
        Cycles from the queue to the reorder memory.
    reorder : int
        Cycles from a vector's last key to its first row.
    write : int
        Cycles from an emitted entry until the next layer may read the map.
    """

    array: int
    requantise: int
    reorder: int
    write: int

    @classmethod
    def of(cls, config: EngineConfig) -> Self:
        """The latencies of a configuration."""
        # The queue, the serialiser, the memory of parameters, the requantiser, the table.
        requantise = 3 + REQUANTISE_LATENCY + TABLE_LATENCY * (config.tables > 0)
        return cls(
            array=1 + LANE_LATENCY + WEIGHT_LATENCY + array_latency(config),
            requantise=requantise,
            reorder=REORDER_LATENCY,
            # To the lanes' bus, into the lists, to the count of full maps, to the sequencer.
            write=1 + LIST_WRITE_LATENCY + 1 + 1,
        )


def array_latency(config: EngineConfig) -> int:
    """Cycles from the last operands of a step to the first beat of its sums."""
    levels = max(0, (config.group_lanes - 1).bit_length())
    if config.routing == "banked":
        # The accumulator's readout, the lanes' tree, the difference, and the sum of the groups.
        return MULTIPLY_LATENCY + 2 + levels + 1 + (config.groups > 1)
    return MULTIPLY_LATENCY + 1 + levels + 1
