"""Check that a device image fits its hardware: every block fills a memory that exists."""

from collections.abc import Sequence

from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_format.image import ABI_VERSION, HEADER, Block, Target
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
from trencadis_format.map_config import MapConfig
from trencadis_format.map_tables import ADD, MAP_LAYER, MAP_PROGRAM
from trencadis_format.widths import KEY_BITS, MAP_COUNT

__all__ = ["check_blocks"]


def check_blocks(blocks: Sequence[Block], kernel: KernelConfig) -> None:
    """Check blocks before anything is made of their rows.

    Raises
    ------
    ValueError
        If the image was built for another configuration, or a block does not fit its memory.
    """
    header = HEADER.pack(version=ABI_VERSION, configuration=kernel.digest)
    if blocks[0].target != Target.HEADER or list(blocks[0].rows) != [header]:
        raise ValueError("the image was built for another configuration")
    feeds = inputs = sparse = 0
    for block in blocks[1:]:
        name = f"block {block.target.name} of engine {block.engine}, unit {block.unit}"
        if block.target in (Target.CLEAR, Target.END):
            if block.rows:
                raise ValueError(f"{name} has rows")
            continue
        if block.target == Target.HEADER:
            raise ValueError(f"{name} is not the first")
        bits, units, depth = _memory_of(block, kernel.core, name)
        if block.unit >= units:
            raise ValueError(f"{name}: there are {units} units")
        if block.start + len(block.rows) > depth:
            raise ValueError(f"{name}: rows to {block.start + len(block.rows)} of {depth}")
        if block.rows and block.row_bits != -(-bits // 32) * 32:
            raise ValueError(f"{name}: rows of {block.row_bits} bits instead of {bits}")
        if any(row >> bits for row in block.rows):
            raise ValueError(f"{name}: a row is longer than {bits} bits")
        feeds += len(block.rows) * (block.target == Target.FEED)
        inputs += len(block.rows) * (block.target == Target.INPUT)
        if block.target == Target.FEED:
            sparse += sum(FEED.unpack(row)["sparse"] for row in block.rows)
    if feeds != 1:
        raise ValueError("the image does not describe its input once")
    if inputs != sparse:
        raise ValueError("the image does not say how its input is written")
    if sparse and not kernel.core.sparse_input:
        raise ValueError("its input is sparse, which the hardware does not take")


def _memory_of(block: Block, core: CoreConfig, name: str) -> tuple[int, int, int]:
    """Bits of a row, units that have a block's memory, and its rows."""
    engines = len(core.engines) if core.map is None else 1
    if block.engine >= engines:
        raise ValueError(f"{name}: there are {engines} engines")
    if core.map is None:
        memories = _memories(core.engines[block.engine])
    else:
        memories = _map_memories(core.map)
    if block.target not in memories:
        raise ValueError(f"{name}: engines of this kind have no such memory")
    return memories[block.target]


def _map_memories(engine: MapConfig) -> dict[Target, tuple[int, int, int]]:
    return {
        Target.FEED: (FEED.bits, 1, 1),
        Target.MAP_PROGRAM: (MAP_PROGRAM.bits, 1, 1),
        Target.MAP_LAYER: (MAP_LAYER.bits, 1, engine.layers),
        Target.ADD: (ADD.bits, 1, engine.layers),
        Target.WEIGHT: (engine.weight_bits, engine.lanes, engine.weight_rows),
        Target.REQUANTISE: (REQUANTISE.bits, engine.tiles, engine.requantise_rows),
        Target.TABLE: (KEY_BITS, 1, engine.tables << KEY_BITS),
    }


def _memories(engine: EngineConfig) -> dict[Target, tuple[int, int, int]]:
    width = engine.requantisers
    return {
        Target.FEED: (FEED.bits, 1, 1),
        Target.PROGRAM: (PROGRAM.bits, 1, 1),
        Target.SEQUENCE: (SEQUENCE.bits, 1, engine.layers),
        Target.SERIALISE: (SERIALISE.bits, 1, engine.layers),
        Target.SELECT: (SELECT.bits, 1, engine.layers),
        Target.EMIT: (EMIT.bits, 1, engine.layers),
        Target.SLOT: (SLOT.bits, engine.lanes, engine.slot_rows),
        Target.REGION: (REGION.bits, engine.lanes, MAP_COUNT),
        Target.WEIGHT: (engine.weight_bits, engine.lanes, engine.weight_rows),
        Target.REQUANTISE: (REQUANTISE.bits, width, engine.requantise_rows),
        Target.SCATTER: (scatter_record(width).bits, 1, engine.requantise_rows),
        Target.GATHER: (gather_record(width).bits, 1, engine.requantise_rows),
        Target.INPUT: (EMIT.bits, 1, 1),
        Target.TABLE: (KEY_BITS, 1, engine.tables << KEY_BITS),
    }
