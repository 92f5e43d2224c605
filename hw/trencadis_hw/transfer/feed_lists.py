"""Unpacking sparse packed inputs into an engine's activation lists."""

from dataclasses import replace

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import FEED, INPUT_ENTRY
from trencadis_format.widths import INPUT_INDEX_BITS
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.lists import list_write_layout
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.streams import Queue, connect_streams
from trencadis_hw.output.emit import Emitter

__all__ = ["ListFeeder"]

INDICES = 1 << INPUT_INDEX_BITS


class ListFeeder(wiring.Component):
    """Write the activations of a sparse packed input into the lists of the first engine.

    A sample is `beats` bus beats of `INPUT_ENTRY`. Every entry is a row of one activation for an
    emitter, which writes lists as it does between layers: an entry a cycle, and what a list takes
    to end.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    bus_bits : int
        Width of a beat.
    load_bits : int
        Width of the load bus.

    Members
    -------
    feed : In(FEED)
        The image's input format.
    beats : In(stream)
        Packed inputs.
    allowed : In(1)
        A sample may begin: its buffer is reserved.
    begun : Out(1)
        A sample has begun.
    writes : Out(stream of list_write_layout)
        List entries; the last one of a sample says that its map is complete.
    load : In(LoadSignature)
        Image rows.
    """

    feed: data.View
    beats: stream.Interface
    allowed: Signal
    begun: Signal
    writes: stream.Interface
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, bus_bits: int, load_bits: int) -> None:
        self._config = replace(config, requantisers=1, reorder_rows=INDICES, layers=1)
        self._bus_bits = bus_bits
        self._load_bits = load_bits
        super().__init__(
            {
                "feed": In(layout_of(FEED)),
                "beats": In(stream.Signature(bus_bits)),
                "allowed": In(1),
                "begun": Out(1),
                "writes": Out(stream.Signature(list_write_layout())),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        emitter = Emitter(self._config, load_bits=self._load_bits, target=Target.INPUT)
        m.submodules.emitter = emitter
        wiring.connect(m, wiring.flipped(self.load), emitter.load)
        rows = Queue(emitter.rows.payload.shape(), 2)
        m.submodules.rows = rows
        connect_streams(m, source=rows.o, sink=emitter.rows)
        m.d.comb += [
            self.writes.payload.eq(emitter.writes.payload.write),
            self.writes.valid.eq(emitter.writes.valid),
            emitter.writes.ready.eq(self.writes.ready),
        ]

        entry_bits = INPUT_ENTRY.bits
        count = self._bus_bits // entry_bits
        beat = Signal(self._bus_bits, reset_less=True)
        left = Signal(range(count + 1))
        active, ended = Signal(), Signal()
        beats_left = Signal(FEED["beats"].bits)
        entry = Signal(layout_of(INPUT_ENTRY))
        taken, emptied, wanted, finished = Signal(), Signal(), Signal(), Signal()
        row = rows.i.payload
        m.d.comb += [
            entry.eq(beat[:entry_bits]),
            row.keys[0].eq(entry.key),
            row.mask.eq(entry.present),
            row.number.eq(entry.index),
            row.last.eq(entry.last),
            rows.i.valid.eq(active & (left != 0) & ~ended),
            # What follows the end of a sample only fills it up, and is dropped beat by beat.
            taken.eq(active & (left != 0) & (rows.i.ready | ended)),
            emptied.eq((left == 0) | (taken & ((left == 1) | entry.end | ended))),
            wanted.eq(active & (beats_left != 0) & emptied),
            finished.eq(active & (beats_left == 0) & emptied),
            self.beats.ready.eq(wanted),
            self.begun.eq(~active & self.beats.valid & self.allowed),
        ]
        with m.If(taken):
            m.d.sync += [
                beat.eq(beat >> entry_bits),
                left.eq(Mux(emptied, 0, left - 1)),
                ended.eq(ended | entry.end),
            ]
        with m.If(self.beats.valid & wanted):
            m.d.sync += [
                beat.eq(self.beats.payload),
                left.eq(count),
                beats_left.eq(beats_left - 1),
            ]
        with m.If(finished):
            m.d.sync += [active.eq(0), left.eq(0)]
        with m.If(self.begun):
            m.d.sync += [active.eq(1), ended.eq(0), beats_left.eq(self.feed.beats + 1)]
        return m
