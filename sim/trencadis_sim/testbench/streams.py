"""Both ends of a stream in `amaranth.sim`: sources and sinks that stall at random, and a monitor.

A testbench of a block is a source for every input, a sink for every output and a monitor for the
contract between them, handed to `simulate`.
"""

import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from amaranth.hdl import Module, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, stream
from amaranth.sim import Simulator

__all__ = ["Context", "Monitor", "Sink", "Source", "encode", "plain", "simulate"]

Context = Any
"""Interface of the simulator to a testbench; amaranth-stubs have only private names for it."""

Testbench = Callable[[Context], Coroutine[Any, Any, None]]

CLOCK_PERIOD_S = 1e-6


class Design(Protocol):
    """Anything that can be elaborated."""

    def elaborate(self, platform: Any) -> Any:
        """Describe the design."""
        ...


def encode(shape: ShapeLike, value: Any, name: str = "payload") -> Any:
    """`value`, for `ctx.set`, after checking that it fits `shape`; Amaranth itself truncates.

    Parameters
    ----------
    shape : shape-like
        What is to be set.
    value : int, dict or sequence
        An int for bits, a dict for a struct, where what is not named is 0, a sequence for an array.
    name : str
        What it is called in messages.

    Raises
    ------
    ValueError
        If it does not fit.
    """
    if isinstance(shape, data.StructLayout):
        unknown = sorted(value.keys() - shape.members.keys())
        if unknown:
            raise ValueError(f"{name} has no field {', '.join(unknown)}")
        return {key: encode(shape[key].shape, value[key], f"{name}.{key}") for key in value}
    if isinstance(shape, data.ArrayLayout):
        if len(value) != shape.length:
            raise ValueError(f"{name} must have {shape.length} elements, not {len(value)}")
        return [encode(shape.elem_shape, v, f"{name}[{i}]") for i, v in enumerate(value)]
    bits = Shape.cast(shape)
    low = -(1 << (bits.width - 1)) if bits.signed else 0
    high = (1 << (bits.width - bits.signed)) - 1
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high}, not {value}")
    return int(value)


def plain(value: Any) -> Any:
    """Values from `ctx.get` as ints, dicts of fields and lists of elements."""
    if isinstance(value, data.Const):
        shape = value.shape()
        if isinstance(shape, data.ArrayLayout):
            return [plain(value[i]) for i in range(shape.length)]
        return {str(name): plain(value[name]) for name, _ in shape}
    return int(value)


class _Stalls:
    """Cycles to wait before the next transfer: none with probability 1 - `stall`."""

    def __init__(self, stall: float, seed: int) -> None:
        if not 0 <= stall < 1:
            raise ValueError(f"stall must be a probability below 1, not {stall!r}")
        self._stall = stall
        self._random = random.Random(seed)

    def next(self) -> int:
        cycles = 0
        while self._random.random() < self._stall:
            cycles += 1
        return cycles


class Source:
    """A testbench that sends payloads into a stream, in order.

    Parameters
    ----------
    port : stream.Interface
        The input of the block under test.
    payloads : iterable
        What to send, as `encode` takes it.
    stall : float
        Probability of waiting in a cycle without offering a payload; 0 sends one per cycle.
    seed : int
        Seed of the stalls.

    Attributes
    ----------
    sent : int
        Payloads transferred so far.
    """

    def __init__(
        self, port: stream.Interface, payloads: Iterable[Any], *, stall: float = 0.0, seed: int = 0
    ) -> None:
        self._port = port
        self._payloads = payloads
        self._stalls = _Stalls(stall, seed)
        self.sent = 0

    async def __call__(self, ctx: Context) -> None:
        """Send everything, then return."""
        port = self._port
        shape = port.payload.shape()
        for payload in self._payloads:
            for _ in range(self._stalls.next()):
                await ctx.tick()
            ctx.set(port.payload, encode(shape, payload))
            ctx.set(port.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(port.ready)
            ctx.set(port.valid, 0)
            self.sent += 1


class Sink:
    """A testbench that takes payloads from a stream.

    Parameters
    ----------
    port : stream.Interface
        The output of the block under test.
    count : int
        Payloads to take before returning.
    stall : float
        Probability of not being ready in a cycle; 0 takes one per cycle.
    seed : int
        Seed of the stalls.

    Attributes
    ----------
    payloads : list
        What came, as `plain` gives it.
    """

    def __init__(
        self, port: stream.Interface, count: int, *, stall: float = 0.0, seed: int = 1
    ) -> None:
        self._port = port
        self._count = count
        self._stalls = _Stalls(stall, seed)
        self.payloads: list[Any] = []

    async def __call__(self, ctx: Context) -> None:
        """Take `count` payloads, then return."""
        port = self._port
        while len(self.payloads) < self._count:
            for _ in range(self._stalls.next()):
                await ctx.tick()
            ctx.set(port.ready, 1)
            valid, payload = False, None
            while not valid:
                _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            ctx.set(port.ready, 0)
            self.payloads.append(plain(payload))


class Monitor:
    """A testbench that checks that what a stream has offered stays offered until it is taken.

    Give it to `simulate` among `background`.

    Parameters
    ----------
    port : stream.Interface
        The stream to watch.
    name : str
        What it is called in messages.

    Raises
    ------
    AssertionError
        As soon as an offer is withdrawn or changed.
    """

    def __init__(self, port: stream.Interface, name: str) -> None:
        self._port = port
        self._name = name

    async def __call__(self, ctx: Context) -> None:
        """Watch until the simulation ends."""
        port = self._port
        offered: int | None = None
        while True:
            _, _, valid, ready, payload = await ctx.tick().sample(
                port.valid, port.ready, Value.cast(port.payload)
            )
            if offered is not None and not valid:
                raise AssertionError(f"{self._name} withdrew a payload it had offered")
            if offered is not None and payload != offered:
                raise AssertionError(
                    f"{self._name} changed a payload it had offered, {offered:#x} to {payload:#x}"
                )
            offered = payload if valid and not ready else None


def simulate(
    dut: Design,
    *testbenches: Testbench,
    background: Iterable[Testbench] = (),
    most_cycles: int = 20_000,
) -> None:
    """Run testbenches with a block until all have returned.

    Parameters
    ----------
    dut : Component
        The block, with at most the clock domain `sync`.
    testbenches : async callables
        Sources, sinks and the like.
    background : async callables
        Testbenches that are not waited for.
    most_cycles : int
        Cycles after which something is wrong.

    Raises
    ------
    TimeoutError
        If a testbench has not returned by then.
    """
    m = Module()
    m.submodules.dut = dut
    ticking = Signal()
    m.d.sync += ticking.eq(~ticking)  # there is a clock even if the block has none

    async def watch(ctx: Context) -> None:
        for _ in range(most_cycles):
            await ctx.tick()
        raise TimeoutError(f"the simulation has not ended after {most_cycles} cycles")

    simulator = Simulator(m)
    simulator.add_clock(CLOCK_PERIOD_S)
    for testbench in testbenches:
        simulator.add_testbench(_function(testbench))
    for testbench in (*background, watch):
        simulator.add_testbench(_function(testbench), background=True)
    simulator.run()


def _function(testbench: Testbench) -> Testbench:
    """The simulator takes functions only, not what can be called like one."""

    async def run(ctx: Context) -> None:
        await testbench(ctx)

    return run
