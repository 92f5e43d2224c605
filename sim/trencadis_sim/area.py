"""What an engine takes, without synthesising it: for searches over many.

Multipliers and large memories are counted. Other logic is a sum over what an engine is made of,
with weights fitted to the blocks that Yosys made of the boards' cores, which it is tested against.
"""

import math

from trencadis_hw.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_hw.flows.estimate import core_memories
from trencadis_hw.flows.inventory import Memory, block_rams, ultra_rams

__all__ = ["Area", "core_area", "engine_area", "kernel_area"]

Area = dict[str, float]
"""Amounts by resource, as in `trencadis_sim.netlist.RESOURCES`."""

DSPS_A_REQUANTISER = 2

CARRY_LUTS = 18
"""Of a product and its carry."""

DENSE_LANE = {"lut": 20.0, "ff": 40.0}
"""A lane that reads the network's input, every word."""
LIST_LANE = {"lut": 80.0, "ff": 145.0}
"""A lane that reads lists, every word."""
COLUMN = {"lut": 3.5, "ff": 3.0}
"""A bit of a column: pooling, the queue and the choice among columns, every word."""
REQUANTISER = {"lut": 183.0, "ff": 304.0}
"""A requantiser and its share of ordering, selecting and emitting, every word."""
OUTPUT = {"lut": 1925.0, "ff": 909.0}
"""An output stage besides, every word."""
WHOLE = {"lut": 905.0, "ff": 897.0}
"""The selector of whole layers and its emitter, every word."""
ENGINE = {"lut": 1050.0, "ff": 1190.0}
"""An engine's sequencer, tokens and buses."""
TRANSFER = {"lut": 520.0, "ff": 150.0}
"""What brings a word's input in and its output out, every word; and how it grows with the bus."""
TRANSFER_BIT = {"lut": 2.7, "ff": 2.0}
KERNEL = {"lut": 2460.0, "ff": 2840.0}
"""What is around the cores; and how it grows with the bus."""
BUS_BIT = {"lut": 4.9, "ff": 2.9}


def core_area(kernel: KernelConfig) -> Area:
    """What a core of a kernel takes."""
    core = kernel.core
    total: Area = {
        name: core.words * (TRANSFER[name] + TRANSFER_BIT[name] * kernel.bus_bits)
        for name in ("lut", "ff")
    }
    for engine in core.engines:
        for name, amount in engine_area(engine, core.words).items():
            total[name] = total.get(name, 0) + amount
    return total


def engine_area(engine: EngineConfig, words: int) -> Area:
    """What an engine takes for `words` words in lockstep."""
    total: Area = {
        "dsp": words * (engine.multipliers / 2 + DSPS_A_REQUANTISER * engine.requantisers),
        "bram36": 0.0,
        "uram": 0.0,
    }
    lane = LIST_LANE if engine.list_entries else DENSE_LANE
    for name in ("lut", "ff"):
        each_word = (
            engine.multipliers * _multiplier(engine)[name]
            + engine.lanes * lane[name]
            + engine.columns * engine.sum_bits * COLUMN[name]
            + engine.requantisers * REQUANTISER[name]
            + OUTPUT[name]
            + (WHOLE[name] if engine.whole_rows else 0)
        )
        total[name] = ENGINE[name] + words * each_word
    if engine.routing == "split-trees":
        # An adder for the carry of one lane's odd tiles, and half a tree's sum of every column.
        total["lut"] += words * CARRY_LUTS * engine.tiles / 2
        total["ff"] += words * engine.columns * engine.sum_bits
    # A register behind a weight memory, and one inside of it.
    distributed = engine.weight_memory == "distributed"
    total["ff"] += words * engine.lanes * engine.weight_bits * (2 if distributed else 1)
    if distributed:
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
    if engine.routing != "banked":
        width = engine.sum_bits
        # A tree for every kernel, its first rank of registers, and the kernel ID; Yosys leaves
        # registers outside of DSPs.
        return {"lut": 1 + engine.kernels * width, "ff": 48 + 2.0 * engine.kernels * width}
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
