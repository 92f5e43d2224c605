"""Deals of the units of work in a window to the lanes of an engine."""

import functools
import math
from dataclasses import dataclass
from enum import Enum

__all__ = ["Deal", "Reading", "Unit"]

Lanes = tuple[tuple["Unit | None", ...], ...]


class Reading(Enum):
    """Way in which the lanes share the work of a window."""

    DENSE = "dense"
    """Every lane reads positions of the dense input."""
    LISTS = "lists"
    """Every lane reads the lists of some positions, or of every n-th entry of one."""
    OWNED = "owned"
    """Every lane has a list of its own, of the channels it owns."""


@dataclass(frozen=True)
class Unit:
    """Work of a lane in a slot: a window position, and which of the colliding weights there.

    `part` of `parts`: it takes entries part, part + parts, ... of the list, or (`Reading.OWNED`)
    the channels of that block. `window`: 1 if the window is the right one of a pair.
    """

    position: int
    copy: int
    part: int
    window: int = 0


@dataclass(frozen=True)
class Deal:
    """Units of a window, and the lanes that they are dealt to: equal deals are equal lanes.

    Attributes
    ----------
    reading : Reading
        How lanes share a window.
    positions : int
        Positions of the window.
    copies : int
        Weight rows that every position has for an input.
    parts : int
        Lanes that share a position.
    lanes : int
        Lanes of a group (all lanes, if groups are combined).
    paired : bool
        A step is two windows side by side, which share the middle slot: half of the lanes each.
    """

    reading: Reading
    positions: int
    copies: int
    parts: int
    lanes: int
    paired: bool = False

    @property
    def slots(self) -> int:
        """Slots of the busiest lane."""
        if self.paired:
            return 2 * self._own_slots + 1
        if self.reading is Reading.OWNED:
            return self.copies
        return math.ceil(self.positions * self.copies * self.parts / self.lanes)

    @property
    def units(self) -> Lanes:
        """The slots of every lane, with None where a lane of a pair has nothing to do."""
        return _paired(self) if self.paired else _dealt(self)

    @property
    def _own_slots(self) -> int:
        """Slots of a pair that are of one window alone; at least one."""
        work = self.positions * self.copies
        return max(1, math.ceil((work - self.lanes // 2) / self.lanes))


@functools.lru_cache(maxsize=1 << 12)
def _dealt(deal: Deal) -> Lanes:
    """Give every lane its units, neighbours together: a lane keeps one stretch of the map."""
    if deal.reading is Reading.OWNED:
        # All copies of a block are slots of the lane that owns it.
        units = tuple(
            tuple(Unit(0, copy, part) for copy in range(deal.copies)) for part in range(deal.parts)
        )
        return units + ((),) * (deal.lanes - deal.parts)
    work = [
        Unit(position, copy, part)
        for position in range(deal.positions)
        for copy in range(deal.copies)
        for part in range(deal.parts)
    ]
    share = deal.slots
    return tuple(tuple(work[i * share : (i + 1) * share]) for i in range(deal.lanes))


@functools.lru_cache(maxsize=1 << 12)
def _paired(deal: Deal) -> Lanes:
    """Give every lane its units of two windows side by side.

    Slots are the first window's, one for both, and the second window's; as many of the first as of
    the second, and at least one.
    """
    lanes, whole = deal.lanes, deal._own_slots
    work = [(position, copy) for position in range(deal.positions) for copy in range(deal.copies)]
    slots: list[list[Unit | None]] = [[None] * deal.slots for _ in range(lanes)]
    for window, shared in enumerate((range(lanes // 2), range(lanes // 2, lanes))):
        own = range(window * (whole + 1), window * (whole + 1) + whole)
        places = [(lane, slot) for slot in own for lane in range(lanes)]
        places += [(lane, whole) for lane in shared]
        for (lane, slot), (position, copy) in zip(places, work, strict=False):
            slots[lane][slot] = Unit(position, copy, 0, window)
    return tuple(tuple(lane) for lane in slots)
