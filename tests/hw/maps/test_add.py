import random

import numpy as np

from trencadis_format.layer_tables import Ties
from trencadis_format.map_tables import ADD, ADD_SHIFT
from trencadis_format.models.add import add_keys
from trencadis_hw.maps.add import ADD_LATENCY, Adder
from trencadis_sim.testbench.streams import Context, simulate

HALF = 1 << (ADD_SHIFT - 1)


def parameters(generator: random.Random, number: int) -> dict[str, int]:
    """Fields of ADD: halves, which tie with every odd sum, any, and those at their ends."""
    low, high = sorted(generator.sample(range(256), 2))
    ties = list(Ties)[number % 3]
    first, second = generator.getrandbits(31), generator.getrandbits(31)
    offset = generator.randint(-(1 << 38), 1 << 37)
    if number % 2:
        first = second = HALF
        offset = generator.randint(-300, 300) * HALF
    if number % 7 == 0:
        first, second, offset = ADD["first"].high, ADD["second"].high, ADD["offset"].low
    if ties is Ties.ODD and offset > ADD["offset"].low:
        offset -= 1
    return {
        "first": first,
        "second": second,
        "offset": offset,
        "ties": ties,
        "low": low if number % 3 else 0,
        "high": high if number % 3 else 255,
    }


def exact(a: int, b: int, fields: dict[str, int]) -> int:
    """The same in Python's integers, straight from the definition."""
    quotient, rest = divmod(
        a * fields["first"] + b * fields["second"] + fields["offset"], 1 << ADD_SHIFT
    )
    if fields["ties"] == Ties.EVEN and rest == 0 and quotient % 2:
        quotient -= 1
    if fields["ties"] == Ties.ODD and rest == (1 << ADD_SHIFT) - 1 and quotient % 2 == 0:
        quotient += 1
    return min(max(quotient, fields["low"]), fields["high"])


def test_rtl_and_model_are_exact() -> None:
    generator = random.Random(1)
    dut = Adder()
    cases = [
        (parameters(generator, number), (generator.randrange(256), generator.randrange(256)))
        for number in range(1500)
    ]
    expected = [exact(*pair, fields) for fields, pair in cases]
    modelled = [int(add_keys(*pair, **fields)) for fields, pair in cases]
    found: list[int] = []

    async def drive(ctx: Context) -> None:
        for fields, (a, b) in cases:
            ctx.set(dut.first, a)
            ctx.set(dut.second, b)
            ctx.set(dut.parameters, fields)
            # Parameters are constant while keys are on their way.
            await ctx.tick().repeat(ADD_LATENCY)
            found.append(ctx.get(dut.key))

    simulate(dut, drive)
    assert len(set(expected)) > 150
    assert modelled == expected
    assert np.array_equal(found, expected)
