import pytest
from amaranth.hdl import ClockSignal, Module
from amaranth.sim import Simulator

from trencadis_hw.serial.clock_divider import ClockDivider


@pytest.mark.parametrize(("divisor", "high"), [(2, 1), (3, 1), (4, 2), (7, 3)])
def test_one_slow_cycle_per_so_many_fast_ones(divisor: int, high: int) -> None:
    m = Module()
    m.submodules.dut = dut = ClockDivider(divisor)
    m.d.comb += dut.fast.eq(ClockSignal("sync"))
    levels: list[int] = []

    async def watch(ctx) -> None:
        async for _, _, level in ctx.tick().sample(dut.slow):
            levels.append(level)
            if len(levels) == 6 * divisor + 1:
                break

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch)
    simulator.run()
    period = [1] * high + [0] * (divisor - high)
    start = levels.index(1)
    assert levels[start : start + 5 * divisor] == 5 * period


def test_a_divisor_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match=r"^divisor must be at least 2, not 1$"):
        ClockDivider(1)
