import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from trencadis_hw.serial.board import SerialBoardConfig
from trencadis_hw.serial.uart import UartReceiver, UartTransmitter
from trencadis_sim.testbench.streams import Context, Sink, Source, simulate


class Loop(wiring.Component):
    """A transmitter whose wire goes to a receiver."""

    def __init__(self, divisor: int) -> None:
        self.transmitter = UartTransmitter(divisor=divisor)
        self.receiver = UartReceiver(divisor=divisor)
        super().__init__({})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules += [self.transmitter, self.receiver]
        m.d.comb += self.receiver.rx.eq(self.transmitter.tx)
        return m


@pytest.mark.parametrize("divisor", [3, 4, 5, 25])
@pytest.mark.parametrize("stall", [0.0, 0.9])
def test_bytes_arrive(divisor: int, stall: float) -> None:
    data = [0, 255, 0x55, 0xAA, *random.Random(divisor).randbytes(20)]
    dut = Loop(divisor)
    source = Source(dut.transmitter.i, data, stall=stall)
    sink = Sink(dut.receiver.o, len(data))
    simulate(dut, source, sink)
    assert sink.payloads == data


@pytest.mark.parametrize("skew", [-0.03, 0.03])
def test_other_end_may_be_a_little_off(skew: float) -> None:
    """Clocks of both ends differ; 3 % at a whole byte are a third of a bit."""
    divisor, data = 40, random.Random(1).randbytes(8)
    dut = UartReceiver(divisor=divisor)
    length = round(divisor * (1 + skew))
    sink = Sink(dut.o, len(data))

    async def wire(ctx: Context) -> None:
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(100)
        for byte in data:
            for i in range(10):
                ctx.set(dut.rx, (byte << 1 | 0x200) >> i & 1)
                await ctx.tick().repeat(length)

    simulate(dut, wire, sink)
    assert sink.payloads == list(data)


def test_glitch_and_missing_stop_bit_give_no_byte() -> None:
    divisor = 8
    dut = UartReceiver(divisor=divisor)
    got = []

    async def wire(ctx: Context) -> None:
        ctx.set(dut.o.ready, 1)
        for level, bits in ((1, 2), (0, 0.25), (1, 3), (0, 10), (1, 20)):
            ctx.set(dut.rx, level)
            for _ in range(round(divisor * bits)):
                _, _, valid = await ctx.tick().sample(dut.o.valid)
                got.append(valid)

    simulate(dut, wire)
    assert not any(got)


@pytest.mark.parametrize("divisor", [0, 2, 2.5])
def test_divisor_must_be_possible(divisor: int) -> None:
    for kind in (UartReceiver, UartTransmitter):
        with pytest.raises(ValueError, match="divisor must be at least 3 cycles per bit"):
            kind(divisor=divisor)


def test_board_configuration() -> None:
    fields = {"clock_hz": 25_000_000, "baud": 1_000_000, "bus_bits": 64, "memory_bytes": 131072}
    assert SerialBoardConfig(**fields).divisor == 25
    with pytest.raises(ValueError, match="memory_bytes must be a power of two"):
        SerialBoardConfig(**(fields | {"memory_bytes": 100_000}))
    with pytest.raises(ValueError, match=r"baud must be in 1\.\.8333333"):
        SerialBoardConfig(**(fields | {"baud": 12_000_000}))
    with pytest.raises(ValueError, match="the nearest rate is 3125000"):
        SerialBoardConfig(**(fields | {"baud": 3_000_000}))
