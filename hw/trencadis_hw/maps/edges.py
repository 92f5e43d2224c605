"""The edges of a map engine: keys of a sample into the map memory, and rows of it out."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.layer_tables import FEED
from trencadis_format.map_config import MapConfig
from trencadis_format.widths import KEY_BITS
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.maps.memory import MAP_READ_LATENCY, row_layout

__all__ = ["MapFeeder", "RowReader", "piece_bits"]


def piece_bits(config: MapConfig, bus_bits: int) -> int:
    """Width of a piece of output: a row, or as much of it as a beat has."""
    return min(bus_bits, config.row_values * KEY_BITS)


class MapFeeder(wiring.Component):
    """Writes the keys of a packed input, one per cycle, position by position.

    The last row of a position is filled up with the key of zero.

    Parameters
    ----------
    config : MapConfig
        The engine.
    bus_bits : int
        Width of a beat.

    Members
    -------
    feed : In(FEED)
        The image's input format: `row_values` are those of a position, `rows` are positions,
        `address` is a row of the map memory.
    allowed : In(1)
        A sample may begin.
    beats : In(stream)
        Packed inputs.
    done : Out(1)
        A sample is complete with the row that is written in this cycle.
    write_enable, write_address, write_row : Out
        A row for the map memory.
    """

    feed: data.View
    allowed: Signal
    beats: stream.Interface
    done: Signal
    write_enable: Signal
    write_address: Signal
    write_row: data.View

    def __init__(self, config: MapConfig, *, bus_bits: int) -> None:
        self._config = config
        self._bus_bits = bus_bits
        super().__init__(
            {
                "feed": In(layout_of(FEED)),
                "allowed": In(1),
                "beats": In(stream.Signature(bus_bits)),
                "done": Out(1),
                "write_enable": Out(1),
                "write_address": Out(range(config.map_rows)),
                "write_row": Out(row_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, feed = self._config, self.feed
        per_beat = self._bus_bits // KEY_BITS
        beat = Signal(self._bus_bits, reset_less=True)
        left = Signal(range(per_beat + 1))
        active = Signal()
        channel, position = Signal.like(feed.row_values), Signal.like(feed.rows)
        column = Signal(range(config.row_values))
        address = Signal.like(feed.address)
        row = Signal(row_layout(config), reset_less=True)

        writing = active & (left != 0)
        position_end = channel == feed.row_values
        sample_end = position_end & (position == feed.rows)
        row_end = position_end | (column == config.row_values - 1)
        # Keys that fill up the last beat are dropped with it.
        m.d.comb += self.beats.ready.eq(active & (left <= 1) & ~(writing & sample_end))
        m.d.sync += [self.write_enable.eq(writing & row_end), self.done.eq(writing & sample_end)]
        with m.If(writing):
            m.d.sync += [
                beat.eq(beat >> KEY_BITS),
                left.eq(left - 1),
                channel.eq(Mux(position_end, 0, channel + 1)),
                column.eq(Mux(row_end, 0, column + 1)),
                position.eq(position + position_end),
                address.eq(address + row_end),
                self.write_address.eq(address),
            ]
            for i in range(config.row_values):
                with m.If(column == i):
                    m.d.sync += row[i].eq(beat[:KEY_BITS])
                # The row as it is with this key, and zeros after it.
                with m.If(column < i):
                    m.d.sync += self.write_row[i].eq(feed.zero)
                with m.Elif(column == i):
                    m.d.sync += self.write_row[i].eq(beat[:KEY_BITS])
                with m.Else():
                    m.d.sync += self.write_row[i].eq(row[i])
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += [beat.eq(self.beats.payload), left.eq(per_beat)]
        with m.If(writing & sample_end):
            m.d.sync += [active.eq(0), left.eq(0)]
        with m.If(self.allowed & ~active):
            m.d.sync += [
                active.eq(1),
                channel.eq(0),
                column.eq(0),
                position.eq(0),
                address.eq(feed.address),
            ]
        return m


class RowReader(wiring.Component):
    """Reads rows one after the other and hands them out in pieces.

    Parameters
    ----------
    config : MapConfig
        The engine.
    bus_bits : int
        Width of a beat.

    Members
    -------
    start : In(1)
        Begin.
    base, rows : In
        First row, and number of rows less one.
    address : Out
        Row to read.
    row : In(row_layout)
        The row, `MAP_READ_LATENCY` cycles later.
    pieces : Out(stream)
        Pieces of rows.
    busy : Out(1)
        Pieces are left.
    """

    start: Signal
    base: Signal
    rows: Signal
    address: Signal
    row: data.View
    pieces: stream.Interface
    busy: Signal

    def __init__(self, config: MapConfig, *, bus_bits: int) -> None:
        self._bits = piece_bits(config, bus_bits)
        self._per_row = config.row_values * KEY_BITS // self._bits
        super().__init__(
            {
                "start": In(1),
                "base": In(16),
                "rows": In(16),
                "address": Out(range(config.map_rows)),
                "row": In(row_layout(config)),
                "pieces": Out(stream.Signature(self._bits)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wait = Signal(range(MAP_READ_LATENCY + 1))
        held = Signal(len(Value.cast(self.row)), reset_less=True)
        place, left = Signal(range(self._per_row + 1)), Signal(17)
        m.d.comb += [
            self.busy.eq(left != 0),
            self.pieces.valid.eq(place != 0),
            self.pieces.payload.eq(held[: self._bits]),
        ]
        with m.If(self.start):
            m.d.sync += [self.address.eq(self.base), left.eq(self.rows + 1), place.eq(0)]
            m.d.sync += wait.eq(MAP_READ_LATENCY)
        with m.Elif(place != 0), m.If(self.pieces.ready):
            m.d.sync += [place.eq(place - 1), held.eq(held >> self._bits)]
            with m.If(place == 1):
                m.d.sync += left.eq(left - 1)
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(self.busy):
            m.d.sync += [
                Value.cast(held).eq(Value.cast(self.row)),
                place.eq(self._per_row),
                self.address.eq(self.address + 1),
                wait.eq(MAP_READ_LATENCY),
            ]
        return m
