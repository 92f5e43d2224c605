"""Amaranth streams: connecting, buffering, delaying."""

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue", "RegisterSlice", "connect_streams", "delay"]

Stream = stream.Interface | wiring.FlippedInterface
"""A stream as its own side has it, or as the other side has it."""


def connect_streams(m: Module, *, source: Stream, sink: Stream) -> None:
    """Connect a source to a sink of the same payload shape.

    `wiring.connect` takes different layouts of equal width for each other; this does not.

    Raises
    ------
    TypeError
        If the payload shapes differ.
    """
    given, taken = source.payload.shape(), sink.payload.shape()
    if given != taken:
        raise TypeError(f"a stream of {given!r} cannot feed a stream of {taken!r}")
    m.d.comb += [
        sink.payload.eq(source.payload),
        sink.valid.eq(source.valid),
        source.ready.eq(sink.ready),
    ]


def delay(m: Module, value: Value, cycles: int, *, name: str, registers: bool = False) -> Value:
    """`value` as it was `cycles` cycles ago.

    The stages have no reset, so that synthesis can use shift registers: a valid bit that must not
    be garbage after reset needs registers of its own. With `registers` they are registers: where
    there are many short delays, flip-flops are less scarce than the LUTs of shift registers.
    """
    attributes = {"srl_style": "register"} if registers else {}
    for cycle in range(cycles):
        stage = Signal.like(
            value, name=f"{name}_{cycle + 1}", reset_less=not registers, attrs=attributes
        )
        m.d.sync += stage.eq(value)
        value = stage
    return value


class Queue(wiring.Component):
    """First in, first out, in distributed memory.

    Latency 1 cycle, one payload per cycle.

    Parameters
    ----------
    shape : shape-like
        Payload.
    depth : int
        Payloads it holds.

    Members
    -------
    i, o : stream
        Input and output.
    level : Out(range(depth + 1))
        Payloads held.
    """

    i: stream.Interface
    o: stream.Interface
    level: Signal

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(f"depth must be a positive number of payloads, not {depth!r}")
        self._shape = shape
        self._depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The stubs do not know `level`.
        queue: Any = fifo.SyncFIFO(width=len(Value.cast(self.i.payload)), depth=self._depth)
        m.submodules.fifo = queue
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            Value.cast(self.o.payload).eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            self.level.eq(queue.level),
        ]
        return m


class RegisterSlice(wiring.Component):
    """A stage in which valid, payload and ready are all registered (a skid buffer).

    Latency 1 cycle, one payload per cycle.

    Parameters
    ----------
    shape : shape-like
        Payload.

    Members
    -------
    i, o : stream
        Input and output.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        skid = Signal(self._shape, reset_less=True)
        full = Signal()
        m.d.comb += self.i.ready.eq(~full)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid | full),
                full.eq(0),
            ]
            with m.If(full):
                m.d.sync += self.o.payload.eq(skid)
            with m.Else():
                m.d.sync += self.o.payload.eq(self.i.payload)
        with m.Elif(self.i.valid & ~full):
            m.d.sync += [skid.eq(self.i.payload), full.eq(1)]
        return m
