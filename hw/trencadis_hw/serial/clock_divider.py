"""A slower clock out of a fast oscillator."""

from amaranth.hdl import ClockDomain, ClockSignal, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ClockDivider"]


class ClockDivider(wiring.Component):
    """Divide a clock by a whole number.

    The slow clock is a register, so it has no glitches; it is high for half of its period, or for
    one fast cycle less than the other half where `divisor` is odd. Everything after it uses rising
    edges alone. There is no phase relation to rely on between the two.

    Parameters
    ----------
    divisor : int
        Cycles of `fast` per cycle of `slow`, at least 2.

    Members
    -------
    fast : In(1)
        The oscillator.
    slow : Out(1)
        The divided clock.

    Raises
    ------
    ValueError
        If the divisor is smaller.
    """

    fast: Signal
    slow: Signal

    def __init__(self, divisor: int) -> None:
        if divisor < 2:
            raise ValueError(f"divisor must be at least 2, not {divisor}")
        self._divisor = divisor
        super().__init__({"fast": In(1), "slow": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.fast = ClockDomain("fast", local=True, reset_less=True)
        count = Signal(range(self._divisor))
        m.d.comb += ClockSignal("fast").eq(self.fast)
        m.d.fast += [
            count.eq(count + 1),
            self.slow.eq(count < self._divisor // 2),
        ]
        with m.If(count == self._divisor - 1):
            m.d.fast += count.eq(0)
        return m
