import random
from typing import Any

import pytest
from amaranth.hdl import Signal

from trencadis_hw.axi.full import AxiReader, AxiWriter
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, simulate

BITS = 64
SIZE = BITS // 8
MAX_BURST = 8
TRANSFERS = [(0, 1), (4096 - 3 * SIZE, 20), (8192, 0), (65536 - SIZE, 2), (1 << 40, 17), (64, 8)]
STALLS = [0.0, 0.5]


def beat_at(address: int) -> int:
    return (address * 0x9E3779B97F4A7C15 + 1) & ((1 << BITS) - 1)


def beats_of(transfers: list[tuple[int, int]]) -> list[int]:
    return [beat_at(at + SIZE * i) for at, count in transfers for i in range(count)]


def payloads(transfers: list[tuple[int, int]]) -> list[dict[str, int]]:
    return [{"address": address, "beats": beats} for address, beats in transfers]


def check_burst(address: int, length: int, size: int, burst: int) -> None:
    assert size == 3
    assert burst == 1
    assert address % SIZE == 0
    assert length < MAX_BURST
    assert address // 4096 == (address + SIZE * length) // 4096


class ReadMemory:
    """The far side of a reader: every address has its own beat."""

    def __init__(self, dut: AxiReader, stall: float, *, fails_at: int | None = None) -> None:
        self._axi = dut.axi
        self._stall = stall
        self._random = random.Random(11)
        self._fails_at = fails_at
        self.bursts: list[tuple[int, int]] = []
        self.answered = 0

    async def __call__(self, ctx: Context) -> None:
        axi = self._axi
        queue: list[tuple[int, bool]] = []
        while True:
            ready = self._random.random() >= self._stall
            valid = bool(queue) and self._random.random() >= self._stall
            ctx.set(axi.arready, ready)
            ctx.set(axi.rvalid, valid)
            if valid:
                ctx.set(axi.rdata, beat_at(queue[0][0]))
                ctx.set(axi.rlast, queue[0][1])
                ctx.set(axi.rresp, 2 if self.answered == self._fails_at else 0)
            _, _, arvalid, address, length, size, burst, rready = await ctx.tick().sample(
                axi.arvalid, axi.araddr, axi.arlen, axi.arsize, axi.arburst, axi.rready
            )
            if valid:
                assert rready, "the reader asks only for what it has room for"
                queue.pop(0)
                self.answered += 1
            if arvalid and ready:
                check_burst(address, length, size, burst)
                self.bursts.append((address, length + 1))
                queue += [(address + SIZE * i, i == length) for i in range(length + 1)]


@pytest.mark.parametrize("memory_stall", STALLS)
@pytest.mark.parametrize("stall", [0.0, 0.7])
def test_reader(memory_stall: float, stall: float) -> None:
    dut = AxiReader(bits=BITS, longest=MAX_BURST, depth=2 * MAX_BURST)
    memory = ReadMemory(dut, memory_stall)
    expected = beats_of(TRANSFERS)
    sink = Sink(dut.beats, len(expected), stall=stall)
    source = Source(dut.transfers, payloads(TRANSFERS))

    async def settle(ctx: Context) -> None:
        await source(ctx)
        while ctx.get(dut.busy):
            await ctx.tick()
        assert len(sink.payloads) == len(expected)

    simulate(dut, sink, settle, background=[memory, Monitor(dut.beats, "reader")])
    assert sink.payloads == expected
    assert sum(count for _, count in memory.bursts) == len(expected)


def test_reader_keeps_the_bus_busy() -> None:
    dut = AxiReader(bits=BITS, longest=MAX_BURST)
    sink = Sink(dut.beats, 256)
    source = Source(dut.transfers, payloads([(0, 256)]))
    simulate(dut, source, sink, background=[ReadMemory(dut, 0.0)], most_cycles=256 + 8)


def test_reader_that_is_stopped_is_free_for_the_next_transfer() -> None:
    dut = AxiReader(bits=BITS, longest=MAX_BURST, depth=2 * MAX_BURST)
    memory = ReadMemory(dut, 0.3)
    sink = Sink(dut.beats, 5)
    after = Sink(dut.beats, 3)

    async def drive(ctx: Context) -> None:
        await Source(dut.transfers, payloads([(0, 100)]))(ctx)
        await sink(ctx)
        ctx.set(dut.stop, 1)
        await ctx.tick()
        while ctx.get(dut.busy):
            assert not ctx.get(dut.beats.valid)
            await ctx.tick()
        ctx.set(dut.stop, 0)
        assert memory.answered < 100
        await Source(dut.transfers, payloads([(4096, 3)]))(ctx)
        await after(ctx)

    simulate(dut, drive, background=[memory])
    assert sink.payloads == beats_of([(0, 5)])
    assert after.payloads == beats_of([(4096, 3)])


class Errors:
    """Counts the cycles in which an error is reported."""

    def __init__(self, error: Signal) -> None:
        self._error = error
        self.count = 0

    async def __call__(self, ctx: Context) -> None:
        while True:
            _, _, error = await ctx.tick().sample(self._error)
            self.count += error


@pytest.mark.parametrize("fails_at", [None, 3])
def test_reader_reports_errors(fails_at: int | None) -> None:
    dut = AxiReader(bits=BITS, longest=MAX_BURST)
    sink = Sink(dut.beats, 10)

    async def drive(ctx: Context) -> None:
        await Source(dut.transfers, payloads([(0, 10)]))(ctx)
        await sink(ctx)

    errors = Errors(dut.error)
    simulate(dut, drive, background=[ReadMemory(dut, 0.0, fails_at=fails_at), errors])
    assert errors.count == (fails_at is not None)


