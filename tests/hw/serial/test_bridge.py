import random
import zlib
from collections.abc import Awaitable, Callable

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from trencadis_format import link
from trencadis_format.link import Answer, Operation
from trencadis_format.registers import Register
from trencadis_hw.axi.full import AxiReader, AxiWriter
from trencadis_hw.axi.lite import ControlRegisters
from trencadis_hw.serial.bridge import LinkBridge
from trencadis_hw.serial.memory import AxiMemory
from trencadis_sim.testbench.streams import Context, simulate

MEMORY_WORDS = 64
IDLE_CYCLES = 200
DIGEST = 0x0123456789ABCDEF


class Bench(wiring.Component):
    """A bridge with a memory and the registers of a kernel that is never done."""

    def __init__(self) -> None:
        self.bridge = LinkBridge(
            memory_words=MEMORY_WORDS, clock_khz=25_000, idle_cycles=IDLE_CYCLES
        )
        self.memory = AxiMemory(bits=64, beats=MEMORY_WORDS // 2)
        self.registers = ControlRegisters(configuration=DIGEST)
        self.reader = AxiReader(bits=64)
        self.writer = AxiWriter(bits=64)
        super().__init__({})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules += [self.bridge, self.memory, self.registers, self.reader, self.writer]
        wiring.connect(m, self.bridge.words, self.memory.words)
        wiring.connect(m, self.bridge.control, self.registers.bus)
        wiring.connect(m, self.reader.axi, self.memory.read)
        wiring.connect(m, self.writer.axi, self.memory.write)
        return m


class Host:
    """The host's end of the link, byte by byte."""

    def __init__(self, bench: Bench, ctx: Context) -> None:
        self._bridge, self._ctx = bench.bridge, ctx
        self._sequence = 0

    async def send(self, data: bytes) -> None:
        port = self._bridge.i
        for byte in data:
            self._ctx.set(port.payload, byte)
            self._ctx.set(port.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await self._ctx.tick().sample(port.ready)
            self._ctx.set(port.valid, 0)

    async def receive(self, count: int) -> bytes:
        port = self._bridge.o
        data = []
        self._ctx.set(port.ready, 1)
        while len(data) < count:
            _, _, valid, payload = await self._ctx.tick().sample(port.valid, port.payload)
            if valid:
                data.append(payload)
        self._ctx.set(port.ready, 0)
        return bytes(data)

    async def reply(self, operation: Operation, count: int, sequence: int) -> link.Reply:
        frame = await self.receive(4)
        words = link.reply_words(operation, count) if frame[1] == Answer.DONE else 0
        return link.unpack_reply(frame + await self.receive(4 * words + 4), sequence)

    async def ask(
        self,
        operation: Operation,
        address: int = 0,
        count: int = 1,
        payload: bytes = b"",
        *,
        again: bool = False,
    ) -> link.Reply:
        self._sequence += not again
        frame = link.pack_request(
            operation, self._sequence, address=address, count=count, payload=payload
        )
        await self.send(frame)
        return await self.reply(operation, count, self._sequence)


def run(testbench: Callable[[Host, Bench, Context], Awaitable[None]]) -> None:
    bench = Bench()

    async def drive(ctx: Context) -> None:
        await testbench(Host(bench, ctx), bench, ctx)

    simulate(bench, drive, most_cycles=100_000)


def words(generator: random.Random, count: int) -> bytes:
    return generator.randbytes(4 * count)


def test_identity() -> None:
    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        reply = await host.ask(Operation.IDENTIFY)
        assert link.IDENTITY.unpack(int.from_bytes(reply.payload, "little")) == {
            "version": link.LINK_VERSION,
            "memory_bytes": 4 * MEMORY_WORDS,
            "clock_khz": 25_000,
        }

    run(check)


@pytest.mark.parametrize(("address", "count"), [(0, 1), (4, 1), (0, MEMORY_WORDS), (12, 7)])
def test_memory_gives_back_what_was_written(address: int, count: int) -> None:
    data = words(random.Random(count), count)

    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        around = bytes(4 * MEMORY_WORDS)
        await host.ask(Operation.WRITE_MEMORY, address, count, data)
        whole = await host.ask(Operation.READ_MEMORY, 0, MEMORY_WORDS)
        assert whole.payload == around[:address] + data + around[address + len(data) :]
        part = await host.ask(Operation.READ_MEMORY, address, count)
        assert part.payload == data
        total = await host.ask(Operation.CHECKSUM, address, 1, count.to_bytes(4, "little"))
        assert int.from_bytes(total.payload, "little") == zlib.crc32(data)

    run(check)


def test_longest_payload_goes_both_ways_through_registers() -> None:
    """256 registers are more than there are; those of the arguments keep what was written."""
    count = 8
    data = words(random.Random(1), count)

    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        await host.ask(Operation.WRITE_REGISTERS, Register.IMAGE, 2, data[:8])
        await host.ask(Operation.WRITE_REGISTERS, Register.SAMPLES, 1, data[8:12])
        reply = await host.ask(Operation.READ_REGISTERS, Register.IMAGE, 2)
        assert reply.payload == data[:8]
        reply = await host.ask(Operation.READ_REGISTERS, Register.SAMPLES)
        assert reply.payload == data[8:12]
        reply = await host.ask(Operation.READ_REGISTERS, Register.CONFIGURATION, 2)
        assert int.from_bytes(reply.payload, "little") == DIGEST
        assert ctx.get(bench.registers.image) == int.from_bytes(data[:8], "little")

    run(check)


@pytest.mark.parametrize(
    ("operation", "address", "count", "payload"),
    [
        (Operation.READ_MEMORY, 4 * MEMORY_WORDS, 1, b""),
        (Operation.READ_MEMORY, 4, MEMORY_WORDS, b""),
        (Operation.WRITE_MEMORY, 4 * MEMORY_WORDS - 4, 2, bytes(8)),
        (Operation.WRITE_MEMORY, 0xFFFFFFFC, 1, bytes(4)),
        (Operation.CHECKSUM, 0, 1, (MEMORY_WORDS + 1).to_bytes(4, "little")),
        (Operation.CHECKSUM, 4, 1, (0xFFFFFFFF).to_bytes(4, "little")),
    ],
)
def test_nothing_outside_the_memory(
    operation: Operation, address: int, count: int, payload: bytes
) -> None:
    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        assert (await host.ask(operation, address, count, payload)).answer is Answer.OUTSIDE
        whole = await host.ask(Operation.READ_MEMORY, 0, MEMORY_WORDS)
        assert whole.payload == bytes(4 * MEMORY_WORDS)

    run(check)


@pytest.mark.parametrize("bit", [8 * 4, 8 * 8 + 3, 8 * 16 + 7])
def test_damaged_request_changes_nothing(bit: int) -> None:
    """A bit of the address, of the payload, of the CRC."""
    frame = link.pack_request(Operation.WRITE_MEMORY, 1, count=2, payload=b"\xff" * 8)
    damaged = (int.from_bytes(frame, "little") ^ 1 << bit).to_bytes(len(frame), "little")

    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        await host.send(damaged)
        assert (await host.reply(Operation.WRITE_MEMORY, 2, 1)).answer is Answer.DAMAGED
        whole = await host.ask(Operation.READ_MEMORY, 0, MEMORY_WORDS)
        assert whole.payload == bytes(4 * MEMORY_WORDS)

    run(check)


def test_repeated_write_is_done_once() -> None:
    """A start that is sent again, since its reply was lost, must not start again."""

    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        await host.ask(Operation.IDENTIFY)
        one = (1).to_bytes(4, "little")
        await host.ask(Operation.WRITE_REGISTERS, Register.INTERRUPT_STATUS, 1, one)
        again = await host.ask(
            Operation.WRITE_REGISTERS, Register.INTERRUPT_STATUS, 1, one, again=True
        )
        assert again.answer is Answer.DONE
        # Writing toggles a pending interrupt: twice would have cleared it.
        reply = await host.ask(Operation.READ_REGISTERS, Register.INTERRUPT_STATUS)
        assert reply.payload == one

    run(check)


@pytest.mark.parametrize("length", [1, 5, 9, 13])
def test_unfinished_request_is_forgotten(length: int) -> None:
    frame = link.pack_request(Operation.WRITE_MEMORY, 1, count=2, payload=b"\xff" * 8)

    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        await host.send(frame[:length])
        for _ in range(IDLE_CYCLES + 10):
            await ctx.tick()
        whole = await host.ask(Operation.READ_MEMORY, 0, MEMORY_WORDS)
        assert whole.payload == bytes(4 * MEMORY_WORDS)

    run(check)


def test_garbage_before_a_request_is_skipped() -> None:
    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        await host.send(bytes([0, 1, 255, link.REPLY_SYNC]))
        assert (await host.ask(Operation.IDENTIFY)).answer is Answer.DONE

    run(check)


def test_unknown_operation() -> None:
    header = link.REQUEST.pack(
        sync=link.REQUEST_SYNC, operation=99, sequence=5, count=0, address=0
    ).to_bytes(8, "little")

    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        await host.send(header + zlib.crc32(header).to_bytes(4, "little"))
        assert (await host.reply(Operation.RESET, 1, 5)).answer is Answer.UNKNOWN

    run(check)


def test_reset_lasts_some_cycles() -> None:
    held = []

    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        assert not ctx.get(bench.bridge.reset)
        frame = link.pack_request(Operation.RESET, 1)
        await host.send(frame)
        for _ in range(40):
            _, _, reset = await ctx.tick().sample(bench.bridge.reset)
            held.append(reset)

    run(check)
    assert sum(held) == 16
    assert not held[-1]


def test_kernel_and_host_share_the_memory() -> None:
    """A long read and a long write of the kernel while the host writes and reads elsewhere."""
    data = random.Random(3).randbytes(4 * MEMORY_WORDS)
    half = 4 * MEMORY_WORDS // 2
    read: list[int] = []

    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        await host.ask(Operation.WRITE_MEMORY, 0, MEMORY_WORDS, data)
        port = bench.reader.transfers
        ctx.set(port.payload, {"address": 0, "beats": half // 8})
        ctx.set(port.valid, 1)
        await ctx.tick()
        ctx.set(port.valid, 0)
        ctx.set(bench.reader.beats.ready, 1)
        port = bench.writer.transfers
        ctx.set(port.payload, {"address": half, "beats": half // 8})
        ctx.set(port.valid, 1)
        await ctx.tick()
        ctx.set(port.valid, 0)
        ctx.set(bench.writer.beats.payload, 0x1111111122222222)
        ctx.set(bench.writer.beats.valid, 1)
        reply = await host.ask(Operation.READ_MEMORY, 0, MEMORY_WORDS // 2)
        assert reply.payload == data[:half]
        while ctx.get(bench.writer.busy):
            await ctx.tick()
        reply = await host.ask(Operation.READ_MEMORY, half, MEMORY_WORDS // 2)
        assert reply.payload == (0x1111111122222222).to_bytes(8, "little") * (half // 8)
        assert not ctx.get(bench.writer.error)
        assert not ctx.get(bench.reader.error)

    async def collect(ctx: Context) -> None:
        while len(read) < half // 8:
            _, _, valid, payload = await ctx.tick().sample(beats.valid, beats.payload)
            if valid:
                read.append(payload)

    bench = Bench()
    beats = bench.reader.beats

    async def drive(ctx: Context) -> None:
        await check(Host(bench, ctx), bench, ctx)

    simulate(bench, drive, collect, most_cycles=100_000)
    assert b"".join(beat.to_bytes(8, "little") for beat in read) == data[:half]


@pytest.mark.parametrize("which", ["reader", "writer"])
def test_kernel_gets_an_error_beyond_the_memory(which: str) -> None:
    async def check(host: Host, bench: Bench, ctx: Context) -> None:
        side = getattr(bench, which)
        ctx.set(side.transfers.payload, {"address": 4 * MEMORY_WORDS - 8, "beats": 2})
        ctx.set(side.transfers.valid, 1)
        ctx.set(bench.writer.beats.valid, 1)
        ctx.set(bench.writer.beats.payload, 0xFFFFFFFFFFFFFFFF)
        ctx.set(bench.reader.beats.ready, 1)
        await ctx.tick()
        ctx.set(side.transfers.valid, 0)
        errors = 0
        for _ in range(20):
            await ctx.tick()
            errors += ctx.get(side.error)
        assert errors
        reply = await host.ask(Operation.READ_MEMORY, 0, 2)
        assert reply.payload == bytes(8)

    run(check)


def test_memory_has_a_power_of_two_of_beats() -> None:
    with pytest.raises(ValueError, match="beats must be a power of two, not 24"):
        AxiMemory(bits=64, beats=24)
