"""Handing words to cores and bringing their results back, in order."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Collector", "Distributor"]


class Distributor(wiring.Component):
    """Send words, each of the same number of beats, to outputs in turn. No latency.

    Parameters
    ----------
    shape : int
        Width of a beat.
    count : int
        Outputs.

    Members
    -------
    enable : In(1)
        Words are handed out; 0 resets the turn and the count.
    words : In(32)
        Words to hand out.
    beats : In(16)
        Beats of a word - 1.
    i : In(stream)
        Words.
    o_0, ... : Out(stream)
        Words i, i + count, ...
    ended : Out(1)
        All words have been handed out.
    """

    enable: Signal
    words: Signal
    beats: Signal
    i: stream.Interface
    ended: Signal

    def __init__(self, shape: int, count: int) -> None:
        self._count = count
        beats = stream.Signature(shape)
        super().__init__(
            {
                "enable": In(1),
                "words": In(32),
                "beats": In(16),
                "i": In(beats),
                "ended": Out(1),
                **{f"o_{number}": Out(beats) for number in range(count)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        done = Signal(32)
        beat = Signal(16)
        turn = Signal(range(self._count))
        m.d.comb += self.ended.eq(self.enable & (done == self.words))
        for number in range(self._count):
            output = getattr(self, f"o_{number}")
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
    """Take words, each of the same number of beats, from inputs in turn. No latency.

    Parameters
    ----------
    shape : int
        Width of a beat.
    count : int
        Inputs.

    Members
    -------
    enable : In(1)
        Words are taken; 0 resets the turn and the count.
    words : In(32)
        Words to take.
    beats : In(16)
        Beats of a word - 1.
    i_0, ... : In(stream)
        Words i, i + count, ...
    o : Out(stream)
        Words.
    done : Out(32)
        Words that have passed.
    """

    enable: Signal
    words: Signal
    beats: Signal
    o: stream.Interface
    done: Signal

    def __init__(self, shape: int, count: int) -> None:
        self._count = count
        beats = stream.Signature(shape)
        super().__init__(
            {
                "enable": In(1),
                "words": In(32),
                "beats": In(16),
                "o": Out(beats),
                "done": Out(32),
                **{f"i_{number}": In(beats) for number in range(count)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = Signal(16)
        turn = Signal(range(self._count))
        open_ = self.enable & (self.done != self.words)
        with m.Switch(turn):
            for number in range(self._count):
                source = getattr(self, f"i_{number}")
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
