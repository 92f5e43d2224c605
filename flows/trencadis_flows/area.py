"""Area of a kernel on an UltraScale+ part, without synthesising it.

Multipliers and large memories are counted. Other logic is a sum over what an engine is made of,
with weights fitted to the blocks that Yosys made of the boards' cores, which it is tested against.
"""

import math
from collections import Counter

from trencadis_flows.inventory import Memory, block_rams, ultra_rams
from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_format.layer_tables import REQUANTISE, gather_record, scatter_record
from trencadis_format.widths import KEY_BITS, VALUE_BITS
from trencadis_hw.interface.lists import ENTRY
from trencadis_hw.output.reorder import DISTRIBUTED_ROWS, row_layout

__all__ = ["Area", "core_area", "core_memories", "engine_area", "kernel_area"]

Area = dict[str, float]
"""Amounts by resource, as in `trencadis_bench.synth.netlist.RESOURCES`."""

DSPS_PER_REQUANTISER = 2

CARRY_LUTS = 18
"""LUTs of a product and its carry."""

DENSE_LANE = {"lut": 20.0, "ff": 40.0}
"""A lane that reads the network's input, every sample."""
LIST_LANE = {"lut": 62.0, "ff": 145.0}
"""A lane that reads lists, every sample..."""
LIST_LANE_LUTS = 37.0
"""...and once for all samples."""
LISTS_LUTS = 130.0
"""Area of what writes lists, per sample in lockstep."""
COLUMN = {"lut": 2.0, "ff": 3.0}
"""A bit of a column: pooling, the queue and the choice among columns, every sample."""
REQUANTISER = {"lut": 335.0, "ff": 304.0}
"""A requantiser and its share of ordering, selecting and emitting, every sample."""
OUTPUT = {"lut": 1310.0, "ff": 909.0}
"""An output stage besides, every sample."""
WHOLE = {"lut": 70.0, "ff": 110.0}
"""The selector of whole layers and its emitter, every sample and requantiser."""
ENGINE = {"lut": 1050.0, "ff": 1190.0}
"""An engine's sequencer, tokens and buses, and what samples share of its output stage."""
DEEP_ROWS = 4096
"""Weight rows above which a memory is several, one after the other..."""
DEEP_LUTS = 1.1
"""...and every sample chooses among them, for every bit."""
SPLIT_FFS = 10.0
"""Flip-flops of a multiplier between split trees."""
TRANSFER = {"lut": 520.0, "ff": 150.0}
"""Area of input and output, per sample in lockstep, and its growth with the bus."""
TRANSFER_BIT = {"lut": 2.7, "ff": 2.0}
KERNEL = {"lut": 2460.0, "ff": 2840.0, "dsp": 2.0}
"""Area around the cores, and its growth with the bus."""
BUS_BIT = {"lut": 4.9, "ff": 2.9}


def core_area(kernel: KernelConfig) -> Area:
    """Estimate the area of a core of a kernel."""
    core = kernel.core
    total: Area = {
        name: core.batch_lanes * (TRANSFER[name] + TRANSFER_BIT[name] * kernel.bus_bits)
        for name in ("lut", "ff")
    }
    for engine in core.engines:
        for name, amount in engine_area(engine, core.batch_lanes).items():
            total[name] = total.get(name, 0) + amount
    return total


