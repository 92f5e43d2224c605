"""Counting what happens in a run of the kernel, and reporting it in beats."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.image import ABI_VERSION
from trencadis_format.registers import STATISTICS
from trencadis_hw.interface.layouts import layout_of

__all__ = ["RunStatistics"]


class RunStatistics(wiring.Component):
    """Count cycles and samples of a run; hold its status; give all of it as beats.

    Parameters
    ----------
    bus_bits : int
        Width of a beat.

    Members
    -------
    clear : In(1)
        A run begins: all counts and flags become 0.
    counting, loading, running, busy : In(1)
        The run goes on; an image is loaded; samples are computed; work was issued.
    samples_done : In(32)
        Samples collected so far.
    flags : In(32)
        `Status` flags to raise.
    status : Out(32)
        Flags that were raised.
    prepare : In(1)
        Take the numbers as they are for the report.
    report : Out(stream of beats)
        The numbers: `STATISTICS`.
    reporting : In(1)
        Give the report.
    reported : Out(1)
        All beats have been given.
    """

    clear: Signal
    counting: Signal
    loading: Signal
    running: Signal
    busy: Signal
    samples_done: Signal
    flags: Signal
    status: Signal
    prepare: Signal
    report: stream.Interface
    reporting: Signal
    reported: Signal

    def __init__(self, *, bus_bits: int) -> None:
        self._bus_bits = bus_bits
        self.beats = STATISTICS.bits // bus_bits
        status = STATISTICS["status"].bits
        super().__init__(
            {
                "clear": In(1),
                "counting": In(1),
                "loading": In(1),
                "running": In(1),
                "busy": In(1),
                "samples_done": In(32),
                "flags": In(status),
                "status": Out(status),
                "prepare": In(1),
                "report": Out(stream.Signature(bus_bits)),
                "reporting": In(1),
                "reported": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = Signal(layout_of(STATISTICS))
        m.d.comb += [self.status.eq(counts.status), counts.version.eq(ABI_VERSION)]
        for bit, raised in enumerate(self.flags):
            with m.If(raised):
                m.d.sync += counts.status[bit].eq(1)
        self._count(m, counts)
        with m.If(self.clear):
            m.d.sync += [
                counts[name].eq(0)
                for name in (
                    *("cycles", "load_cycles", "busy", "samples"),
                    *("first_done", "last_done", "status"),
                )
            ]

        shifted = Signal(STATISTICS.bits)
        left = Signal(range(self.beats + 1))
        m.d.comb += [
            self.report.payload.eq(shifted),
            self.report.valid.eq(self.reporting & (left != 0)),
            self.reported.eq(left == 0),
        ]
        with m.If(self.prepare):
            m.d.sync += [shifted.eq(Value.cast(counts)), left.eq(self.beats)]
        with m.If(self.report.valid & self.report.ready):
            m.d.sync += [shifted.eq(shifted >> self._bus_bits), left.eq(left - 1)]
        return m

    def _count(self, m: Module, counts: data.View) -> None:
        seen = Signal(32)
        m.d.sync += seen.eq(self.samples_done)
        with m.If(self.counting):
            m.d.sync += counts.cycles.eq(counts.cycles + 1)
        with m.If(self.loading):
            m.d.sync += counts.load_cycles.eq(counts.load_cycles + 1)
        with m.If(self.running & self.busy):
            m.d.sync += counts.busy.eq(counts.busy + 1)
        with m.If(self.running & (self.samples_done != seen)):
            m.d.sync += [counts.samples.eq(self.samples_done), counts.last_done.eq(counts.cycles)]
            with m.If(seen == 0):
                m.d.sync += counts.first_done.eq(counts.cycles)
