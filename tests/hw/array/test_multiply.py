import itertools
import random

import numpy as np
import pytest

from trencadis_format.models.multiply import pair_products
from trencadis_hw.array.multiply import PairMultiplier
from trencadis_sim.testbench.streams import Context, simulate

CORNERS = (-128, -127, -1, 0, 1, 126, 127)
VALUES = (-256, -255, -1, 0, 1, 254, 255)


def stored(low: int, high: int) -> int:
    """The odd tile's weight as it is stored: less the borrow of the even one's sign."""
    return high - (low < 0)


def test_model_is_exact_for_every_pair_of_operands() -> None:
    low = np.arange(-128, 128)[:, None, None]
    value = np.arange(-256, 256)[None, :, None]
    high = np.array(CORNERS)[None, None, :]
    low_product, high_product, carry = pair_products(low, high - (low < 0), value)
    assert np.array_equal(low_product, np.broadcast_to(low * value, low_product.shape))
    exact = np.broadcast_to(high * value, high_product.shape)
    assert np.array_equal(high_product + carry, exact)


@pytest.mark.parametrize("seed", [0])
def test_rtl_equals_model(seed: int) -> None:
    generator = random.Random(seed)
    operands = list(itertools.product(CORNERS, CORNERS, VALUES))
    operands += [
        (
            generator.randint(-128, 127),
            generator.randint(-128, 127),
            generator.randint(-256, 255),
        )
        for _ in range(2000)
    ]
    dut = PairMultiplier()
    results = []

    async def drive(ctx: Context) -> None:
        for low, high, value in operands:
            ctx.set(dut.low, low & 0xFF)
            ctx.set(dut.high, stored(low, high) & 0x1FF)
            ctx.set(dut.value, value)
            await ctx.tick()

    async def read(ctx: Context) -> None:
        for _ in range(dut.latency):
            await ctx.tick()
        for _ in operands:
            outputs = (dut.low_product, dut.high_product, dut.high_carry)
            results.append(tuple(ctx.get(output) for output in outputs))
            await ctx.tick()

    simulate(dut, drive, read)
    low, high, value = np.array(operands).T
    expected = pair_products(low, high - (low < 0), value)
    assert np.array_equal(np.array(results), np.stack(expected, axis=1))
