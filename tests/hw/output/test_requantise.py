import random

import numpy as np
import pytest

from trencadis_format.layer_tables import REQUANTISE, Ties
from trencadis_format.models.requantise import requantise
from trencadis_format.widths import OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP
from trencadis_hw.output.requantise import Requantiser
from trencadis_sim.testbench.streams import Context, simulate

Case = tuple[int, dict[str, int], int, int]


def cases(sum_bits: int, count: int, seed: int) -> list[Case]:
    """Sums with parameters: keys all over the range, ties, overflows, and fields at their ends."""
    generator = random.Random(seed)
    most = (1 << (sum_bits - 1)) - 1
    result = []
    for number in range(count):
        shift = generator.randrange(8)
        bits = SHIFT_BASE + SHIFT_STEP * shift
        multiplier = generator.choice([0, 1, (1 << 32) - 1, generator.getrandbits(32)])
        low, high = sorted(generator.sample(range(256), 2))
        if number % 3 == 0:
            low, high = 0, 255
        total = generator.choice([0, 1, -1, most, -most - 1, generator.randint(-most - 1, most)])
        # An offset that brings the quotient near a wanted one, with or without an exact tie.
        wanted = generator.randint(-3, 259) << bits
        offset = (wanted - total * multiplier) >> OFFSET_SHIFT
        if number % 2:
            # The multiplier is a multiple of the offset's unit, so that the tie is exact.
            multiplier &= -(1 << OFFSET_SHIFT)
            offset = (wanted - total * multiplier) >> OFFSET_SHIFT
        if number % 7 == 0:
            # A single bit more than a tie.
            total, fraction = 1, 1 << generator.randrange(12)
            multiplier = generator.getrandbits(20) << OFFSET_SHIFT | fraction
            offset = (wanted - multiplier + fraction) >> OFFSET_SHIFT
        elif number % 5 == 0:
            offset += generator.randint(-1, 1)
        field = REQUANTISE.fields[1]
        offset = min(max(offset, field.low), field.high)
        if number % 17 == 0:
            offset = generator.choice([field.low, field.high])
        ties = generator.choice(list(Ties))
        if ties is Ties.ODD and offset > field.low:
            offset -= 1
        parameters = {"multiplier": multiplier, "offset": offset, "shift": shift, "ties": ties}
        result.append((total, parameters, low, high))
    return result


def model(case: Case) -> int:
    total, parameters, low, high = case
    return int(requantise(total, **parameters, low=low, high=high))


def exact(case: Case) -> int:
    """The same in Python's integers, straight from the definition."""
    total, parameters, low, high = case
    scaled = total * parameters["multiplier"] + (parameters["offset"] << OFFSET_SHIFT)
    divisor = 1 << (SHIFT_BASE + SHIFT_STEP * parameters["shift"])
    quotient, rest = divmod(scaled, divisor)
    if parameters["ties"] == Ties.EVEN and rest == 0 and quotient % 2:
        quotient -= 1
    if parameters["ties"] == Ties.ODD and divisor - rest == 1 << OFFSET_SHIFT:
        quotient += quotient % 2 == 0
    return min(max(quotient, low), high)


@pytest.mark.parametrize("sum_bits", [18, 24])
def test_model_is_exact(sum_bits: int) -> None:
    tried = cases(sum_bits, 3000, seed=sum_bits)
    assert [model(case) for case in tried] == [exact(case) for case in tried]


def test_cases_reach_ties_and_both_bounds() -> None:
    tried = cases(24, 2000, seed=0)
    for ties in (Ties.EVEN, Ties.ODD):
        floor = {"ties": Ties.FLOOR}
        rounded = [
            case
            for case in tried
            if case[1]["ties"] == ties
            and model(case) != model((case[0], {**case[1], **floor}, *case[2:]))
        ]
        assert len(rounded) > 50
    keys = [model(case) for case in tried]
    assert sum(key == case[2] for key, case in zip(keys, tried, strict=True)) > 50
    assert sum(key == case[3] for key, case in zip(keys, tried, strict=True)) > 50
    assert len(set(keys)) > 100


@pytest.mark.parametrize("sum_bits", [18, 24, 32])
def test_rtl_equals_model(sum_bits: int) -> None:
    dut = Requantiser(sum_bits)
    tried = cases(sum_bits, 1500, seed=100 + sum_bits)
    expected = [exact(case) for case in tried]
    keys: list[int] = []

    async def drive(ctx: Context) -> None:
        for total, parameters, _, _ in tried:
            ctx.set(dut.sum, total)
            ctx.set(dut.parameters, parameters)
            await ctx.tick()

    async def bound(ctx: Context) -> None:
        for _ in range(dut.bounds_latency):
            await ctx.tick()
        for _, _, low, high in tried:
            ctx.set(dut.low, low)
            ctx.set(dut.high, high)
            await ctx.tick()

    async def read(ctx: Context) -> None:
        for _ in range(dut.latency):
            await ctx.tick()
        for _ in tried:
            keys.append(ctx.get(dut.key))
            await ctx.tick()

    simulate(dut, drive, bound, read)
    assert np.array_equal(keys, expected)