@pytest.mark.parametrize(
    ("bits", "longest", "most"), [(64, 12, 256), (32, 512, 256), (512, 128, 64), (64, 0, 256)]
)
def test_bursts_are_cut_where_they_may_be(bits: int, longest: int, most: int) -> None:
    message = f"^longest must be a power of two up to {most}, not {longest}$"
    with pytest.raises(ValueError, match=message):
        AxiReader(bits=bits, longest=longest, depth=2048)


def test_queue_must_hold_two_bursts() -> None:
    with pytest.raises(ValueError, match=r"^depth must hold two bursts of 16 beats, not 31$"):
        AxiReader(bits=BITS, depth=31)


class WriteMemory:
    """The far side of a writer."""

    def __init__(self, dut: AxiWriter, stall: float, *, fails_at: int | None = None) -> None:
        self._axi = dut.axi
        self._stall = stall
        self._random = random.Random(12)
        self._fails_at = fails_at
        self.stored: dict[int, int] = {}
        self.bursts = 0

    async def __call__(self, ctx: Context) -> None:
        axi = self._axi
        bursts: list[tuple[int, int]] = []
        beats: list[tuple[Any, ...]] = []
        answers = done = 0
        while True:
            aw_ready, w_ready, b_valid = (self._random.random() >= self._stall for _ in range(3))
            b_valid = b_valid and answers > 0
            ctx.set(axi.awready, aw_ready)
            ctx.set(axi.wready, w_ready)
            ctx.set(axi.bvalid, b_valid)
            ctx.set(axi.bresp, 2 if done == self._fails_at else 0)
            (
                _,
                _,
                awvalid,
                address,
                length,
                size,
                burst,
                wvalid,
                *beat,
                bready,
            ) = await ctx.tick().sample(
                axi.awvalid,
                axi.awaddr,
                axi.awlen,
                axi.awsize,
                axi.awburst,
                axi.wvalid,
                axi.wdata,
                axi.wstrb,
                axi.wlast,
                axi.bready,
            )
            if b_valid:
                assert bready
                answers -= 1
                done += 1
            if awvalid and aw_ready:
                check_burst(address, length, size, burst)
                bursts.append((address, length + 1))
                self.bursts += 1
            if wvalid and w_ready:
                beats.append(tuple(beat))
            while bursts and len(beats) >= bursts[0][1]:
                start, count = bursts.pop(0)
                for i in range(count):
                    data, strobe, last = beats.pop(0)
                    assert last == (i == count - 1)
                    if strobe:
                        assert strobe == (1 << SIZE) - 1
                        assert start + SIZE * i not in self.stored
                        self.stored[start + SIZE * i] = data
                answers += 1


@pytest.mark.parametrize("memory_stall", STALLS)
@pytest.mark.parametrize("stall", [0.0, 0.7])
def test_writer(memory_stall: float, stall: float) -> None:
    dut = AxiWriter(bits=BITS, longest=MAX_BURST)
    memory = WriteMemory(dut, memory_stall)
    transfers = Source(dut.transfers, payloads(TRANSFERS))

    async def drive(ctx: Context) -> None:
        await Source(dut.beats, beats_of(TRANSFERS), stall=stall, seed=2)(ctx)
        while ctx.get(dut.busy):
            await ctx.tick()
        assert not ctx.get(dut.error)

    simulate(dut, transfers, drive, background=[memory])
    addresses = [at + SIZE * i for at, count in TRANSFERS for i in range(count)]
    assert memory.stored == {address: beat_at(address) for address in addresses}


def test_writer_that_is_stopped_ends_its_burst_without_writing() -> None:
    dut = AxiWriter(bits=BITS, longest=MAX_BURST)
    memory = WriteMemory(dut, 0.3)

    async def drive(ctx: Context) -> None:
        await Source(dut.transfers, payloads([(0, 100)]))(ctx)
        await Source(dut.beats, beats_of([(0, 11)]))(ctx)
        ctx.set(dut.stop, 1)
        await ctx.tick()
        while ctx.get(dut.busy):
            await ctx.tick()
        ctx.set(dut.stop, 0)
        await ctx.tick()
        assert memory.bursts < 13
        await Source(dut.transfers, payloads([(4096, 2)]))(ctx)
        await Source(dut.beats, beats_of([(4096, 2)]))(ctx)
        while ctx.get(dut.busy):
            await ctx.tick()

    simulate(dut, drive, background=[memory])
    written = [SIZE * i for i in range(11)] + [4096, 4096 + SIZE]
    assert memory.stored == {address: beat_at(address) for address in written}


@pytest.mark.parametrize("fails_at", [None, 1])
def test_writer_reports_errors(fails_at: int | None) -> None:
    dut = AxiWriter(bits=BITS, longest=MAX_BURST)

    async def drive(ctx: Context) -> None:
        await Source(dut.transfers, payloads([(0, 20)]))(ctx)
        await Source(dut.beats, beats_of([(0, 20)]))(ctx)
        while ctx.get(dut.busy):
            await ctx.tick()
        await ctx.tick().repeat(2)

    errors = Errors(dut.error)
    simulate(dut, drive, background=[WriteMemory(dut, 0.0, fails_at=fails_at), errors])
    assert errors.count == (fails_at is not None)
