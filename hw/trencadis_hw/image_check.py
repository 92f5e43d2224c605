"""Whether a device image fits the hardware it is for: every block a memory that is there."""

from collections.abc import Sequence

from trencadis_hw import abi
from trencadis_hw.config import EngineConfig, KernelConfig

__all__ = ["check_blocks"]


def check_blocks(blocks: Sequence[abi.Block], kernel: KernelConfig) -> None:
    """Check blocks before anything is made of their rows.

    Raises
    ------
    ValueError
        If the image was built for another configuration, or a block does not fit its memory.
    """
    header = abi.HEADER.pack(version=abi.ABI_VERSION, configuration=kernel.digest)
    if blocks[0].target != abi.Target.HEADER or list(blocks[0].rows) != [header]:
        raise ValueError("the image was built for another configuration")
    feeds = inputs = sparse = 0
    for block in blocks[1:]:
        name = f"block {block.target.name} of engine {block.engine}, unit {block.unit}"
        if block.target in (abi.Target.CLEAR, abi.Target.END):
            if block.rows:
                raise ValueError(f"{name} has rows")
            continue
        if block.target == abi.Target.HEADER:
            raise ValueError(f"{name} is not the first")
        if block.engine >= len(kernel.core.engines):
            raise ValueError(f"{name}: there are {len(kernel.core.engines)} engines")
        bits, units, depth = _memory(block.target, kernel.core.engines[block.engine])
        if block.unit >= units:
            raise ValueError(f"{name}: there are {units} units")
        if block.start + len(block.rows) > depth:
            raise ValueError(f"{name}: rows to {block.start + len(block.rows)} of {depth}")
        if block.rows and block.row_bits != -(-bits // 32) * 32:
            raise ValueError(f"{name}: rows of {block.row_bits} bits instead of {bits}")
        if any(row >> bits for row in block.rows):
            raise ValueError(f"{name}: a row is longer than {bits} bits")
        feeds += len(block.rows) * (block.target == abi.Target.FEED)
        inputs += len(block.rows) * (block.target == abi.Target.INPUT)
        if block.target == abi.Target.FEED:
            sparse += sum(abi.FEED.unpack(row)["sparse"] for row in block.rows)
    if feeds != 1:
        raise ValueError("the image does not describe its input once")
    if inputs != sparse:
        raise ValueError("the image does not say how its input is written")
    if sparse and not kernel.core.sparse_input:
        raise ValueError("its input is sparse, which the hardware does not take")


def _memory(target: abi.Target, engine: EngineConfig) -> tuple[int, int, int]:
    """Bits of a row, units that have the memory, and its rows."""
    width = engine.requantisers
    return {
        abi.Target.FEED: (abi.FEED.bits, 1, 1),
        abi.Target.PROGRAM: (abi.PROGRAM.bits, 1, 1),
        abi.Target.SEQUENCE: (abi.SEQUENCE.bits, 1, engine.layers),
        abi.Target.SERIALISE: (abi.SERIALISE.bits, 1, engine.layers),
        abi.Target.SELECT: (abi.SELECT.bits, 1, engine.layers),
        abi.Target.EMIT: (abi.EMIT.bits, 1, engine.layers),
        abi.Target.SLOT: (abi.SLOT.bits, engine.lanes, engine.slot_rows),
        abi.Target.REGION: (abi.REGION.bits, engine.lanes, abi.MAP_COUNT),
        abi.Target.WEIGHT: (engine.weight_bits, engine.lanes, engine.weight_rows),
        abi.Target.REQUANTISE: (abi.REQUANTISE.bits, width, engine.requantise_rows),
        abi.Target.SCATTER: (abi.scatter_record(width).bits, 1, engine.requantise_rows),
        abi.Target.GATHER: (abi.gather_record(width).bits, 1, engine.requantise_rows),
        abi.Target.INPUT: (abi.EMIT.bits, 1, 1),
        abi.Target.TABLE: (abi.KEY_BITS, 1, engine.tables << abi.KEY_BITS),
    }[target]
