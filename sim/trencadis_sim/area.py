"""What an engine takes, without synthesising it: for searches over many.

Multipliers and large memories are counted. Other logic is a sum over what an engine is made of,
with weights fitted to the blocks that Yosys synthesised (docs/performance.md says how well).
"""

import math

from trencadis_hw.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_hw.flows.estimate import core_memories
from trencadis_hw.flows.inventory import Memory, block_rams, ultra_rams

__all__ = ["Area", "engine_area", "kernel_area"]

Area = dict[str, float]
"""Amounts by resource, as in `trencadis_sim.netlist.RESOURCES`."""

DSPS_A_REQUANTISER = 2

LANE = {"lut": 95.0, "ff": 110.0}
"""A lane, every word."""
COLUMN = {"lut": 3.5, "ff": 3.0}
"""A bit of a column: pooling, the queue and the choice among columns, every word."""
REQUANTISER = {"lut": 420.0, "ff": 700.0}
"""A requantiser and its share of ordering, selecting and emitting, every word."""
ENGINE = {"lut": 900.0, "ff": 900.0}
"""An engine's sequencer and tokens."""
WORD = {"lut": 900.0, "ff": 1100.0}
"""An engine's selectors and emitters, every word."""
KERNEL = {"lut": 2600.0, "ff": 5200.0}
"""What is around the cores, at 64 bits; and how it grows with the bus."""
BUS_BIT = {"lut": 3.0, "ff": 4.0}


def engine_area(engine: EngineConfig, words: int) -> Area:
    """What an engine takes for `words` words in lockstep."""
    total: Area = {
        "dsp": words * (engine.multipliers / 2 + DSPS_A_REQUANTISER * engine.requantisers),
        "bram36": 0.0,
        "uram": 0.0,
    }
    for name in ("lut", "ff"):
        each_word = (
            engine.multipliers * _multiplier(engine)[name]
            + engine.lanes * LANE[name]
            + engine.columns * engine.sum_bits * COLUMN[name]
            + engine.requantisers * REQUANTISER[name]
            + WORD[name]
        )
        total[name] = ENGINE[name] + words * each_word
    if engine.weight_memory == "distributed":
        # 8 LUTs hold 14 bits of 32 rows, read at one place.
        copies = 8 / 14 * engine.weight_bits * math.ceil(engine.weight_rows / 32)
        total["lut"] += words * engine.lanes * copies
    core = CoreConfig(engines=(engine,), words=words)
    for memory, count in core_memories(KernelConfig(core=core)).items():
        if memory.style == "ultra":
            total["uram"] += count * ultra_rams(memory)
        elif words == 2 and memory.bits == engine.weight_bits:
            # Both ports read: half the width of a memory that reads at one and writes at the other.
            total["bram36"] += count * _two_ports(memory)
        else:
            total["bram36"] += count * block_rams(memory, 36)
    return total


def kernel_area(kernel: KernelConfig) -> Area:
    """What is around the cores."""
    return {name: KERNEL[name] + BUS_BIT[name] * kernel.bus_bits for name in ("lut", "ff")}


def _multiplier(engine: EngineConfig) -> Area:
    """Logic of a multiplier with its part of the trees."""
    if engine.routing == "trees":
        width = engine.sum_bits
        # A tree for every kernel, its first rank of registers, and the kernel ID.
        return {"lut": 1 + engine.kernels * width, "ff": 8 + 2.0 * engine.kernels * width}
    # Sum, bank of accumulators, and the tree; Yosys leaves a rank of registers outside of DSPs.
    memory = 8 / 14 * 2 * engine.sum_bits * math.ceil(2 * engine.kernels / 32)
    return {"lut": 2 * engine.sum_bits + memory, "ff": 60 + 2.0 * engine.sum_bits}


def _two_ports(memory: Memory) -> float:
    """Block memories of 36 Kbit, or halves of them, read at both ports."""
    shapes = ((18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
    halves = min(math.ceil(memory.bits / w) * math.ceil(memory.depth / d) for w, d in shapes)
    whole = ((36, 1024), (18, 2048), (9, 4096), (4, 8192), (2, 16384), (1, 32768))
    wholes = min(math.ceil(memory.bits / w) * math.ceil(memory.depth / d) for w, d in whole)
    return min(halves / 2, wholes)
