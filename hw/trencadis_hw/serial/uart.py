"""A UART: bytes on a pair of wires, 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]

FRAME_BITS = 10
"""Start bit, data, stop bit."""

MIN_DIVISOR = 3
"""Fewer cycles per bit, and a receiver would not sample bits near their middle."""


def _check_divisor(divisor: int) -> None:
    if not isinstance(divisor, int) or divisor < MIN_DIVISOR:
        raise ValueError(f"divisor must be at least {MIN_DIVISOR} cycles per bit, not {divisor!r}")


class UartReceiver(wiring.Component):
    """Bytes from a wire.

    A byte without a stop bit is dropped, and so is one that comes while the one before has not
    been taken: what uses this must detect it.

    Parameters
    ----------
    divisor : int
        Cycles a bit.

    Members
    -------
    rx : In(1)
        The wire, asynchronous.
    o : Out(stream)
        Bytes; each must be taken within the time of the next one.
    """

    o: stream.Interface
    rx: Signal

    def __init__(self, *, divisor: int) -> None:
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"rx": In(1), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, rx, init=1)
        left = Signal(range(FRAME_BITS + 1))
        timer = Signal(range(self._divisor))
        bits = Signal(FRAME_BITS - 1)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(left == 0):
            m.d.sync += timer.eq(self._divisor // 2 - 1)
            with m.If(~rx):
                m.d.sync += left.eq(FRAME_BITS)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [
                timer.eq(self._divisor - 1),
                left.eq(left - 1),
                bits.eq(Cat(bits[1:], rx)),
            ]
            with m.If((left == FRAME_BITS) & rx):
                # Too short for a start bit.
                m.d.sync += left.eq(0)
            with m.Elif((left == 1) & rx & (~self.o.valid | self.o.ready)):
                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(bits[1:])]
        return m


class UartTransmitter(wiring.Component):
    """Bytes onto a wire.

    Parameters
    ----------
    divisor : int
        Cycles a bit.

    Members
    -------
    i : In(stream)
        Bytes.
    tx : Out(1)
        The wire.
    """

    i: stream.Interface
    tx: Signal

    def __init__(self, *, divisor: int) -> None:
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(range(FRAME_BITS + 1))
        timer = Signal(range(self._divisor))
        bits = Signal(FRAME_BITS, init=-1)
        m.d.comb += self.i.ready.eq(left == 0)
        # Inverted, so that the wire is high before the first clock edge too.
        low = Signal()
        m.d.sync += low.eq((left != 0) & ~bits[0])
        m.d.comb += self.tx.eq(~low)
        with m.If(left == 0), m.If(self.i.valid):
            m.d.sync += [
                bits.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1))),
                left.eq(FRAME_BITS),
                timer.eq(self._divisor - 1),
            ]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [
                timer.eq(self._divisor - 1),
                bits.eq(Cat(bits[1:], Const(1, 1))),
                left.eq(left - 1),
            ]
        return m
