"""Streaming k-WTA: winners among the channels of a position, as fast as the requantisers."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SELECT, Selection
from trencadis_format.widths import KEY_BITS
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.interface.streams import Queue, connect_streams
from trencadis_hw.output.radix import (
    DIGIT_BITS,
    DIGITS,
    DigitCounter,
    choose_winners,
    rank_row,
    ranks_layout,
)
from trencadis_hw.output.reorder import row_layout

__all__ = ["StreamSelector"]


VECTORS = 32
"""Vectors that may be in the selector."""
PENDING = 8
"""Vectors whose digit a stage may be looking for, or have found: enough for one per cycle."""


def _found_layout(most: int, digits: int) -> data.StructLayout:
    """Result of `digits` stages: as in `threshold_layout`, but for digits that are 0."""
    return data.StructLayout({"digits": DIGIT_BITS * digits, "k": range(most + 1)})


def _entry_layout(config: EngineConfig, digits: int) -> data.StructLayout:
    """A row between stages, of which `digits` have been passed: what the next ones need of it."""
    most = config.select_rows * config.requantisers
    return data.StructLayout(
        {"row": _kept_layout(config), "threshold": _found_layout(most, digits)}
    )


def _kept_layout(config: EngineConfig) -> data.StructLayout:
    """A row in a stage: `row_layout` but for what is the same in a vector, or can be counted."""
    keys = data.ArrayLayout(KEY_BITS, config.requantisers)
    return data.StructLayout({"keys": keys, "mask": config.requantisers, "last": 1})


class _Stage(wiring.Component):
    """Find one digit of the k-th largest key; rows wait in a queue until it is known."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: EngineConfig, number: int) -> None:
        self._config = config
        self._number = number
        super().__init__(
            {
                "i": In(stream.Signature(_entry_layout(config, number))),
                "o": Out(stream.Signature(_entry_layout(config, number + 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        most = config.select_rows * config.requantisers
        m.submodules.counter = counter = DigitCounter(config.requantisers, most)
        # Deep enough for the longest vector and the rows that come while its digit is chosen.
        m.submodules.rows = rows = Queue(_kept_layout(config), config.select_rows + 8)
        m.submodules.found_digits = found = Queue(_found_layout(most, self._number + 1), PENDING)
        # The counter does not wait: what it will have found has its place reserved.
        pending = Signal(range(PENDING + 1))
        room = pending != PENDING
        begun, ended = Signal(), Signal()
        accepted = self.i.payload
        m.d.comb += [
            rows.i.payload.eq(accepted.row),
            rows.i.valid.eq(self.i.valid & room),
            self.i.ready.eq(rows.i.ready & room),
            counter.valid.eq(self.i.valid & self.i.ready),
            counter.keys.eq(accepted.row.keys),
            counter.mask.eq(accepted.row.mask),
            counter.last.eq(accepted.row.last),
            counter.number.eq(self._number),
            counter.threshold.k.eq(accepted.threshold.k),
            _first(counter.threshold.digits, self._number).eq(accepted.threshold.digits),
            found.i.payload.k.eq(counter.found.k),
            found.i.payload.digits.eq(_first(counter.found.digits, self._number + 1)),
            found.i.valid.eq(counter.found_valid),
            self.o.payload.row.eq(rows.o.payload),
            self.o.payload.threshold.eq(found.o.payload),
            self.o.valid.eq(rows.o.valid & found.o.valid),
            rows.o.ready.eq(self.o.ready & found.o.valid),
            found.o.ready.eq(self.o.ready & rows.o.valid & rows.o.payload.last),
            begun.eq(counter.valid & counter.last),
            ended.eq(found.o.valid & found.o.ready),
        ]
        m.d.sync += pending.eq(pending + begun - ended)
        return m


def _first(digits: Value, count: int) -> Value:
    """The first, most significant ones of a key's digits."""
    return digits[KEY_BITS - DIGIT_BITS * count :]


class StreamSelector(wiring.Component):
    """k-WTA over vectors of up to `select_rows` rows, one row per cycle, vectors back to back.

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
        m.submodules.layers = layers = LoadedTable(
            SELECT, Target.SELECT, depth=config.layers, load_bits=len(self.load.data)
        )
        wiring.connect(m, wiring.flipped(self.load), layers.load)
        stages = [_Stage(config, number) for number in range(DIGITS)]
        for number, stage in enumerate(stages):
            m.submodules[f"stage_{number}"] = stage
            if number:
                connect_streams(m, source=stages[number - 1].o, sink=stage.i)

        # A vector's layer, and whether it is to be selected exactly, wait beside the stages.
        vector = data.StructLayout({"layer": config.layer_bits, "exact": 1})
        m.submodules.vectors = vectors = Queue(vector, VECTORS)
        begins = Signal(init=1)
        open_ = ~begins | vectors.i.ready
        layer = layers.row[0]
        accepted = self.i.payload
        entry = stages[0].i.payload
        m.d.comb += [
            layers.address[0].eq(accepted.layer),
            vectors.i.payload.layer.eq(accepted.layer),
            vectors.i.payload.exact.eq(layer.selection == Selection.EXACT),
            vectors.i.valid.eq(self.i.valid & begins & stages[0].i.ready),
            entry.row.keys.eq(accepted.keys),
            entry.row.mask.eq(accepted.mask),
            entry.row.last.eq(accepted.last),
            entry.threshold.k.eq(layer.k),
            stages[0].i.valid.eq(self.i.valid & open_),
            self.i.ready.eq(stages[0].i.ready & open_),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += begins.eq(accepted.last)

        # Compare with the threshold first; who wins depends on the rows before, a cycle later.
        counted = stages[-1].o
        width = config.requantisers
        number = Signal(range(config.reorder_rows))
        compared, starts, exact = Signal(), Signal(), Signal()
        row = Signal(row_layout(config), reset_less=True)
        ranks = Signal(ranks_layout(width), reset_less=True)
        first = Signal(counted.payload.threshold.k.shape(), reset_less=True)
        moving = ~self.o.valid | self.o.ready
        found = rank_row(
            m,
            keys=counted.payload.row.keys,
            mask=counted.payload.row.mask,
            largest=counted.payload.threshold.digits,
            width=width,
        )
        m.d.comb += vectors.o.ready.eq(counted.valid & counted.ready & counted.payload.row.last)
        with m.If(~compared | moving):
            m.d.comb += counted.ready.eq(1)
            m.d.sync += [
                compared.eq(counted.valid),
                row.keys.eq(counted.payload.row.keys),
                row.last.eq(counted.payload.row.last),
                row.layer.eq(vectors.o.payload.layer),
                row.number.eq(number),
                exact.eq(vectors.o.payload.exact),
                starts.eq(number == 0),
                ranks.eq(found),
                first.eq(counted.payload.threshold.k),
            ]
            with m.If(counted.valid):
                m.d.sync += number.eq(Mux(counted.payload.row.last, 0, number + 1))

        left = Signal.like(first)
        winners, left_after = choose_winners(
            m, ranks, left=Mux(starts, first, left), exact=exact, width=width
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
