"""List addresses and the part of a map that every lane keeps."""

import functools
from dataclasses import dataclass
from typing import Self

from trencadis_compiler.mapping.deal import Deal, Reading, Unit
from trencadis_compiler.mapping.plan import LayerPlan

__all__ = ["kept_regions", "map_size", "slot_addresses"]


def map_size(plan: LayerPlan) -> int:
    """Entries of a lane's memory that one buffer of the layer's input map takes."""
    height, width = plan.layer.padded_shape
    if plan.reading is Reading.DENSE:
        return height * width * plan.feed.channels
    if plan.reading is Reading.OWNED:
        return height * width * plan.pitch
    _, size = kept_regions(plan, width)
    return size


def kept_regions(plan: LayerPlan, width: int) -> tuple[tuple[int, ...], int]:
    """The region table's entry of every lane, and the entries of the map a lane keeps."""
    copies = 1 if plan.combine else plan.config.groups
    if plan.reading is Reading.OWNED:
        return tuple(range(plan.deal.lanes)) * copies, plan.pitch
    rows, columns = plan.layer.conv_shape
    down, right = plan.layer.stride
    last_window = ((rows - 1) * down * width + (columns - 1) * right) * plan.pitch
    last_entry = (plan.entries - 1) * plan.parts
    lows, spread = _kept(_Steps.of(plan, width))
    return lows * copies, spread + last_window + last_entry + 1


def slot_addresses(plan: LayerPlan, source_width: int) -> tuple[tuple[int, ...], ...]:
    """List address of each slot in the first step, for every lane of a group.

    A slot that a lane has nothing to do in has address 0.
    """
    return _addresses(_Steps.of(plan, source_width))


@dataclass(frozen=True)
class _Steps:
    """All that addresses of slots depend on: units, the window's columns, and steps of addresses.

    `beside` is from a window to the right one of its pair.
    """

    deal: Deal
    columns: int
    down: int
    right: int
    beside: int

    @classmethod
    def of(cls, plan: LayerPlan, width: int) -> Self:
        pitch = plan.feed.channels if plan.reading is Reading.DENSE else plan.pitch
        down, right = plan.layer.dilation
        return cls(
            plan.deal,
            plan.layer.weights.shape[3],
            down * width * pitch,
            right * pitch,
            plan.layer.stride[1] * pitch,
        )


@functools.lru_cache(maxsize=1 << 12)
def _addresses(steps: _Steps) -> tuple[tuple[int, ...], ...]:
    lists = steps.deal.reading is Reading.LISTS

    def address(unit: Unit | None) -> int:
        if unit is None:
            return 0
        row, column = divmod(unit.position, steps.columns)
        start = row * steps.down + column * steps.right + unit.window * steps.beside
        return start + unit.part if lists else start

    return tuple(tuple(map(address, units)) for units in steps.deal.units)


@functools.lru_cache(maxsize=1 << 12)
def _kept(steps: _Steps) -> tuple[tuple[int, ...], int]:
    """The first address of every lane, and the longest way from its first to its last one."""
    addresses = _addresses(steps)
    lows = tuple(min(lane, default=0) for lane in addresses)
    return lows, max(max(lane) - min(lane) for lane in addresses if lane)
