import random
from collections.abc import Callable
from typing import Any

import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import REGION, SLOT, weight_record
from trencadis_hw.array.lane import Lane
from trencadis_hw.array.memories import DenseMemory, WeightMemory
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, plain, simulate

MakeEngine = Callable[..., EngineConfig]
LOAD_BITS = 128


@pytest.mark.parametrize("kind", ["block", "ultra", "distributed"])
@pytest.mark.parametrize("batch_lanes", [1, 2])
def test_weights(engine: MakeEngine, kind: str, batch_lanes: int) -> None:
    config = engine(weight_memory=kind, weight_rows=13)
    dut = WeightMemory(config, batch_lanes=batch_lanes, load_bits=LOAD_BITS)
    generator = random.Random(batch_lanes)
    record = weight_record(config.tiles, config.kernel_bits)
    rows = [generator.getrandbits(record.bits) for _ in range(config.weight_rows)]
    asked = [[generator.randrange(13) for _ in range(batch_lanes)] for _ in range(50)]
    came = []

    async def drive(ctx: Context) -> None:
        await load_rows(ctx, dut.load, Target.WEIGHT, rows)
        # Rows for other memories leave it alone.
        await load_rows(ctx, dut.load, Target.SELECT, [0] * 4)
        for number in range(len(asked) + dut.latency):
            if number < len(asked):
                ctx.set(dut.rows, asked[number])
            if number >= dut.latency:
                came.append(plain(ctx.get(dut.weights)))
            await ctx.tick()

    simulate(dut, drive)
    assert came == [[record.unpack(rows[row]) for row in row_of] for row_of in asked]


def test_dense_input() -> None:
    dut = DenseMemory(20)
    generator = random.Random(0)
    stored = [0] * 20
    expected: list[int] = []

    async def drive(ctx: Context) -> None:
        for cycle in range(200):
            address, write = generator.sample(range(20), 2)
            enable, value = generator.randrange(2), generator.randint(-256, 255)
            ctx.set(dut.address, address)
            ctx.set(dut.write_address, write)
            ctx.set(dut.write_value, value)
            ctx.set(dut.write_enable, enable)
            expected.append(stored[address])
            if cycle >= 2:
                assert ctx.get(dut.value) == expected[cycle - 2]
            await ctx.tick()
            if enable:
                stored[write] = value

    simulate(dut, drive)


class LaneBench:
    """A lane for one sample, whose dense input holds minus its address."""

    def __init__(self, config: EngineConfig) -> None:
        self.dut = Lane(config, batch_lanes=1, load_bits=LOAD_BITS)
        self.config = config

    async def load(self, ctx: Context, slots: list[int], regions: list[int]) -> None:
        rows = [SLOT.pack(offset=offset, valid=1) for offset in slots]
        rows.append(SLOT.pack(offset=0, valid=0))
        await load_rows(ctx, self.dut.load, Target.SLOT, rows)
        packed = [REGION.pack(low=low) for low in regions]
        await load_rows(ctx, self.dut.load, Target.REGION, packed)

    async def write(self, ctx: Context, **fields: Any) -> None:
        ctx.set(self.dut.write_enables, 1)
        ctx.set(self.dut.writes, [{"enable": 1, **fields}])
        await ctx.tick()
        ctx.set(self.dut.write_enables, 0)

    async def read(
        self, ctx: Context, issues: list[tuple[int, int]], lookups: list[dict[str, int]]
    ) -> list[tuple[int, int, int]]:
        """Value, weight row and whether the list has ended, for every (address, slot) read."""
        dut = self.dut
        results = []
        dense = [0, 0, 0, 0]
        for cycle in range(len(issues) + dut.latency):
            issue = {"valid": 0}
            if cycle < len(issues):
                issue = dict(zip(("valid", "address", "slot"), (1, *issues[cycle]), strict=True))
            ctx.set(dut.issue, issue)
            at = cycle - dut.lookup_latency
            ctx.set(dut.lookup, lookups[at] if 0 <= at < len(lookups) else {})
            dense.append(-ctx.get(dut.dense_address))
            ctx.set(dut.dense_values, [dense[-3]])
            if cycle >= dut.latency:
                value, row = ctx.get(dut.values[0]), ctx.get(dut.weight_rows[0])
                results.append((value, row, ctx.get(dut.ended)))
            await ctx.tick()
        return results


