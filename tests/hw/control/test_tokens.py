import random

import pytest

from trencadis_format.widths import MAP_COUNT
from trencadis_hw.control.tokens import MapTokens
from trencadis_sim.testbench.streams import Context, plain, simulate

BUFFERS = 2


@pytest.mark.parametrize("batch_lanes", [1, 2])
def test_counts_follow_producers_and_consumer(batch_lanes: int) -> None:
    dut = MapTokens(batch_lanes)
    generator = random.Random(batch_lanes)
    reserved = [0] * MAP_COUNT
    filled = [[0] * MAP_COUNT for _ in range(batch_lanes)]
    taken = [0] * MAP_COUNT
    seen_full = set()

    async def drive(ctx: Context) -> None:
        for _ in range(300):
            # Only what a well-behaved producer and consumer do.
            full = [min(sample[i] for sample in filled) > 0 for i in range(MAP_COUNT)]
            fill = [
                [
                    sample[i] + taken[i] < reserved[i] and generator.randrange(2)
                    for i in range(MAP_COUNT)
                ]
                for sample in filled
            ]
            reserve = [reserved[i] < BUFFERS and generator.randrange(2) for i in range(len(full))]
            take = [full[i] and generator.randrange(2) for i in range(len(full))]
            release = [taken[i] and generator.randrange(2) for i in range(len(full))]
            ctx.set(dut.reserve, sum(bool(bit) << i for i, bit in enumerate(reserve)))
            ctx.set(dut.take, sum(bool(bit) << i for i, bit in enumerate(take)))
            ctx.set(dut.release, sum(bool(bit) << i for i, bit in enumerate(release)))
            ctx.set(
                dut.fill, [sum(bool(bit) << i for i, bit in enumerate(sample)) for sample in fill]
            )
            await ctx.tick()
            for i in range(MAP_COUNT):
                reserved[i] += bool(reserve[i]) - bool(release[i])
                taken[i] += bool(take[i]) - bool(release[i])
                for sample in range(batch_lanes):
                    filled[sample][i] += bool(fill[sample][i]) - bool(take[i])
            assert plain(ctx.get(dut.reserved)) == reserved
            expected = [min(sample[i] for sample in filled) > 0 for i in range(MAP_COUNT)]
            assert ctx.get(dut.full) == sum(bit << i for i, bit in enumerate(expected))
            seen_full.add(tuple(expected))

    simulate(dut, drive)
    assert len(seen_full) > 20
