import pytest
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw.interface.streams import Queue, RegisterSlice, connect_streams, delay
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, simulate

STALLS = [(0.0, 0.0), (0.6, 0.0), (0.0, 0.6), (0.5, 0.5)]
SHAPE = data.StructLayout({"a": signed(4), "b": unsigned(3)})
PAYLOADS = [{"a": i % 16 - 8, "b": i % 7} for i in range(60)]


class Delayed(wiring.Component):
    i: Signal
    o: Signal

    def __init__(self, cycles: int, *, registers: bool) -> None:
        self._cycles = cycles
        self._registers = registers
        super().__init__({"i": In(4), "o": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        later = delay(m, self.i, self._cycles, name="later", registers=self._registers)
        m.d.comb += self.o.eq(later)
        return m


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_queue_keeps_order(depth: int, stalls: tuple[float, float]) -> None:
    queue = Queue(SHAPE, depth)
    sink = Sink(queue.o, len(PAYLOADS), stall=stalls[1], seed=depth)
    source = Source(queue.i, PAYLOADS, stall=stalls[0])

    async def level(ctx: Context) -> None:
        while True:
            assert ctx.get(queue.level) == source.sent - len(sink.payloads)
            await ctx.tick()

    simulate(queue, source, sink, background=[level, Monitor(queue.o, "queue")])
    assert sink.payloads == PAYLOADS


@pytest.mark.parametrize("depth", [1, 3])
def test_queue_holds_its_depth(depth: int) -> None:
    queue = Queue(8, depth)
    source = Source(queue.i, range(depth + 1))

    async def wait(ctx: Context) -> None:
        for _ in range(depth + 3):
            await ctx.tick()
        assert source.sent == depth
        assert ctx.get(queue.level) == depth
        assert not ctx.get(queue.i.ready)

    simulate(queue, wait, background=[source])


@pytest.mark.parametrize("stalls", STALLS)
def test_register_slice_keeps_order(stalls: tuple[float, float]) -> None:
    dut = RegisterSlice(SHAPE)
    sink = Sink(dut.o, len(PAYLOADS), stall=stalls[1])
    source = Source(dut.i, PAYLOADS, stall=stalls[0])
    simulate(dut, source, sink, background=[Monitor(dut.o, "slice")])
    assert sink.payloads == PAYLOADS


def test_register_slice_takes_a_payload_a_cycle() -> None:
    dut = RegisterSlice(8)
    sink = Sink(dut.o, 50)
    simulate(dut, Source(dut.i, range(50)), sink, most_cycles=52)
    assert sink.payloads == list(range(50))


@pytest.mark.parametrize("depth", [0, -1, 2.5])
def test_depth_is_checked(depth: int) -> None:
    with pytest.raises(
        ValueError, match=f"^depth must be a positive number of payloads, not {depth!r}$"
    ):
        Queue(8, depth)


def test_streams_of_different_payloads_are_not_connected() -> None:
    source = stream.Signature(data.StructLayout({"a": 4, "b": 4})).create(path=("source",))
    sink = stream.Signature(data.StructLayout({"a": 5, "b": 3})).create(path=("sink",))
    with pytest.raises(TypeError, match=r"^a stream of .*'b': 4.* cannot feed .*'b': 3"):
        connect_streams(Module(), source=source, sink=sink)


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("cycles", [0, 1, 3])
def test_delay(cycles: int, registers: bool) -> None:
    dut = Delayed(cycles, registers=registers)

    async def drive(ctx: Context) -> None:
        sent = [5, 9, 2, 15, 1, 8, 4, 7]
        for number, value in enumerate(sent):
            ctx.set(dut.i, value)
            if number >= cycles:
                assert ctx.get(dut.o) == sent[number - cycles]
            await ctx.tick()

    simulate(dut, drive)