def test_lane_reads_the_dense_input(engine: MakeEngine) -> None:
    bench = LaneBench(engine(list_entries=0, weight_rows=64))
    results: list[Any] = []

    async def drive(ctx: Context) -> None:
        await bench.load(ctx, slots=[0, 3, -2], regions=[])
        issues = [(10, 0), (10, 1), (10, 2), (10, 3)]
        lookups = [{"dense": 1, "index": i, "weight_row": 8 * i} for i in range(4)]
        results.extend(await bench.read(ctx, issues, lookups))

    simulate(bench.dut, drive)
    assert [(value, row) for value, row, _ in results[:3]] == [(-10, 0), (-13, 9), (-8, 18)]
    assert results[3][0] == 0, "the lane has no such slot"


@pytest.mark.parametrize("dynamic", [0, 1])
def test_lane_reads_lists(engine: MakeEngine, dynamic: int) -> None:
    """A list of two entries, its end, and what lies after the end; then another list."""
    bench = LaneBench(engine(dense_values=0, weight_rows=64))
    entries = [(50, 3), (-7, 5), (0, 0), (99, 6), (20, 1)]
    results: list[Any] = []

    async def drive(ctx: Context) -> None:
        await bench.load(ctx, slots=[0], regions=[100])
        for i, (value, index) in enumerate(entries):
            entry = {"value": value, "index": index}
            await bench.write(ctx, address=100 + i, base=8, size=8, entry=entry)
        for _ in range(2):
            await ctx.tick()
        issues = [(8 + i, 0) for i in range(len(entries))]
        lookups = [
            {"weight_row": 10, "walk_first": int(i in (0, 4)), "dynamic": dynamic}
            for i in range(len(entries))
        ]
        results.extend(await bench.read(ctx, issues, lookups))

    simulate(bench.dut, drive)
    values = [value for value, _, _ in results]
    assert values == ([50, -7, 0, 0, 20] if dynamic else [50, -7, 0, 99, 20])
    assert [ended for _, _, ended in results] == [0, 0, 1, 1, 0]
    used = [row for value, row, _ in results if value]
    assert used == [10 + index for value, index in entries if value in values and value]


def test_lane_keeps_only_what_is_its_own(engine: MakeEngine) -> None:
    bench = LaneBench(engine(dense_values=0))
    results: list[Any] = []
    cases = [
        ({"map": 0, "address": 99, "size": 4, "base": 0}, False),
        ({"map": 0, "address": 100, "size": 4, "base": 4}, True),
        ({"map": 0, "address": 103, "size": 4, "base": 5}, True),
        ({"map": 0, "address": 104, "size": 4, "base": 8}, False),
        ({"map": 1, "address": 102, "size": 4, "base": 12}, False),
        ({"map": 1, "address": 16383, "size": 4, "base": 12}, False),
        ({"map": 1, "owned": 1, "owner": 7, "address": 1, "base": 16}, True),
        ({"map": 1, "owned": 1, "owner": 8, "address": 1, "base": 18}, False),
        ({"map": 1, "owned": 1, "owner": 8, "everywhere": 1, "address": 1, "base": 20}, True),
        ({"map": 0, "owned": 1, "owner": 100, "address": 1, "base": 24}, True),
    ]

    async def drive(ctx: Context) -> None:
        await bench.load(ctx, slots=[0], regions=[100, 7])
        for number, (fields, _) in enumerate(cases):
            await bench.write(ctx, entry={"value": number + 1, "index": 0}, **fields)
        for _ in range(2):
            await ctx.tick()
        issues = [(address, 0) for address in range(32)]
        lookups = [{"walk_first": 1}] * 32
        results.extend(await bench.read(ctx, issues, lookups))

    simulate(bench.dut, drive)
    stored = sorted(value for value, _, _ in results if value)
    assert stored == [number + 1 for number, (_, kept) in enumerate(cases) if kept]


def test_an_entry_can_be_read_in_the_cycle_after_its_write(engine: MakeEngine) -> None:
    bench = LaneBench(engine(dense_values=0))
    values: dict[int, int] = {}

    async def drive(ctx: Context) -> None:
        await bench.load(ctx, slots=[0], regions=[0])
        for wait in range(4):
            entry = {"value": 10 + wait, "index": 0}
            await bench.write(ctx, address=wait, size=8, entry=entry)
            for _ in range(wait):
                await ctx.tick()
            ((value, _, _),) = await bench.read(ctx, [(wait, 0)], [{"walk_first": 1}])
            values[wait] = value

    simulate(bench.dut, drive)
    assert values == {0: 10, 1: 11, 2: 12, 3: 13}
