"""The last steps of a row before it is written: addition of a second map, look-up in a table."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.image import Target
from trencadis_format.layer_tables import TABLE
from trencadis_format.map_config import MAX_STEP_ROWS, MapConfig
from trencadis_format.map_tables import ADD, MAP_LAYER
from trencadis_format.widths import KEY_BITS
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.interface.streams import Queue, delay
from trencadis_hw.maps.add import ADD_LATENCY, Adder
from trencadis_hw.maps.memory import row_layout

__all__ = ["FinishRows"]

SECOND_ROWS = 2 * MAX_STEP_ROWS
SECOND_MARGIN = 8
"""Rows of the second map that may be on their way when the queue says that it is full."""


class FinishRows(wiring.Component):
    """Adds, looks up and addresses rows.

    Parameters
    ----------
    config : MapConfig
        The engine.
    load_bits : int
        Width of the load bus.

    Members
    -------
    layer, add : In(MAP_LAYER, ADD)
        The layer; constant while it is computed.
    begin : In(1)
        The layer begins.
    row_valid, row : In
        A row.
    second_valid, second : In
        A row of the second map; they come in the order of rows, and before them.
    second_room : Out(1)
        More rows of the second map may be issued.
    write_enable, write_address, write_row : Out
        A row for the map memory.
    step_end : Out(1)
        It is the last of its step.
    load : In(LoadSignature)
        Image rows.
    """

    layer: data.View
    add: data.View
    begin: Signal
    row_valid: Signal
    row: data.View
    second_valid: Signal
    second: data.View
    second_room: Signal
    write_enable: Signal
    write_address: Signal
    write_row: data.View
    step_end: Signal
    load: LoadInterface

    def __init__(self, config: MapConfig, *, load_bits: int) -> None:
        self._config = config
        self._load_bits = load_bits
        row = row_layout(config)
        super().__init__(
            {
                "layer": In(layout_of(MAP_LAYER)),
                "add": In(layout_of(ADD)),
                "begin": In(1),
                "row_valid": In(1),
                "row": In(row),
                "second_valid": In(1),
                "second": In(row),
                "second_room": Out(1),
                "write_enable": Out(1),
                "write_address": Out(range(config.map_rows)),
                "write_row": Out(row),
                "step_end": Out(1),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = Signal(ADD_LATENCY)
        m.d.sync += valid.eq(Cat(self.row_valid, valid))
        added = self._add(m)
        finished: Value = Mux(
            self.layer.add, added, delay(m, Value.cast(self.row), ADD_LATENCY, name="row")
        )
        if self._config.tables:
            finished = Mux(self.layer.use_table, self._look_up(m, finished), finished)
        m.d.sync += [self.write_enable.eq(valid[-1]), Value.cast(self.write_row).eq(finished)]
        self._address(m, valid[-1])
        return m

    def _add(self, m: Module) -> Value:
        """Sums with the rows of the second map."""
        m.submodules.second = queue = Queue(row_layout(self._config), SECOND_ROWS)
        m.d.comb += [
            queue.i.payload.eq(self.second),
            queue.i.valid.eq(self.second_valid),
            queue.o.ready.eq(self.row_valid & self.layer.add),
        ]
        m.d.sync += self.second_room.eq(queue.level <= SECOND_ROWS - SECOND_MARGIN)
        keys = []
        for i in range(self._config.row_values):
            m.submodules[f"adder_{i}"] = adder = Adder()
            m.d.comb += [
                adder.first.eq(self.row[i]),
                adder.second.eq(queue.o.payload[i]),
                adder.parameters.eq(self.add),
            ]
            keys.append(adder.key)
        return Cat(*keys)

    def _look_up(self, m: Module, row: Value) -> Value:
        """Values of the layer's table, for every key."""
        config = self._config
        table = LoadedTable(
            TABLE,
            Target.TABLE,
            depth=config.tables << KEY_BITS,
            load_bits=self._load_bits,
            readers=config.row_values,
        )
        m.submodules.table = table
        wiring.connect(m, wiring.flipped(self.load), table.load)
        keys = []
        for i in range(config.row_values):
            key = row[i * KEY_BITS : (i + 1) * KEY_BITS]
            m.d.comb += table.address[i].eq(Cat(key, self.layer.table))
            keys.append(table.row[i].key)
        return Cat(*keys)

    def _address(self, m: Module, valid: Value) -> None:
        """Write address: rows of a position side by side, then the next position."""
        layer = self.layer
        address, origin = Signal.like(layer.out_base), Signal.like(layer.out_base)
        row, pass_ = Signal.like(layer.step_rows), Signal.like(layer.passes)
        step_end = row == layer.step_rows
        m.d.sync += [
            self.write_address.eq(address),
            self.step_end.eq(valid & step_end),
        ]
        with m.If(self.begin):
            m.d.sync += [address.eq(layer.out_base), origin.eq(layer.out_base)]
            m.d.sync += [row.eq(0), pass_.eq(0)]
        with m.Elif(valid):
            m.d.sync += [row.eq(row + 1), address.eq(address + 1)]
            with m.If(step_end):
                m.d.sync += [row.eq(0), pass_.eq(pass_ + 1)]
                with m.If(pass_ == layer.passes):
                    m.d.sync += [
                        pass_.eq(0),
                        origin.eq(origin + layer.out_step),
                        address.eq(origin + layer.out_step),
                    ]
