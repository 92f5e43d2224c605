"""Sending rows of vectors down one of several paths, and bringing them together again."""

from amaranth.hdl import C, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SELECT, Selection
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.interface.streams import Queue, connect_streams
from trencadis_hw.output.reorder import row_layout

__all__ = ["RowMerge", "RowSplit"]

ORDER_DEPTH = 32
"""Vectors that may be between split and merge."""


class RowSplit(wiring.Component):
    """Send a vector to the selector its layer asks for. No latency.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    load_bits : int
        Width of the load bus.

    Members
    -------
    i : In(stream of row_layout)
        Rows.
    all, short, whole : Out(stream of row_layout)
        Rows of layers without k-WTA, with streaming k-WTA, with k-WTA over whole layers.
    order : Out(stream of bit)
        For every vector on one of the first two: whether it took `short`. Nothing without a
        streaming selector.
    load : In(LoadSignature)
        Image rows.
    """

    i: stream.Interface
    all: stream.Interface
    short: stream.Interface
    whole: stream.Interface
    order: stream.Interface
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, load_bits: int) -> None:
        self._config = config
        rows = stream.Signature(row_layout(config))
        super().__init__(
            {
                "i": In(rows),
                "all": Out(rows),
                "short": Out(rows),
                "whole": Out(rows),
                "order": Out(stream.Signature(1)),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.layers = layers = LoadedTable(
            SELECT, Target.SELECT, depth=self._config.layers, load_bits=len(self.load.data)
        )
        wiring.connect(m, wiring.flipped(self.load), layers.load)
        layer = layers.row[0]
        m.d.comb += layers.address[0].eq(self.i.payload.layer)
        for path in (self.all, self.short, self.whole):
            m.d.comb += path.payload.eq(self.i.payload)
        short = layer.selection != Selection.ALL
        whole = short & layer.whole
        open_: Value = C(1, 1)
        if self._config.select_rows:
            # A vector takes its place in the order when its first row is offered.
            m.submodules.queue = queue = Queue(1, ORDER_DEPTH)
            connect_streams(m, source=queue.o, sink=wiring.flipped(self.order))
            first = self.i.payload.number == 0
            entered = Signal()
            open_ = ~first | entered | queue.i.ready
            m.d.comb += [
                queue.i.payload.eq(short),
                queue.i.valid.eq(self.i.valid & first & ~entered & ~whole),
            ]
            with m.If(queue.i.valid & queue.i.ready):
                m.d.sync += entered.eq(1)
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += entered.eq(0)
        with m.If(whole):
            m.d.comb += [self.whole.valid.eq(self.i.valid), self.i.ready.eq(self.whole.ready)]
        for path, chosen in ((self.all, ~short), (self.short, short & ~whole)):
            with m.If(chosen):
                m.d.comb += [
                    path.valid.eq(self.i.valid & open_),
                    self.i.ready.eq(path.ready & open_),
                ]
        return m


class RowMerge(wiring.Component):
    """Two streams of rows into one, vectors in the order in which they were split. No latency.

    Parameters
    ----------
    config : EngineConfig
        The engine.

    Members
    -------
    all, short : In(stream of row_layout)
        Rows.
    order : In(stream of bit)
        For every vector, whether it comes on `short`.
    o : Out(stream of row_layout)
        Rows of either.
    """

    all: stream.Interface
    short: stream.Interface
    order: stream.Interface
    o: stream.Interface

    def __init__(self, config: EngineConfig) -> None:
        rows = stream.Signature(row_layout(config))
        super().__init__(
            {
                "all": In(rows),
                "short": In(rows),
                "order": In(stream.Signature(1)),
                "o": Out(rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for path, number in ((self.all, 0), (self.short, 1)):
            with m.If(self.order.valid & (self.order.payload == number)):
                m.d.comb += [
                    self.o.payload.eq(path.payload),
                    self.o.valid.eq(path.valid),
                    path.ready.eq(self.o.ready),
                ]
        m.d.comb += self.order.ready.eq(self.o.valid & self.o.ready & self.o.payload.last)
        return m
