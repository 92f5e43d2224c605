"""Packing the pieces of a packed output into bus beats."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.layer_tables import FEED
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.streams import Queue, connect_streams

__all__ = ["Packer"]


class Packer(wiring.Component):
    """Put pieces side by side into beats; a sample begins with a new beat.

    Latency from a beat's last piece to the beat: 2 cycles; one piece a cycle.

    Parameters
    ----------
    piece_bits : int
        Width of a piece; divides `bus_bits`.
    bus_bits : int
        Width of a beat.
    depth : int
        Beats to hold.

    Members
    -------
    feed : In(FEED)
        The image's output format.
    pieces : In(stream)
        Pieces of samples.
    beats : Out(stream)
        Beats of samples.
    """

    feed: data.View
    pieces: stream.Interface
    beats: stream.Interface

    def __init__(self, *, piece_bits: int, bus_bits: int, depth: int) -> None:
        if bus_bits % piece_bits:
            raise ValueError(f"pieces of {piece_bits} bits do not fill a beat of {bus_bits} bits")
        self._piece_bits = piece_bits
        self._bus_bits = bus_bits
        self._depth = depth
        super().__init__(
            {
                "feed": In(layout_of(FEED)),
                "pieces": In(stream.Signature(piece_bits)),
                "beats": Out(stream.Signature(bus_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        per_beat = self._bus_bits // self._piece_bits
        m.submodules.queue = queue = Queue(self._bus_bits, self._depth)
        place = Signal(range(per_beat))
        count = Signal(24)
        beat = Signal(self._bus_bits, reset_less=True)
        full = Signal()
        sample_end = count == self.feed.out_pieces
        m.d.comb += [
            queue.i.payload.eq(beat),
            queue.i.valid.eq(full),
            self.pieces.ready.eq(~full | queue.i.ready),
        ]
        with m.If(full & queue.i.ready):
            m.d.sync += full.eq(0)
        with m.If(self.pieces.valid & self.pieces.ready):
            with m.If(place == 0):
                m.d.sync += beat.eq(0)
            # A place without bits selects nothing in Verilog.
            piece = beat if per_beat == 1 else beat.word_select(place, self._piece_bits)
            m.d.sync += [
                piece.eq(self.pieces.payload),
                place.eq(place + 1),
                count.eq(count + 1),
            ]
            with m.If(sample_end):
                m.d.sync += count.eq(0)
            with m.If(sample_end | (place == per_beat - 1)):
                m.d.sync += [full.eq(1), place.eq(0)]
        connect_streams(m, source=queue.o, sink=wiring.flipped(self.beats))
        return m
