"""The size of a device image, and the cycles in which it is loaded, before it is assembled."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from trencadis_compiler.mapping.place import PlacedLayer, Placement
from trencadis_format.image import HEADER
from trencadis_format.layer_tables import (
    EMIT,
    FEED,
    PROGRAM,
    REGION,
    REQUANTISE,
    SELECT,
    SEQUENCE,
    SERIALISE,
    SLOT,
    gather_record,
    scatter_record,
)
from trencadis_format.widths import KEY_BITS, MAP_COUNT

__all__ = ["ImageSizes", "image_bytes", "load_cycles"]

Size = tuple[int, int]
"""Rows of a block, and bits of a row."""

ROW_BYTES = 96
"""Bytes of memory that a row of a block takes while its image is made."""

NONZERO_BYTES = 200
"""Bytes of memory that a non-zero takes while its image is made."""

HEADER_BYTES = 16
"""Bytes of a block's header, and what its rows are padded to."""

BLOCK_CYCLES = 3
"""Cycles that a block takes besides one per 32-bit word."""

START_CYCLES = 44
"""Cycles until the first block arrives, and after the last one."""


@dataclass(frozen=True)
class ImageSizes:
    """Sizes of device images that are going to be made.

    Attributes
    ----------
    count : int
        Images.
    total_bytes : int
        Bytes of all of them: of a file, all but what describes them.
    peak_bytes : int
        Bytes of memory while they are made, about, besides what is taken already.
    """

    count: int
    total_bytes: int
    peak_bytes: int

    @classmethod
    def of(cls, placements: Sequence[Placement]) -> Self:
        """The sizes of the images of placed networks."""
        total = sum(map(image_bytes, placements))
        largest = max(map(_making_bytes, placements), default=0)
        # All images are held, and those of a segment are joined to be written.
        return cls(len(placements), total, 2 * total + largest)


def _making_bytes(placement: Placement) -> int:
    rows = sum(rows for rows, _ in _blocks(placement))
    nonzeros = max(placed.layer.nonzeros for placed in placement.layers)
    return ROW_BYTES * rows + NONZERO_BYTES * nonzeros


def image_bytes(placement: Placement) -> int:
    """Bytes of the device image of a placed network."""
    return sum(map(_block_bytes, _blocks(placement)))


def load_cycles(placement: Placement) -> int:
    """Cycles in which the image is loaded: a 32-bit word each, and the maps are cleared."""
    blocks = list(_blocks(placement))
    depth = max(max(e.dense_values, e.list_entries) for e in placement.core.engines)
    words = sum(map(_block_bytes, blocks)) // 4
    return words + BLOCK_CYCLES * len(blocks) + depth + START_CYCLES


def _block_bytes(size: Size) -> int:
    rows, bits = size
    payload = rows * 4 * math.ceil(bits / 32)
    return HEADER_BYTES + math.ceil(payload / HEADER_BYTES) * HEADER_BYTES


def _blocks(placement: Placement) -> Iterator[Size]:
    yield 1, HEADER.bits
    yield 0, 0  # clear
    yield 1, FEED.bits
    if not placement.input_reader.feed.dense:
        yield 1, EMIT.bits
    for engine, config in enumerate(placement.core.engines):
        placed = placement.on_engine(engine)
        yield 1, PROGRAM.bits
        for record in (SEQUENCE, SERIALISE, SELECT, EMIT):
            yield len(placed), record.bits
        for layer in placed:
            yield from _layer_blocks(layer)
        if config.list_entries:
            yield from [(MAP_COUNT, REGION.bits)] * config.lanes
    yield 0, 0  # end


def _layer_blocks(placed: PlacedLayer) -> Iterator[Size]:
    plan, config = placed.plan, placed.config
    for _ in range(config.lanes):
        yield plan.slots, SLOT.bits
        yield plan.weight_rows, config.weight_bits
    if plan.layer.requantised is not None:
        yield from [(placed.requantise_rows, REQUANTISE.bits)] * config.requantisers
        yield placed.requantise_rows, scatter_record(config.requantisers).bits
        yield placed.vector_rows, gather_record(config.requantisers).bits
    if placed.table is not None:
        yield 1 << KEY_BITS, KEY_BITS
