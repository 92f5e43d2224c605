"""Latencies that the compiler's prediction rests on; the RTL is tested against them."""

from dataclasses import dataclass
from typing import Self

from trencadis_hw.config import EngineConfig

__all__ = [
    "BORDER",
    "CREDIT_DELAY",
    "ENDED_DELAY",
    "LAYER_OVERHEAD",
    "RELEASE_DELAY",
    "WORD_OVERHEAD",
    "EngineTiming",
]

LAYER_OVERHEAD = 2
"""Cycles between the last issue of a layer (and its tail) and the first of the next."""

RELEASE_DELAY = 7
"""Cycles from the last issue of a layer until the map it has read may be written again."""

BORDER = 1
"""Cycles from an engine to the next, for a list entry."""

ENDED_DELAY = 7
"""Cycles from the issue of an entry until the sequencer knows that all lists have ended."""

CREDIT_DELAY = 3
"""Cycles from a beat's arrival at the queue until the sequencer counts its place as free."""

WORD_OVERHEAD = 1
"""Cycles that a new round through the program takes."""


@dataclass(frozen=True)
class EngineTiming:
    """Cycles that work spends in the parts of an engine.

    Attributes
    ----------
    array : int
        From an issue to the first beat of its sums.
    requantise : int
        From the queue to the reorder memory.
    reorder : int
        From a vector's last key to its first row.
    write : int
        From an emitted entry until the next layer may read the map.
    """

    array: int
    requantise: int
    reorder: int
    write: int

    @classmethod
    def of(cls, config: EngineConfig) -> Self:
        """The latencies of a configuration."""
        levels = max(0, (config.group_lanes - 1).bit_length())
        if config.routing == "banked":
            array = 3 + 3 + levels + (config.groups > 1)
        else:
            array = 3 + 1 + levels + 1
        return cls(array=1 + 5 + 2 + array, requantise=11 + (config.tables > 0), reorder=4, write=7)
