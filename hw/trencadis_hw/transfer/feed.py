"""Unpacking packed inputs into an engine's dense input."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.layer_tables import FEED
from trencadis_format.widths import KEY_BITS, VALUE_BITS
from trencadis_hw.interface.layouts import layout_of

__all__ = ["Feeder"]


class Feeder(wiring.Component):
    """Write the keys of a packed input into the dense input, one per cycle.

    A sample is `beats` bus beats of keys, position by position, channels innermost. Padding around
    the map is skipped: it was cleared when the image was loaded.

    Parameters
    ----------
    bus_bits : int
        Width of a beat.
    depth : int
        Values of the dense input.

    Members
    -------
    feed : In(FEED)
        The image's input format.
    beats : In(stream)
        Packed inputs.
    allowed : In(1)
        A sample may begin: its buffer is reserved.
    begun, done : Out(1)
        A sample has begun, is complete.
    enable, address, value : Out
        A value to store.
    """

    feed: data.View
    beats: stream.Interface
    allowed: Signal
    begun: Signal
    done: Signal
    enable: Signal
    address: Signal
    value: Signal

    def __init__(self, *, bus_bits: int, depth: int) -> None:
        self._bus_bits = bus_bits
        super().__init__(
            {
                "feed": In(layout_of(FEED)),
                "beats": In(stream.Signature(bus_bits)),
                "allowed": In(1),
                "begun": Out(1),
                "done": Out(1),
                "enable": Out(1),
                "address": Out(range(depth)),
                "value": Out(signed(VALUE_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        feed = self.feed
        count = self._bus_bits // KEY_BITS

        beat = Signal(self._bus_bits, reset_less=True)
        left = Signal(range(count + 1))
        active, second = Signal(), Signal()
        column, row = Signal(FEED["row_values"].bits), Signal(FEED["rows"].bits)
        address = Signal(FEED["address"].bits)
        beats_left = Signal(FEED["beats"].bits)
        row_end = column == feed.row_values
        sample_end = row_end & (row == feed.rows)
        writing = Signal()
        finished = Signal()

        # The next beat is taken as the last key of this one is written. Keys after the end of the
        # sample, which fill up its last beat, are dropped with it.
        wanted = Signal()
        m.d.comb += [
            writing.eq(active & (left != 0)),
            finished.eq(writing & sample_end),
            wanted.eq(active & (beats_left != 0) & (left <= 1) & ~finished),
            self.beats.ready.eq(wanted),
            self.begun.eq(~active & self.beats.valid & self.allowed),
        ]
        with m.If(writing):
            m.d.sync += [
                beat.eq(beat >> KEY_BITS),
                left.eq(left - 1),
                column.eq(column + 1),
                address.eq(address + 1),
            ]
            with m.If(row_end):
                m.d.sync += [
                    column.eq(0),
                    row.eq(row + 1),
                    address.eq(address + 1 + feed.row_skip),
                ]
        with m.If(self.beats.valid & wanted):
            m.d.sync += [
                beat.eq(self.beats.payload),
                left.eq(count),
                beats_left.eq(beats_left - 1),
            ]
        with m.If(finished):
            m.d.sync += [
                active.eq(0),
                left.eq(0),
                second.eq(second ^ (feed.buffers == 2)),
            ]
        with m.If(self.begun):
            m.d.sync += [
                active.eq(1),
                column.eq(0),
                row.eq(0),
                beats_left.eq(feed.beats + 1),
                address.eq(feed.address + Mux(second, feed.buffer_step, 0)),
            ]
        m.d.sync += [
            self.enable.eq(writing),
            self.address.eq(address),
            self.value.eq(beat[:KEY_BITS] - feed.zero),
            self.done.eq(finished),
        ]
        return m
