"""An AXI4-Lite slave that is a register file with XRT's control block."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.image import ABI_VERSION
from trencadis_format.registers import Register

__all__ = ["ADDRESS_BITS", "ARGUMENTS", "AxiLiteInterface", "AxiLiteSignature", "ControlRegisters"]

ADDRESS_BITS = 8
"""Address width of the control port."""


class AxiLiteInterface(wiring.PureInterface):
    """An AXI4-Lite port; its members are those of `AxiLiteSignature`."""

    awaddr: Signal
    awprot: Signal
    awvalid: Signal
    awready: Signal
    wdata: Signal
    wstrb: Signal
    wvalid: Signal
    wready: Signal
    bresp: Signal
    bvalid: Signal
    bready: Signal
    araddr: Signal
    arprot: Signal
    arvalid: Signal
    arready: Signal
    rdata: Signal
    rresp: Signal
    rvalid: Signal
    rready: Signal


class AxiLiteSignature(wiring.Signature):
    """An AXI4-Lite port with 32 bits of data, as the slave has it."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": In(ADDRESS_BITS),
                "awprot": In(3),
                "awvalid": In(1),
                "awready": Out(1),
                "wdata": In(32),
                "wstrb": In(4),
                "wvalid": In(1),
                "wready": Out(1),
                "bresp": Out(2),
                "bvalid": Out(1),
                "bready": In(1),
                "araddr": In(ADDRESS_BITS),
                "arprot": In(3),
                "arvalid": In(1),
                "arready": Out(1),
                "rdata": Out(32),
                "rresp": Out(2),
                "rvalid": Out(1),
                "rready": In(1),
            }
        )

    def create(self, *, path: Any = None, src_loc_at: int = 0) -> AxiLiteInterface:
        """Make a port, as `wiring.Signature.create` does."""
        return AxiLiteInterface(self, path=path, src_loc_at=1 + src_loc_at)


ARGUMENTS = {
    "image": (Register.IMAGE, 64),
    "input": (Register.INPUT, 64),
    "output": (Register.OUTPUT, 64),
    "statistics": (Register.STATISTICS, 64),
    "image_beats": (Register.IMAGE_BEATS, 32),
    "input_beats": (Register.INPUT_BEATS, 32),
    "samples": (Register.SAMPLES, 32),
    "command": (Register.COMMAND, 32),
}
"""Kernel arguments: register and width."""


class ControlRegisters(wiring.Component):
    """XRT's `ap_ctrl_hs` registers, the kernel's arguments and its own registers.

    A write is answered 1 cycle after both its address and its data have come, a read 1 cycle after
    its address. Unknown addresses read as 0 and ignore writes.

    Parameters
    ----------
    configuration : int
        Digest of the kernel's configuration, for the host to read.

    Members
    -------
    bus : In(AxiLiteSignature)
        The port.
    start : Out(1)
        The host wants a run; stays until `done`.
    done : In(1)
        The run is over.
    idle : In(1)
        No run is under way.
    abort : Out(1)
        The host wants the run to end at once; one cycle.
    status : In(32)
        `Status` flags.
    interrupt : Out(1)
        An enabled interrupt is pending.
    image, input, output, statistics, image_beats, input_beats, samples, command : Out
        Arguments.
    """

    bus: AxiLiteInterface
    start: Signal
    done: Signal
    idle: Signal
    abort: Signal
    status: Signal
    interrupt: Signal
    image: Signal
    input: Signal
    output: Signal
    statistics: Signal
    image_beats: Signal
    input_beats: Signal
    samples: Signal
    command: Signal

    def __init__(self, *, configuration: int) -> None:
        self._configuration = configuration
        super().__init__(
            {
                "bus": Out(AxiLiteSignature()),
                "start": Out(1),
                "done": In(1),
                "idle": In(1),
                "abort": Out(1),
                "status": In(32),
                "interrupt": Out(1),
                **{name: Out(width) for name, (_, width) in ARGUMENTS.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus

        # Write: hold address and data until both are there and the last answer was taken.
        address, data = Signal(ADDRESS_BITS), Signal(32)
        strobe = Signal(4)
        have_address, have_data = Signal(), Signal()
        write = Signal()
        m.d.comb += [
            bus.awready.eq(~have_address),
            bus.wready.eq(~have_data),
            bus.bresp.eq(0),
            write.eq(have_address & have_data & (~bus.bvalid | bus.bready)),
        ]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [bus.bvalid.eq(1), have_address.eq(0), have_data.eq(0)]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address.eq(bus.awaddr), have_address.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [data.eq(bus.wdata), strobe.eq(bus.wstrb), have_data.eq(1)]

        start, done = Signal(), Signal()
        global_enable, enable, pending = Signal(), Signal(2), Signal(2)
        words: dict[int, Value] = {}
        for name, (register, width) in ARGUMENTS.items():
            argument = getattr(self, name)
            for i in range(width // 32):
                words[register + 4 * i] = argument[32 * i : 32 * (i + 1)]
        with m.If(self.done):
            m.d.sync += [start.eq(0), done.eq(1), pending.eq(pending | enable)]
        m.d.comb += [
            self.start.eq(start),
            self.interrupt.eq(global_enable & pending.any()),
        ]

        with m.If(write), m.Switch(address):
            with m.Case(Register.CONTROL), m.If(strobe[0] & data[0]):
                m.d.sync += start.eq(1)
            with m.Case(Register.GLOBAL_INTERRUPT_ENABLE), m.If(strobe[0]):
                m.d.sync += global_enable.eq(data[0])
            with m.Case(Register.INTERRUPT_ENABLE), m.If(strobe[0]):
                m.d.sync += enable.eq(data)
            with m.Case(Register.INTERRUPT_STATUS), m.If(strobe[0]):
                m.d.sync += pending.eq(pending ^ data[:2])
            with m.Case(Register.ABORT):
                m.d.comb += self.abort.eq(strobe[0] & data[0])
            for offset, word in words.items():
                with m.Case(offset):
                    for i in range(4):
                        with m.If(strobe[i]):
                            m.d.sync += word[8 * i : 8 * i + 8].eq(data[8 * i : 8 * i + 8])

        # Read: answer in the cycle after the address.
        value = Signal(32)
        with m.Switch(bus.araddr):
            with m.Case(Register.CONTROL):
                m.d.comb += value.eq(Cat(start, done, self.idle & ~start, done))
            with m.Case(Register.GLOBAL_INTERRUPT_ENABLE):
                m.d.comb += value.eq(global_enable)
            with m.Case(Register.INTERRUPT_ENABLE):
                m.d.comb += value.eq(enable)
            with m.Case(Register.INTERRUPT_STATUS):
                m.d.comb += value.eq(pending)
            with m.Case(Register.STATUS):
                m.d.comb += value.eq(self.status)
            with m.Case(Register.VERSION):
                m.d.comb += value.eq(ABI_VERSION)
            with m.Case(Register.CONFIGURATION):
                m.d.comb += value.eq(self._configuration & 0xFFFFFFFF)
            with m.Case(Register.CONFIGURATION + 4):
                m.d.comb += value.eq(self._configuration >> 32)
            for offset, word in words.items():
                with m.Case(offset):
                    m.d.comb += value.eq(word)
        m.d.comb += [
            bus.arready.eq(~bus.rvalid | bus.rready),
            bus.rresp.eq(0),
        ]
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(value)]
            # Reading `ap_done` clears it, unless a run ends in this very cycle.
            with m.If((bus.araddr == Register.CONTROL) & ~self.done):
                m.d.sync += done.eq(0)
        return m
