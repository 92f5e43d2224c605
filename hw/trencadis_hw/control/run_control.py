"""Control of a run: the steps that follow a start of the kernel."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.registers import Command, Status
from trencadis_hw.axi.full import transfer_layout
from trencadis_hw.control.run_statistics import RunStatistics
from trencadis_hw.interface.streams import connect_streams

__all__ = ["RunControl"]

RESET_CYCLES = 8


class RunControl(wiring.Component):
    """Load an image, compute samples, report; or stop at once after an error or an abort.

    Parameters
    ----------
    bus_bits : int
        Width of a beat.

    Members
    -------
    start, done, idle, abort, command : In, Out, Out, In, In
        As in `ControlRegisters`.
    image, image_beats, input, input_beats, output, samples, statistics : In
        Arguments.
    out_beats : In(16)
        Beats of a packed output - 1.
    read, write : Out(stream of transfer_layout)
        Transfers for the ports.
    read_stop, write_stop, read_busy, write_busy, read_error, write_error : Out, In
        As in `AxiReader` and `AxiWriter`.
    load_start, load_done, load_good : Out, In, In
        As in `ImageLoader`.
    loading, running, reporting : Out(1)
        What the beats on the ports are.
    core_reset, core_start : Out(1)
        To the cores.
    samples_done, overflow, busy : In
        From the cores: samples collected, a queue overflowed, work was issued.
    report : Out(stream of beats)
        The statistics.
    status : Out(32)
        `Status` flags.
    """

    start: Signal
    done: Signal
    idle: Signal
    abort: Signal
    command: Signal
    image: Signal
    input: Signal
    output: Signal
    statistics: Signal
    image_beats: Signal
    input_beats: Signal
    samples: Signal
    out_beats: Signal
    read: stream.Interface
    write: stream.Interface
    read_stop: Signal
    write_stop: Signal
    read_busy: Signal
    write_busy: Signal
    read_error: Signal
    write_error: Signal
    load_start: Signal
    load_done: Signal
    load_good: Signal
    loading: Signal
    running: Signal
    reporting: Signal
    core_reset: Signal
    core_start: Signal
    samples_done: Signal
    overflow: Signal
    busy: Signal
    report: stream.Interface
    status: Signal

    def __init__(self, *, bus_bits: int) -> None:
        self._bus_bits = bus_bits
        transfers = stream.Signature(transfer_layout())
        super().__init__(
            {
                "start": In(1),
                "done": Out(1),
                "idle": Out(1),
                "abort": In(1),
                "command": In(32),
                **{name: In(64) for name in ("image", "input", "output", "statistics")},
                **{name: In(32) for name in ("image_beats", "input_beats", "samples")},
                "out_beats": In(16),
                "read": Out(transfers),
                "write": Out(transfers),
                "read_stop": Out(1),
                "write_stop": Out(1),
                "read_busy": In(1),
                "write_busy": In(1),
                "read_error": In(1),
                "write_error": In(1),
                "load_start": Out(1),
                "load_done": In(1),
                "load_good": In(1),
                "loading": Out(1),
                "running": Out(1),
                "reporting": Out(1),
                "core_reset": Out(1),
                "core_start": Out(1),
                "samples_done": In(32),
                "overflow": In(1),
                "busy": In(1),
                "report": Out(stream.Signature(bus_bits)),
                "status": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.statistics = statistics = RunStatistics(bus_bits=self._bus_bits)
        count = Signal(range(RESET_CYCLES))
        counting = Signal()
        loaded = Signal()
        output_beats = Signal(32)
        read_asked, write_asked = Signal(), Signal()
        bad_image, no_image = Signal(), Signal()
        m.d.sync += output_beats.eq(self.samples * (self.out_beats + 1))
        self._connect_statistics(m, statistics, counting, bad_image=bad_image, no_image=no_image)
        stop = statistics.status != 0

        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.start):
                    m.d.comb += statistics.clear.eq(1)
                    m.d.sync += [counting.eq(1), count.eq(0)]
                    m.next = "reset"
            with m.State("reset"):
                m.d.comb += self.core_reset.eq(1)
                m.d.sync += [count.eq(count + 1), read_asked.eq(0), write_asked.eq(0)]
                with m.If(count == RESET_CYCLES - 1):
                    m.next = "run"
                    with m.If(self.command & Command.LOAD):
                        m.d.comb += self.load_start.eq(1)
                        m.d.sync += loaded.eq(0)
                        m.next = "load"
            with m.State("load"):
                m.d.comb += [
                    self.loading.eq(1),
                    self.read.payload.address.eq(self.image),
                    self.read.payload.beats.eq(self.image_beats),
                    self.read.valid.eq(~read_asked),
                ]
                with m.If(self.read.ready):
                    m.d.sync += read_asked.eq(1)
                with m.If(self.load_done):
                    m.d.sync += loaded.eq(self.load_good)
                    m.d.comb += bad_image.eq(~self.load_good)
                    m.next = "loaded"
                with m.Elif(stop):
                    m.next = "stop"
            with m.State("loaded"):
                # What follows the image's last block is thrown away.
                m.d.comb += self.read_stop.eq(1)
                m.d.sync += read_asked.eq(0)
                with m.If(stop):
                    m.next = "stop"
                with m.Elif(~self.read_busy):
                    m.next = "run"
            with m.State("run"):
                with m.If(~(self.command & Command.RUN).any() | (self.samples == 0)):
                    m.next = "report"
                with m.Elif(~loaded):
                    m.d.comb += no_image.eq(1)
                    m.next = "report"
                with m.Else():
                    m.d.comb += self.core_start.eq(1)
                    m.next = "samples"
            with m.State("samples"):
                m.d.comb += [
                    self.running.eq(1),
                    self.read.payload.address.eq(self.input),
                    self.read.payload.beats.eq(self.input_beats),
                    self.read.valid.eq(~read_asked),
                    self.write.payload.address.eq(self.output),
                    self.write.payload.beats.eq(output_beats),
                    self.write.valid.eq(~write_asked),
                ]
                with m.If(self.read.ready):
                    m.d.sync += read_asked.eq(1)
                with m.If(self.write.ready):
                    m.d.sync += write_asked.eq(1)
                with m.If(stop):
                    m.next = "stop"
                with m.Elif((self.samples_done == self.samples) & ~self.write_busy):
                    m.next = "stop"
            with m.State("stop"):
                m.d.comb += [
                    self.read_stop.eq(1),
                    self.write_stop.eq(1),
                    self.core_reset.eq(1),
                ]
                with m.If(~self.read_busy & ~self.write_busy):
                    m.next = "report"
            with m.State("report"):
                m.d.comb += [
                    self.write.payload.address.eq(self.statistics),
                    self.write.payload.beats.eq(statistics.beats),
                    self.write.valid.eq(1),
                ]
                m.d.comb += statistics.prepare.eq(1)
                m.d.sync += counting.eq(0)
                with m.If(self.write.ready):
                    m.next = "reporting"
            with m.State("reporting"):
                m.d.comb += self.reporting.eq(1)
                with m.If(statistics.reported & ~self.write_busy):
                    m.d.comb += self.done.eq(1)
                    m.next = "idle"
        return m

    def _connect_statistics(
        self,
        m: Module,
        statistics: RunStatistics,
        counting: Signal,
        *,
        bad_image: Signal,
        no_image: Signal,
    ) -> None:
        flags = {
            Status.READ_ERROR: counting & self.read_error,
            Status.WRITE_ERROR: counting & self.write_error,
            Status.OVERFLOW: self.running & self.overflow,
            Status.ABORTED: counting & self.abort,
            Status.BAD_IMAGE: bad_image,
            Status.NO_IMAGE: no_image,
        }
        m.d.comb += [
            statistics.counting.eq(counting),
            statistics.loading.eq(self.loading),
            statistics.running.eq(self.running),
            statistics.busy.eq(self.busy),
            statistics.samples_done.eq(self.samples_done),
            *(statistics.flags[flag.bit_length() - 1].eq(raised) for flag, raised in flags.items()),
            statistics.reporting.eq(self.reporting),
            self.status.eq(statistics.status),
        ]
        connect_streams(m, source=statistics.report, sink=wiring.flipped(self.report))
