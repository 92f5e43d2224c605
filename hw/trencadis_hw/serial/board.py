"""A board that is all there is: kernel, its memory on the chip, and a serial link to the host."""

import re
from dataclasses import dataclass

from amaranth.back import verilog
from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Instance,
    Module,
    ResetInserter,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trencadis_format import link
from trencadis_hw.generate import KERNEL_NAME
from trencadis_hw.interface.streams import connect_streams
from trencadis_hw.kernel import CONTROL_PREFIX, MEMORY_PREFIX
from trencadis_hw.serial.bridge import LinkBridge
from trencadis_hw.serial.memory import AxiMemory
from trencadis_hw.serial.uart import FRAME_BITS, UartReceiver, UartTransmitter

__all__ = ["LEDS", "SERIAL_NAME", "SerialBoard", "SerialBoardConfig", "board_verilog"]

SERIAL_NAME = "trencadis_serial"

LEDS = 4
RESET_CYCLES = 64
_FIRST_CONTENTS = re.compile(
    r"^  initial begin\n(?: {4}contents\[\d+\] = \d+'h0+;\n)+  end\n", re.MULTILINE
)
BLINK_CYCLES_LOG2 = 22


@dataclass(frozen=True, kw_only=True)
class SerialBoardConfig:
    """Surroundings of the kernel.

    Attributes
    ----------
    clock_hz : int
        Clock of everything.
    baud : int
        Bits per second on the link; should divide the clock.
    bus_bits : int
        Width of a beat, as the kernel's configuration says.
    memory_bytes : int
        Memory of the kernel. A power of two.

    Raises
    ------
    ValueError
        If the memory's size or the link's rate are not possible.
    """

    clock_hz: int
    baud: int
    bus_bits: int
    memory_bytes: int

    def __post_init__(self) -> None:
        if self.memory_bytes < 4096 or self.memory_bytes & (self.memory_bytes - 1):
            raise ValueError(
                f"memory_bytes must be a power of two from 4096 on, not {self.memory_bytes}"
            )
        if not 0 < self.baud <= self.clock_hz // 3:
            raise ValueError(f"baud must be in 1..{self.clock_hz // 3}, not {self.baud}")
        error = abs(self.clock_hz / (self.divisor * self.baud) - 1)
        if error > 0.015:
            raise ValueError(
                f"baud {self.baud} is {error:.1%} away from what {self.clock_hz} Hz can be divided "
                f"into; the nearest rate is {self.clock_hz // self.divisor}"
            )

    @property
    def divisor(self) -> int:
        """Cycles a bit."""
        return round(self.clock_hz / self.baud)

    @property
    def idle_cycles(self) -> int:
        """Cycles without a byte after which a request is forgotten."""
        return link.IDLE_BYTES * FRAME_BITS * self.divisor


class SerialBoard(wiring.Component):
    """A kernel (an instance, its Verilog is made by itself) with memory and a serial link.

    Parameters
    ----------
    config : SerialBoardConfig
        What surrounds the kernel.

    Members
    -------
    clk : In(1)
        The clock.
    rx, tx : In(1), Out(1)
        The link, as the board sees it.
    leds : Out(LEDS)
        Alive (blinks), a request came, the kernel runs, a result waits.
    """

    clk: Signal
    rx: Signal
    tx: Signal
    leds: Signal

    def __init__(self, config: SerialBoardConfig) -> None:
        self._config = config
        super().__init__({"clk": In(1), "rx": In(1), "tx": Out(1), "leds": Out(LEDS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.domains.sync = ClockDomain("sync", local=True)
        # Registers have their first values from configuration; the reset is for what has none.
        m.domains.start = ClockDomain("start", local=True, reset_less=True)
        starting = Signal(range(RESET_CYCLES), init=RESET_CYCLES - 1)
        reset = Signal(init=1)
        m.d.comb += [
            ClockSignal("start").eq(self.clk),
            ClockSignal("sync").eq(self.clk),
            ResetSignal("sync").eq(reset),
        ]
        m.d.start += reset.eq(starting != 0)
        with m.If(starting != 0):
            m.d.start += starting.eq(starting - 1)

        m.submodules.receiver = receiver = UartReceiver(divisor=config.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=config.divisor)
        m.submodules.bridge = bridge = LinkBridge(
            memory_words=config.memory_bytes // 4,
            clock_khz=config.clock_hz // 1000,
            idle_cycles=config.idle_cycles,
        )
        kernel_reset = Signal(init=1)
        memory = AxiMemory(bits=config.bus_bits, beats=8 * config.memory_bytes // config.bus_bits)
        # With the kernel: what is left of a burst must not be taken for the next one's answer.
        m.submodules.memory = ResetInserter(kernel_reset)(memory)
        connect_streams(m, source=receiver.o, sink=bridge.i)
        connect_streams(m, source=bridge.o, sink=transmitter.i)
        wiring.connect(m, bridge.words, memory.words)
        m.d.sync += kernel_reset.eq(bridge.reset)
        interrupt = Signal()
        m.submodules.kernel = Instance(
            KERNEL_NAME,
            i_ap_clk=self.clk,
            i_ap_rst_n=~kernel_reset & ~reset,
            o_interrupt=interrupt,
            **_ports(CONTROL_PREFIX, bridge.control),
            **_ports(MEMORY_PREFIX, memory.read),
            **_ports(MEMORY_PREFIX, memory.write),
        )

        blink = Signal(BLINK_CYCLES_LOG2 + 1)
        seen, running = Signal(), Signal()
        m.d.sync += [blink.eq(blink + 1), seen.eq(seen | receiver.o.valid)]
        with m.If(interrupt | bridge.reset):
            m.d.sync += running.eq(0)
        with m.Elif(memory.read.arvalid):
            m.d.sync += running.eq(1)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            self.leds.eq(Cat(blink[-1], seen, running, interrupt)),
        ]
        return m


def _ports(prefix: str, bus: wiring.PureInterface) -> dict[str, Value]:
    """The kernel's ports of a prefix, connected to a bus as its other side has it."""
    ports = {}
    for name, member in bus.signature.members.items():
        # The other side's outputs are the kernel's inputs.
        direction = "i" if member.flow is Out else "o"
        ports[f"{direction}_{prefix}{name}"] = getattr(bus, name)
    return ports


def board_verilog(config: SerialBoardConfig, memory_file: str | None = None) -> str:
    """The Verilog of a board, without that of the kernel in it.

    Parameters
    ----------
    config : SerialBoardConfig
        The board.
    memory_file : str, optional
        A file of hexadecimal beats that the memory begins with. Without one it begins with
        whatever the chip has there.
    """
    text = verilog.convert(SerialBoard(config), name=SERIAL_NAME, emit_src=False)
    read = "" if memory_file is None else f'  initial $readmemh("{memory_file}", contents);\n'
    # Written out beat by beat, zeros would cost the tools minutes.
    text, count = _FIRST_CONTENTS.subn(lambda match: read, text)
    assert count == 1, "the memory's first contents were not found"
    return text
