import random

import pytest

from trencadis_format.image import ABI_VERSION
from trencadis_format.registers import Register
from trencadis_hw.axi.lite import ARGUMENTS, ControlRegisters
from trencadis_sim.testbench.streams import Context, simulate

CONFIGURATION = 0x0123_4567_89AB_CDEF


class Master:
    """Writes and reads registers, with stalls on every channel."""

    def __init__(self, dut: ControlRegisters, stall: float, seed: int = 0) -> None:
        self._bus = dut.bus
        self._stall = stall
        self._random = random.Random(seed)

    async def _wait(self, ctx: Context) -> None:
        while self._random.random() < self._stall:
            await ctx.tick()

    async def write(self, ctx: Context, address: int, data: int, strobe: int = 15) -> None:
        bus = self._bus
        await self._wait(ctx)
        first = self._random.choice(["aw", "w", "both"]) if self._stall else "both"
        ctx.set(bus.awaddr, address)
        ctx.set(bus.wdata, data)
        ctx.set(bus.wstrb, strobe)
        pending = {"aw", "w"}
        offered = pending if first == "both" else {first}
        while pending:
            ctx.set(bus.awvalid, int("aw" in offered & pending))
            ctx.set(bus.wvalid, int("w" in offered & pending))
            _, _, aw, w = await ctx.tick().sample(bus.awready, bus.wready)
            taken = {name for name, ready in (("aw", aw), ("w", w)) if ready} & offered
            pending = pending - taken
            offered = {"aw", "w"}
        ctx.set(bus.awvalid, 0)
        ctx.set(bus.wvalid, 0)
        await self._wait(ctx)
        ctx.set(bus.bready, 1)
        valid, response = False, None
        while not valid:
            _, _, valid, response = await ctx.tick().sample(bus.bvalid, bus.bresp)
        assert response == 0
        ctx.set(bus.bready, 0)

    async def read(self, ctx: Context, address: int) -> int:
        bus = self._bus
        await self._wait(ctx)
        ctx.set(bus.araddr, address)
        ctx.set(bus.arvalid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick().sample(bus.arready)
        ctx.set(bus.arvalid, 0)
        await self._wait(ctx)
        ctx.set(bus.rready, 1)
        valid, data, response = False, 0, None
        while not valid:
            _, _, valid, data, response = await ctx.tick().sample(bus.rvalid, bus.rdata, bus.rresp)
        assert response == 0
        ctx.set(bus.rready, 0)
        return data


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_arguments_keep_what_is_written(stall: float) -> None:
    dut = ControlRegisters(configuration=CONFIGURATION)
    master = Master(dut, stall)
    generator = random.Random(1)
    samples = {
        register + 4 * i: (name, i)
        for name, (register, width) in ARGUMENTS.items()
        for i in range(width // 32)
    }
    values = dict.fromkeys(samples, 0)

    async def drive(ctx: Context) -> None:
        for _ in range(60):
            address = generator.choice(list(samples))
            data, strobe = generator.getrandbits(32), generator.randrange(16)
            await master.write(ctx, address, data, strobe)
            mask = sum(0xFF << 8 * i for i in range(4) if strobe >> i & 1)
            values[address] = values[address] & ~mask | data & mask
            assert await master.read(ctx, address) == values[address]
        for address, (name, i) in samples.items():
            assert ctx.get(getattr(dut, name)) >> 32 * i & 0xFFFFFFFF == values[address]

    simulate(dut, drive)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_constants_and_unknown_addresses(stall: float) -> None:
    dut = ControlRegisters(configuration=CONFIGURATION)
    master = Master(dut, stall)

    async def drive(ctx: Context) -> None:
        ctx.set(dut.status, 0x12345)
        assert await master.read(ctx, Register.VERSION) == ABI_VERSION
        assert await master.read(ctx, Register.CONFIGURATION) == CONFIGURATION & 0xFFFFFFFF
        assert await master.read(ctx, Register.CONFIGURATION + 4) == CONFIGURATION >> 32
        assert await master.read(ctx, Register.STATUS) == 0x12345
        for address in (Register.VERSION, Register.STATUS, 0xF0):
            await master.write(ctx, address, 0xFFFFFFFF)
        assert await master.read(ctx, Register.VERSION) == ABI_VERSION
        assert await master.read(ctx, 0xF0) == 0

    simulate(dut, drive)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_a_run_as_xrt_does_it(stall: float) -> None:
    """start, busy, done once, idle again; the interrupt if it is enabled."""
    dut = ControlRegisters(configuration=CONFIGURATION)
    master = Master(dut, stall)

    async def finish(ctx: Context) -> None:
        ctx.set(dut.done, 1)
        await ctx.tick()
        ctx.set(dut.done, 0)
        await ctx.tick()

    async def drive(ctx: Context) -> None:
        ctx.set(dut.idle, 1)
        assert await master.read(ctx, Register.CONTROL) == 0b0100
        await master.write(ctx, Register.CONTROL, 0)
        assert not ctx.get(dut.start)
        await master.write(ctx, Register.CONTROL, 1)
        assert ctx.get(dut.start)
        assert await master.read(ctx, Register.CONTROL) == 0b0001
        ctx.set(dut.idle, 0)
        await finish(ctx)
        ctx.set(dut.idle, 1)
        assert not ctx.get(dut.start)
        assert not ctx.get(dut.interrupt)
        assert await master.read(ctx, Register.CONTROL) == 0b1110
        assert await master.read(ctx, Register.CONTROL) == 0b0100

        await master.write(ctx, Register.INTERRUPT_ENABLE, 1)
        await master.write(ctx, Register.GLOBAL_INTERRUPT_ENABLE, 1)
        await master.write(ctx, Register.CONTROL, 1)
        await finish(ctx)
        assert ctx.get(dut.interrupt)
        assert await master.read(ctx, Register.INTERRUPT_STATUS) == 1
        await master.write(ctx, Register.INTERRUPT_STATUS, 1)
        assert not ctx.get(dut.interrupt)
        # Writing a 1 toggles.
        await master.write(ctx, Register.INTERRUPT_STATUS, 2)
        assert await master.read(ctx, Register.INTERRUPT_STATUS) == 2
        assert await master.read(ctx, Register.GLOBAL_INTERRUPT_ENABLE) == 1
        assert await master.read(ctx, Register.INTERRUPT_ENABLE) == 1

    simulate(dut, drive)


def test_abort_lasts_a_cycle() -> None:
    dut = ControlRegisters(configuration=CONFIGURATION)
    aborts = 0

    async def watch(ctx: Context) -> None:
        nonlocal aborts
        while True:
            _, _, abort = await ctx.tick().sample(dut.abort)
            aborts += abort

    async def drive(ctx: Context) -> None:
        master = Master(dut, 0.0)
        await master.write(ctx, Register.ABORT, 2)
        await master.write(ctx, Register.ABORT, 1, strobe=14)
        assert aborts == 0
        await master.write(ctx, Register.ABORT, 1)
        assert aborts == 1

    simulate(dut, drive, background=[watch])


def test_a_run_that_ends_while_the_host_looks_is_seen_at_its_next_look() -> None:
    dut = ControlRegisters(configuration=CONFIGURATION)
    master = Master(dut, 0.0)

    async def drive(ctx: Context) -> None:
        ctx.set(dut.done, 1)
        ctx.set(dut.bus.araddr, Register.CONTROL)
        ctx.set(dut.bus.arvalid, 1)
        ctx.set(dut.bus.rready, 1)
        await ctx.tick()
        ctx.set(dut.done, 0)
        ctx.set(dut.bus.arvalid, 0)
        assert ctx.get(dut.bus.rdata) & 0b10 == 0
        await ctx.tick()
        assert await master.read(ctx, Register.CONTROL) & 0b10

    simulate(dut, drive)
