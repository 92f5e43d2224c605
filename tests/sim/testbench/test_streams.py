from typing import Any

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

from trencadis_hw.interface.streams import Queue
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, encode, plain, simulate

LAYOUT = data.StructLayout({"a": signed(3), "b": data.ArrayLayout(4, 2)})


class Fickle(wiring.Component):
    """Offers a payload, and changes or withdraws it before it is taken."""

    o: stream.Interface

    def __init__(self, *, withdraws: bool) -> None:
        self._withdraws = withdraws
        super().__init__({"o": Out(stream.Signature(4))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        time = Signal(4)
        m.d.sync += time.eq(time + 1)
        m.d.comb += [
            self.o.valid.eq((time > 2) & (time != 5) if self._withdraws else time > 2),
            self.o.payload.eq(7 if self._withdraws else time),
        ]
        return m


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"c": 1}, "payload has no field c"),
        ({"a": 4}, r"payload\.a must be in -4\.\.3, not 4"),
        ({"a": -5}, r"payload\.a must be in -4\.\.3, not -5"),
        ({"b": [1]}, r"payload\.b must have 2 elements, not 1"),
        ({"b": [0, 16]}, r"payload\.b\[1\] must be in 0\.\.15, not 16"),
    ],
)
def test_encode_refuses(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        encode(LAYOUT, value)


def test_plain_is_inverse_of_encode() -> None:
    value = {"a": -3, "b": [5, 15]}
    assert plain(LAYOUT.const(encode(LAYOUT, value))) == value


@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.6, 0.0), (0.0, 0.6), (0.4, 0.4)])
def test_source_and_sink(stalls: tuple[float, float]) -> None:
    queue = Queue(LAYOUT, 3)
    payloads = [{"a": i % 8 - 4, "b": [i % 16, 15 - i % 16]} for i in range(40)]
    source = Source(queue.i, payloads, stall=stalls[0], seed=1)
    sink = Sink(queue.o, len(payloads), stall=stalls[1], seed=2)
    simulate(queue, source, sink, background=[Monitor(queue.o, "queue")])
    assert sink.payloads == payloads
    assert source.sent == 40


def test_a_payload_a_cycle_without_stalls() -> None:
    queue = Queue(8, 2)
    cycles = 0

    async def count(ctx: Context) -> None:
        nonlocal cycles
        while True:
            await ctx.tick()
            cycles += 1

    simulate(
        queue, Source(queue.i, range(100)), Sink(queue.o, 100), background=[count], most_cycles=102
    )
    assert cycles <= 102


@pytest.mark.parametrize(
    ("withdraws", "message"),
    [
        (True, "fickle withdrew a payload it had offered"),
        (False, "fickle changed a payload it had offered, 0x3 to 0x4"),
    ],
)
def test_monitor_sees_a_broken_contract(withdraws: bool, message: str) -> None:
    dut = Fickle(withdraws=withdraws)

    async def wait(ctx: Context) -> None:
        for _ in range(10):
            await ctx.tick()

    with pytest.raises(AssertionError, match=f"^{message}$"):
        simulate(dut, wait, background=[Monitor(dut.o, "fickle")])


def test_simulation_that_hangs() -> None:
    queue = Queue(8, 2)
    with pytest.raises(TimeoutError, match=r"^the simulation has not ended after 50 cycles$"):
        simulate(queue, Sink(queue.o, 1), most_cycles=50)


def test_stall_must_leave_a_chance() -> None:
    with pytest.raises(ValueError, match=r"^stall must be a probability below 1, not 1\.0$"):
        Source(Queue(8, 2).i, [], stall=1.0)
