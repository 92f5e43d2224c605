"""Streaming k-WTA: winners among the channels of a position, as fast as the requantisers."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw import abi
from trencadis_hw.config import EngineConfig
from trencadis_hw.layouts import layout_of
from trencadis_hw.load import LoadInterface, LoadSignature, add_load_port
from trencadis_hw.radix import (
    DIGITS,
    DigitCounter,
    choose_winners,
    rank_row,
    ranks_layout,
    threshold_layout,
)
from trencadis_hw.reorder import row_layout
from trencadis_hw.streams import Queue, connect_streams

__all__ = ["StreamSelector"]


class _Stage(wiring.Component):
    """Find one digit of the k-th largest key; rows wait in a queue until it is known."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: EngineConfig, number: int) -> None:
        self._config = config
        self._number = number
        self._most = config.select_rows * config.requantisers
        self._threshold = threshold_layout(self._most)
        shape = data.StructLayout({"row": row_layout(config), "threshold": self._threshold})
        self._shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.counter = counter = DigitCounter(config.requantisers, self._most)
        # Deep enough for the longest vector and the rows that come while its digit is chosen.
        m.submodules.rows = rows = Queue(row_layout(config), config.select_rows + 8)
        m.submodules.found = found = Queue(self._threshold, config.select_rows + 8)
        accepted = self.i.payload
        m.d.comb += [
            rows.i.payload.eq(accepted.row),
            rows.i.valid.eq(self.i.valid),
            self.i.ready.eq(rows.i.ready),
            counter.valid.eq(self.i.valid & self.i.ready),
            counter.keys.eq(accepted.row.keys),
            counter.mask.eq(accepted.row.mask),
            counter.last.eq(accepted.row.last),
            counter.number.eq(self._number),
            counter.threshold.eq(accepted.threshold),
            found.i.payload.eq(counter.found),
            found.i.valid.eq(counter.found_valid),
            self.o.payload.row.eq(rows.o.payload),
            self.o.payload.threshold.eq(found.o.payload),
            self.o.valid.eq(rows.o.valid & found.o.valid),
            rows.o.ready.eq(self.o.ready & found.o.valid),
            found.o.ready.eq(self.o.ready & rows.o.valid & rows.o.payload.last),
        ]
        return m


class StreamSelector(wiring.Component):
    """k-WTA over vectors of up to `select_rows` rows, one row a cycle, vectors back to back.

    Exact winners go to the lowest index among equals. Latency from the last row of a vector to its
    first row on `o`: 5 cycles a digit and 2, plus the vector's rows in every stage but the first.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    load_bits : int
        Width of the load bus.

    Members
    -------
    i : In(stream of row_layout)
        Rows of vectors.
    o : Out(stream of row_layout)
        The same rows; `mask` tells the winners. Rows without winners are left out, but for the
        last of a vector.
    load : In(LoadSignature)
        Image rows.
    """

    i: stream.Interface
    o: stream.Interface
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, load_bits: int) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(row_layout(config))),
                "o": Out(stream.Signature(row_layout(config))),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.layers = layers = memory.Memory(
            shape=layout_of(abi.SELECT),
            depth=config.layers,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        add_load_port(m, layers, self.load, abi.Target.SELECT)
        stages = [_Stage(config, number) for number in range(DIGITS)]
        for number, stage in enumerate(stages):
            m.submodules[f"stage_{number}"] = stage
            if number:
                connect_streams(m, source=stages[number - 1].o, sink=stage.i)

        begun = layers.read_port(domain="comb")
        m.d.comb += [
            begun.addr.eq(self.i.payload.layer),
            stages[0].i.payload.row.eq(self.i.payload),
            stages[0].i.payload.threshold.k.eq(begun.data.k),
            stages[0].i.valid.eq(self.i.valid),
            self.i.ready.eq(stages[0].i.ready),
        ]

        # Compare with the threshold first; who wins depends on the rows before, a cycle later.
        counted = stages[-1].o
        width = config.requantisers
        compared = Signal()
        row = Signal(row_layout(config), reset_less=True)
        ranks = Signal(ranks_layout(width), reset_less=True)
        first = Signal(stages[-1].o.payload.threshold.k.shape(), reset_less=True)
        moving = ~self.o.valid | self.o.ready
        found = rank_row(
            m,
            keys=counted.payload.row.keys,
            mask=counted.payload.row.mask,
            largest=counted.payload.threshold.digits,
            width=width,
        )
        with m.If(~compared | moving):
            m.d.comb += counted.ready.eq(1)
            m.d.sync += [
                compared.eq(counted.valid),
                row.eq(counted.payload.row),
                ranks.eq(found),
                first.eq(counted.payload.threshold.k),
            ]

        ended = layers.read_port(domain="comb")
        left = Signal.like(first)
        m.d.comb += ended.addr.eq(row.layer)
        winners, left_after = choose_winners(
            m,
            ranks,
            left=Mux(row.number == 0, first, left),
            exact=ended.data.selection == abi.Selection.EXACT,
            width=width,
        )
        with m.If(moving):
            m.d.sync += [
                self.o.valid.eq(compared & (winners.any() | row.last)),
                self.o.payload.eq(row),
                self.o.payload.mask.eq(winners),
            ]
            with m.If(compared):
                m.d.sync += left.eq(left_after)
        return m
