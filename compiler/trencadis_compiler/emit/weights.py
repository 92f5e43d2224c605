"""Tables of a layer's lanes: what every slot reads, and the weights it meets."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_compiler.mapping.deal import Reading
from trencadis_compiler.mapping.place import PlacedLayer, Placement, slot_addresses
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_format.image import Block, Target
from trencadis_format.layer_tables import REGION, SLOT, Emission, weight_record
from trencadis_format.rows import pack_rows
from trencadis_format.widths import MAP_COUNT

__all__ = ["lane_blocks", "region_blocks"]

Array = npt.NDArray[np.int64]

_LISTS = (Emission.LISTS, Emission.TERMINATED)


def region_blocks(placement: Placement, engine: int) -> Iterator[Block]:
    """Regions of every map that the lanes of an engine keep."""
    config = placement.core.engines[engine]
    if not config.list_entries:
        return
    sources = {placed.source.number: placed.source for placed in placement.on_engine(engine)}
    for lane in range(config.lanes):
        rows = []
        for number in range(MAP_COUNT):
            lows = sources[number].lows if number in sources else ()
            rows.append(REGION.pack(low=lows[lane] if lows else 0))
        yield Block(Target.REGION, rows, REGION.bits, engine=engine, unit=lane)


def lane_blocks(placed: PlacedLayer) -> Iterator[Block]:
    """Slots and weights of every lane."""
    plan, config = placed.plan, placed.config
    where = {"engine": placed.engine}
    width = placed.source.row_step // placed.source.pitch
    addresses = slot_addresses(plan, width)
    rows = weight_rows(plan)
    for lane in range(config.lanes):
        in_group = lane % len(plan.lanes)
        low = placed.source.lows[lane] if placed.source.emission in _LISTS else 0
        slots = []
        units = plan.lanes[in_group]
        for i in range(plan.slots):
            valid = i < len(units) and units[i] is not None
            offset = addresses[in_group][i] - low if valid else 0
            if plan.reading is Reading.OWNED:
                offset = 0
            slots.append(SLOT.pack(offset=offset, valid=valid))
        yield Block(Target.SLOT, slots, SLOT.bits, unit=lane, start=placed.slot_base, **where)
        yield Block(
            Target.WEIGHT,
            rows.of_lane(lane),
            config.weight_bits,
            unit=lane,
            start=placed.weight_base,
            **where,
        )


@dataclass(frozen=True)
class WeightRows:
    """Places of the non-zeros of a layer, ordered by lane.

    Attributes
    ----------
    plan : LayerPlan
        The layer.
    starts : int64 array, shape (lanes + 1,)
        The non-zeros of lane i are those from `starts[i]` to `starts[i + 1]`.
    row, column, owner, value : int64 arrays, shape (non-zeros,)
        Row of the lane's memory, tile of the row, kernel of the tile, and weight.
    """

    plan: LayerPlan
    starts: Array
    row: Array
    column: Array
    owner: Array
    value: Array

    def of_lane(self, lane: int) -> list[int]:
        """Rows of a lane's weight memory: by pass, slot and channel."""
        config = self.plan.config
        mine = slice(self.starts[lane], self.starts[lane + 1])
        shape = (config.tiles, self.plan.weight_rows)
        weights, owners = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        where = self.column[mine], self.row[mine]
        weights[where], owners[where] = self.value[mine], self.owner[mine]
        # What the odd tile of a pair lends to the even one.
        weights[1::2] -= weights[0::2] < 0
        columns = {}
        for tile in range(config.tiles):
            columns[f"weight{tile}"], columns[f"kernel{tile}"] = weights[tile], owners[tile]
        return pack_rows(weight_record(config.tiles, config.kernel_bits), columns)


def weight_rows(plan: LayerPlan) -> WeightRows:
    """Give every non-zero of a layer its lane and row."""
    kernels, config = plan.layer.weights, plan.config
    tile_of, owner_of = _tiles_of(plan)
    channel, position = np.divmod(kernels.places, kernels.window)
    tile, owner = tile_of[kernels.kernel], owner_of[kernels.kernel]
    copy = _copies(tile * kernels.length + kernels.places, owner)
    number, in_pass = np.divmod(tile, plan.tiles_per_round)
    group, column = np.divmod(in_pass, config.tiles)
    found = []
    # Groups share tiles if they are combined; lanes that share a position have all its weights.
    for lane, slots in enumerate(plan.lanes):
        for slot, unit in enumerate(slots):
            if unit is None:
                continue
            chosen = (position == unit.position) & (copy == unit.copy)
            start = 0
            if plan.reading is Reading.OWNED:
                start = unit.part * plan.block
                chosen &= (channel >= start) & (channel < start + plan.block)
            which = np.flatnonzero(chosen)
            row = (number[which] * plan.slots + slot) * plan.block + channel[which] - start
            found.append((lane + group[which] * len(plan.lanes), row, which))
    lanes, rows, which = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(lanes, kind="stable")
    which = which[order]
    starts = np.searchsorted(lanes[order], np.arange(config.lanes + 1))
    values = kernels.values[which].astype(np.int64)
    return WeightRows(plan, starts, rows[order], column[which], owner[which], values)


def _tiles_of(plan: LayerPlan) -> tuple[Array, Array]:
    """The tile of every kernel, and its number there."""
    kernels = len(plan.layer.weights)
    tile_of, owner_of = np.zeros(kernels, np.int64), np.zeros(kernels, np.int64)
    for number, tile in enumerate(plan.packing.tiles):
        tile_of[list(tile)] = number
        owner_of[list(tile)] = np.arange(len(tile))
    return tile_of, owner_of


def _copies(place: Array, owner: Array) -> Array:
    """Rank of each among the weights in the same place of a tile, by their kernels' numbers."""
    order = np.lexsort((owner, place))
    ordered = place[order]
    copies = np.empty(len(place), np.int64)
    copies[order] = np.arange(len(place)) - np.searchsorted(ordered, ordered)
    return copies