def engine_area(engine: EngineConfig, batch_lanes: int) -> Area:
    """Estimate the area of an engine for `batch_lanes` samples in lockstep."""
    total: Area = {
        "dsp": batch_lanes * (engine.multipliers / 2 + DSPS_PER_REQUANTISER * engine.requantisers),
        "bram36": 0.0,
        "uram": 0.0,
    }
    lists = engine.list_entries > 0
    lane = LIST_LANE if lists else DENSE_LANE
    for name in ("lut", "ff"):
        each_sample = (
            engine.multipliers * _multiplier(engine)[name]
            + engine.lanes * lane[name]
            + engine.columns * engine.sum_bits * COLUMN[name]
            + engine.requantisers * REQUANTISER[name]
            + OUTPUT[name]
            + (engine.requantisers * WHOLE[name] if engine.whole_rows else 0)
        )
        total[name] = ENGINE[name] + batch_lanes * each_sample
    if lists:
        total["lut"] += engine.lanes * LIST_LANE_LUTS + batch_lanes * LISTS_LUTS
    if engine.weight_rows > DEEP_ROWS:
        total["lut"] += batch_lanes * engine.lanes * engine.weight_bits * DEEP_LUTS
    if engine.routing == "split-trees":
        # An adder for the carry of one lane's odd tiles, and half a tree's sum of every column.
        total["lut"] += batch_lanes * CARRY_LUTS * engine.tiles / 2
        total["ff"] += batch_lanes * (
            engine.columns * engine.sum_bits + engine.multipliers * SPLIT_FFS
        )
    # A register after a weight memory, and one inside of it.
    distributed = engine.weight_memory == "distributed"
    total["ff"] += batch_lanes * engine.lanes * engine.weight_bits * (2 if distributed else 1)
    if distributed:
        # 8 LUTs hold 14 bits of 32 rows, read at one place.
        copies = 8 / 14 * engine.weight_bits * math.ceil(engine.weight_rows / 32)
        total["lut"] += batch_lanes * engine.lanes * copies
    core = CoreConfig(engines=(engine,), batch_lanes=batch_lanes)
    for memory, count in core_memories(KernelConfig(core=core)).items():
        if memory.style == "ultra":
            total["uram"] += count * ultra_rams(memory)
        elif batch_lanes == 2 and memory.bits == engine.weight_bits:
            # Both ports read: half the width of a memory that reads at one and writes at the other.
            total["bram36"] += count * _two_ports(memory)
        else:
            total["bram36"] += count * block_rams(memory, 36)
    return total


def kernel_area(kernel: KernelConfig) -> Area:
    """Estimate the area around the cores."""
    return {name: KERNEL[name] + BUS_BIT.get(name, 0) * kernel.bus_bits for name in KERNEL}


def core_memories(kernel: KernelConfig) -> Counter[Memory]:
    """The memories of a core, other than distributed ones."""
    batch_lanes = kernel.core.batch_lanes
    found: Counter[Memory] = Counter()
    for engine in kernel.core.engines:
        width = engine.requantisers
        rows = engine.requantise_rows
        if engine.weight_memory != "distributed":
            weights = Memory(engine.weight_memory, engine.weight_bits, engine.weight_rows)
            found[weights] += engine.lanes
        if engine.dense_values:
            found[Memory("block", VALUE_BITS, engine.dense_values)] += (
                batch_lanes * engine.group_lanes
            )
        if engine.list_entries:
            found[Memory("block", ENTRY.size, engine.list_entries)] += batch_lanes * engine.lanes
        found[Memory("block", REQUANTISE.bits, rows)] += width
        found[Memory("block", scatter_record(width).bits, rows)] += 1
        found[Memory("block", gather_record(width).bits, rows)] += 1
        if engine.reorder_rows > DISTRIBUTED_ROWS:
            found[Memory("block", batch_lanes * KEY_BITS, engine.reorder_rows)] += width
        if engine.whole_rows:
            found[Memory("block", row_layout(engine).size, engine.whole_rows)] += batch_lanes
        if engine.tables:
            found[Memory("block", KEY_BITS, engine.tables << KEY_BITS)] += batch_lanes * width
    return found


def _multiplier(engine: EngineConfig) -> Area:
    """Logic of a multiplier with its part of the trees."""
    if engine.routing != "banked":
        width = engine.sum_bits
        # A tree for every kernel, its first rank of registers, and the kernel ID; Yosys leaves
        # registers outside of DSPs.
        return {
            "lut": 1 + engine.kernels_per_tile * width,
            "ff": 48 + 2.0 * engine.kernels_per_tile * width,
        }
    # Sum, bank of accumulators, and the tree; Yosys leaves a rank of registers outside of DSPs.
    memory = 8 / 14 * 2 * engine.sum_bits * math.ceil(2 * engine.kernels_per_tile / 32)
    return {"lut": 2 * engine.sum_bits + memory, "ff": 60 + 2.0 * engine.sum_bits}


def _two_ports(memory: Memory) -> float:
    """Block memories of 36 Kbit, or halves of them, read at both ports."""
    shapes = ((18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
    halves = min(math.ceil(memory.bits / w) * math.ceil(memory.depth / d) for w, d in shapes)
    whole = ((36, 1024), (18, 2048), (9, 4096), (4, 8192), (2, 16384), (1, 32768))
    wholes = min(math.ceil(memory.bits / w) * math.ceil(memory.depth / d) for w, d in whole)
    return min(halves / 2, wholes)
