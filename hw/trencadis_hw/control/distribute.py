"""Handing samples to cores and bringing their results back, in order."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.layer_tables import FEED

__all__ = ["Collector", "Distributor"]

COUNT_BITS = 32
"""Width of a count of samples, as in the kernel's registers."""


class Distributor(wiring.Component):
    """Send samples, each of the same number of beats, to outputs in turn. No latency.

    Parameters
    ----------
    shape : int
        Width of a beat.
    count : int
        Outputs.

    Members
    -------
    enable : In(1)
        Samples are handed out; 0 resets the turn and the count.
    samples : In(32)
        Samples to hand out.
    beats : In(16)
        Beats of a sample - 1.
    i : In(stream)
        Samples.
    o : Out(array of stream)
        Output i has samples i, i + count, ...
    ended : Out(1)
        All samples have been handed out.
    """

    enable: Signal
    samples: Signal
    beats: Signal
    i: stream.Interface
    o: list[stream.Interface]
    ended: Signal

    def __init__(self, shape: int, count: int) -> None:
        self._count = count
        beats = stream.Signature(shape)
        super().__init__(
            {
                "enable": In(1),
                "samples": In(COUNT_BITS),
                "beats": In(FEED["beats"].bits),
                "i": In(beats),
                "ended": Out(1),
                "o": Out(beats).array(count),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        done = Signal(COUNT_BITS)
        beat = Signal.like(self.beats)
        turn = Signal(range(self._count))
        m.d.comb += self.ended.eq(self.enable & (done == self.samples))
        for number in range(self._count):
            output = self.o[number]
            m.d.comb += output.payload.eq(self.i.payload)
            with m.If(self.enable & ~self.ended & (turn == number)):
                m.d.comb += [output.valid.eq(self.i.valid), self.i.ready.eq(output.ready)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == self.beats):
                m.d.sync += [beat.eq(0), done.eq(done + 1), turn.eq(turn + 1)]
                with m.If(turn == self._count - 1):
                    m.d.sync += turn.eq(0)
        with m.If(~self.enable):
            m.d.sync += [done.eq(0), beat.eq(0), turn.eq(0)]
        return m


class Collector(wiring.Component):
    """Take samples, each of the same number of beats, from inputs in turn. No latency.

    Parameters
    ----------
    shape : int
        Width of a beat.
    count : int
        Inputs.

    Members
    -------
    enable : In(1)
        Samples are taken; 0 resets the turn and the count.
    samples : In(32)
        Samples to take.
    beats : In(16)
        Beats of a sample - 1.
    i : In(array of stream)
        Input i has samples i, i + count, ...
    o : Out(stream)
        Samples.
    done : Out(32)
        Samples that have passed.
    """

    enable: Signal
    samples: Signal
    beats: Signal
    i: list[stream.Interface]
    o: stream.Interface
    done: Signal

    def __init__(self, shape: int, count: int) -> None:
        self._count = count
        beats = stream.Signature(shape)
        super().__init__(
            {
                "enable": In(1),
                "samples": In(COUNT_BITS),
                "beats": In(FEED["beats"].bits),
                "o": Out(beats),
                "done": Out(COUNT_BITS),
                "i": In(beats).array(count),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = Signal.like(self.beats)
        turn = Signal(range(self._count))
        open_ = self.enable & (self.done != self.samples)
        with m.Switch(turn):
            for number in range(self._count):
                source = self.i[number]
                with m.Case(number):
                    m.d.comb += [
                        self.o.payload.eq(source.payload),
                        self.o.valid.eq(source.valid & open_),
                        source.ready.eq(self.o.ready & open_),
                    ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == self.beats):
                m.d.sync += [beat.eq(0), self.done.eq(self.done + 1), turn.eq(turn + 1)]
                with m.If(turn == self._count - 1):
                    m.d.sync += turn.eq(0)
        with m.If(~self.enable):
            m.d.sync += [self.done.eq(0), beat.eq(0), turn.eq(0)]
        return m
