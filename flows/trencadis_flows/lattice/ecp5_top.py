"""The top level of an ECP5 board: pins, clock, and the serial board as an instance."""

from typing import Any

from amaranth.build.res import ResourceError
from amaranth.hdl import Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.vendor import LatticeECP5Platform

from trencadis_hw.serial.board import LEDS, SERIAL_NAME
from trencadis_hw.serial.clock_divider import ClockDivider

__all__ = ["BoardTop"]


class BoardTop(Elaboratable):
    """Connect `SerialBoard` to a platform's oscillator, UART and as many LEDs as it has.

    Parameters
    ----------
    divisor : int
        Cycles of the oscillator per cycle of everything else.
    """

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor

    def elaborate(self, platform: LatticeECP5Platform) -> Module:
        """Make the module, with pins of the platform."""
        m = Module()
        oscillator = _request(platform, platform.default_clk)
        m.submodules.oscillator = pin = io.Buffer(io.Direction.Input, oscillator)
        clock = pin.i
        if self._divisor > 1:
            m.submodules.divider = divider = ClockDivider(self._divisor)
            m.d.comb += divider.fast.eq(pin.i)
            clock = divider.slow
            platform.add_clock_constraint(
                divider.slow, platform.default_clk_frequency / self._divisor
            )
        uart = _request(platform, "uart")
        m.submodules.rx = rx = io.Buffer(io.Direction.Input, uart.rx)
        m.submodules.tx = tx = io.Buffer(io.Direction.Output, uart.tx)
        leds = Signal(LEDS)
        m.submodules.board = Instance(SERIAL_NAME, i_clk=clock, i_rx=rx.i, o_tx=tx.o, o_leds=leds)
        for number in range(LEDS):
            try:
                led = _request(platform, "led", number)
            except ResourceError:
                break
            m.submodules[f"led_{number}"] = buffer = io.Buffer(io.Direction.Output, led)
            m.d.comb += buffer.o.eq(leds[number])
        return m


def _request(platform: LatticeECP5Platform, name: str, number: int = 0) -> Any:
    """Ports of a resource, without buffers: one, or one for each of its parts by name."""
    return platform.request(name, number, dir="-")
