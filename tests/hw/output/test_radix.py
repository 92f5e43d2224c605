import random

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.widths import KEY_BITS
from trencadis_hw.output.radix import DIGIT_BITS, DIGITS, DigitCounter, choose_winners, rank_row
from trencadis_sim.testbench.streams import Context, plain, simulate

WIDTH = 2


class Winners(wiring.Component):
    """`rank_row` and `choose_winners` for a single row."""

    keys: data.View
    mask: Signal
    largest: Signal
    left: Signal
    exact: Signal
    winners: Signal
    left_after: Signal

    def __init__(self, width: int) -> None:
        self._width = width
        super().__init__(
            {
                "keys": In(data.ArrayLayout(KEY_BITS, width)),
                "mask": In(width),
                "largest": In(KEY_BITS),
                "left": In(range(2 * width + 1)),
                "exact": In(1),
                "winners": Out(width),
                "left_after": Out(range(2 * width + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ranks = rank_row(m, keys=self.keys, mask=self.mask, largest=self.largest, width=self._width)
        winners, left = choose_winners(
            m, ranks, left=self.left, exact=self.exact, width=self._width
        )
        m.d.comb += [self.winners.eq(winners), self.left_after.eq(left)]
        return m


@pytest.mark.parametrize("number", range(DIGITS))
@pytest.mark.parametrize("idle", [0.0, 0.3])
def test_digit_of_the_kth_largest(number: int, idle: float) -> None:
    """A digit is found from the digits above it, as they are in the k-th largest key."""
    most = 8
    dut = DigitCounter(WIDTH, most)
    generator = random.Random(f"{number} {idle}")
    rng = np.random.default_rng(number)
    vectors, expected = [], []
    shift = KEY_BITS - DIGIT_BITS * (number + 1)
    for _ in range(60):
        rows = generator.randint(1, most // WIDTH)
        choices = rng.integers(0, 256, 3)
        keys = rng.choice(choices, (rows, WIDTH)) ^ rng.integers(0, 1 << (shift + 2), (rows, WIDTH))
        keys %= 256
        mask = rng.integers(0, 2, (rows, WIDTH)).astype(bool)
        mask[0, 0] = True
        k = generator.randint(1, int(mask.sum()))
        ordered = sorted(keys[mask].tolist(), reverse=True)
        largest = ordered[k - 1]
        before = largest >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS)
        # k as the digits above have left it: those that are larger in them have already won.
        left = k - sum(
            key >> (shift + DIGIT_BITS) > before >> (shift + DIGIT_BITS) for key in ordered
        )
        after = largest >> shift << shift
        left_after = k - sum(key >> shift > after >> shift for key in ordered)
        vectors.append((keys, mask, {"digits": before, "k": left}))
        expected.append({"digits": after, "k": left_after})
    found = []

    async def drive(ctx: Context) -> None:
        ctx.set(dut.number, number)
        for keys, mask, threshold in vectors:
            for row in range(len(keys)):
                while generator.random() < idle:
                    ctx.set(dut.valid, 0)
                    await ctx.tick()
                ctx.set(dut.valid, 1)
                ctx.set(dut.keys, keys[row].tolist())
                ctx.set(dut.mask, sum(int(bit) << i for i, bit in enumerate(mask[row])))
                ctx.set(dut.last, row == len(keys) - 1)
                ctx.set(dut.threshold, threshold)
                await ctx.tick()
        ctx.set(dut.valid, 0)
        for _ in range(dut.latency + 1):
            await ctx.tick()

    async def read(ctx: Context) -> None:
        while True:
            _, _, valid, value = await ctx.tick().sample(dut.found_valid, dut.found)
            if valid:
                found.append(plain(value))

    simulate(dut, drive, background=[read])
    assert found == expected


def test_latency_of_the_counter() -> None:
    dut = DigitCounter(WIDTH, 4)

    async def drive(ctx: Context) -> None:
        ctx.set(dut.valid, 1)
        ctx.set(dut.mask, 1)
        ctx.set(dut.last, 1)
        ctx.set(dut.threshold, {"digits": 0, "k": 1})
        await ctx.tick()
        ctx.set(dut.valid, 0)
        for cycle in range(1, 6):
            assert ctx.get(dut.found_valid) == (cycle == dut.latency)
            await ctx.tick()

    simulate(dut, drive)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_winners_of_a_row_exhaustively(width: int) -> None:
    dut = Winners(width)

    async def drive(ctx: Context) -> None:
        ctx.set(dut.largest, 7)
        for pattern in range(3**width):
            keys = [(6, 7, 8)[pattern // 3**i % 3] for i in range(width)]
            ctx.set(dut.keys, keys)
            for mask in range(1 << width):
                ctx.set(dut.mask, mask)
                for left in range(width + 2):
                    ctx.set(dut.left, left)
                    equal = [i for i in range(width) if mask >> i & 1 and keys[i] == 7]
                    above = [i for i in range(width) if mask >> i & 1 and keys[i] == 8]
                    for exact in range(2):
                        ctx.set(dut.exact, exact)
                        taken = equal[:left] if exact else equal
                        expected = sum(1 << i for i in above + taken)
                        assert ctx.get(dut.winners) == expected
                    assert ctx.get(dut.left_after) == max(left - len(equal), 0)

    simulate(dut, drive)
