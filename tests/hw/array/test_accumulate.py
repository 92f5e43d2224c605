import random
import re

import numpy as np
import pytest

from trencadis_format.models.accumulate import accumulate
from trencadis_hw.array.accumulate import BankedAccumulator
from trencadis_sim.testbench.streams import Context, simulate


@pytest.mark.parametrize("kernels", [1, 2, 3, 8])
@pytest.mark.parametrize("sum_bits", [18, 24])
def test_totals_equal_model(kernels: int, sum_bits: int) -> None:
    generator = random.Random(f"{kernels} {sum_bits}")
    dut = BankedAccumulator(kernels=kernels, sum_bits=sum_bits)
    banks = [np.zeros(kernels, np.int64), np.zeros(kernels, np.int64)]

    async def drive(ctx: Context) -> None:
        for step in range(40):
            # Accumulate into one bank, read the other at the same time.
            active = step % 2
            ctx.set(dut.bank, active)
            products, owners = [], []
            for cycle in range(max(kernels, generator.randint(1, 12))):
                product = generator.choice(
                    [0, 1, -1, (1 << 17) - 1, -(1 << 17), generator.randint(-32640, 32640)]
                )
                carry = generator.randrange(2)
                kernel = generator.randrange(kernels)
                drained = cycle % kernels
                ctx.set(dut.product, product)
                ctx.set(dut.carry, carry)
                ctx.set(dut.kernel, kernel)
                ctx.set(dut.read_kernel, drained)
                await ctx.tick()
                products.append(product + carry)
                owners.append(kernel)
                assert ctx.get(dut.total) == banks[1 - active][drained]
            banks[active] = accumulate(banks[active], products, owners, sum_bits)

    simulate(dut, drive)
    assert any(banks[0]) or kernels == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernels": 0, "sum_bits": 24}, "kernels must be positive, not 0"),
        ({"kernels": 1, "sum_bits": 17}, "sum_bits must hold a product of 18 bits, not 17"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        BankedAccumulator(**parameters)
