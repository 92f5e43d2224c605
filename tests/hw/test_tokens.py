import random

import pytest

from trencadis_hw import abi
from trencadis_hw.tokens import MapTokens
from trencadis_sim.streams import Context, plain, simulate

BUFFERS = 2


@pytest.mark.parametrize("words", [1, 2])
def test_counts_follow_producers_and_consumer(words: int) -> None:
    dut = MapTokens(words)
    generator = random.Random(words)
    reserved = [0] * abi.MAP_COUNT
    filled = [[0] * abi.MAP_COUNT for _ in range(words)]
    taken = [0] * abi.MAP_COUNT
    seen_full = set()

    async def drive(ctx: Context) -> None:
        for _ in range(300):
            # Only what a well-behaved producer and consumer do.
            full = [min(word[i] for word in filled) > 0 for i in range(abi.MAP_COUNT)]
            fill = [
                [
                    word[i] + taken[i] < reserved[i] and generator.randrange(2)
                    for i in range(abi.MAP_COUNT)
                ]
                for word in filled
            ]
            reserve = [reserved[i] < BUFFERS and generator.randrange(2) for i in range(len(full))]
            take = [full[i] and generator.randrange(2) for i in range(len(full))]
            release = [taken[i] and generator.randrange(2) for i in range(len(full))]
            ctx.set(dut.reserve, sum(bool(bit) << i for i, bit in enumerate(reserve)))
            ctx.set(dut.take, sum(bool(bit) << i for i, bit in enumerate(take)))
            ctx.set(dut.release, sum(bool(bit) << i for i, bit in enumerate(release)))
            ctx.set(dut.fill, [sum(bool(bit) << i for i, bit in enumerate(word)) for word in fill])
            await ctx.tick()
            for i in range(abi.MAP_COUNT):
                reserved[i] += bool(reserve[i]) - bool(release[i])
                taken[i] += bool(take[i]) - bool(release[i])
                for word in range(words):
                    filled[word][i] += bool(fill[word][i]) - bool(take[i])
            assert plain(ctx.get(dut.reserved)) == reserved
            expected = [min(word[i] for word in filled) > 0 for i in range(abi.MAP_COUNT)]
            assert ctx.get(dut.full) == sum(bit << i for i, bit in enumerate(expected))
            seen_full.add(tuple(expected))

    simulate(dut, drive)
    assert len(seen_full) > 20
