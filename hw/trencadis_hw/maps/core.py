"""A core that is a map engine: the layers of a program, one after the other."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring

from trencadis_format.config import KernelConfig
from trencadis_format.image import Target
from trencadis_format.map_config import MapConfig
from trencadis_format.map_tables import ADD, MAP_LAYER, MAP_PROGRAM, MapMode
from trencadis_hw.interface.core_ports import core_signature
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, load_bits
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.interface.streams import Queue, connect_streams, delay
from trencadis_hw.maps.array import MapArray
from trencadis_hw.maps.edges import MapFeeder, RowReader, piece_bits
from trencadis_hw.maps.finish import FinishRows
from trencadis_hw.maps.memory import MAP_READ_LATENCY, MapMemory
from trencadis_hw.maps.output import MakeRows
from trencadis_hw.maps.walk import Walk, issue_layout
from trencadis_hw.transfer.pack import Packer

__all__ = ["MapCore"]

SETTLE_CYCLES = 16
"""Cycles after a reset until no product is on its way any more."""


class MapCore(wiring.Component):
    """Computes samples: input beats in, output beats out, by itself.

    A sample arrives, the layers follow each other, each after the last row of the one before is
    written, and the output leaves.

    Parameters
    ----------
    config : KernelConfig
        The kernel the core belongs to.

    Members
    -------
    as in `Core`
    """

    feed: data.View
    start: Signal
    input_ended: Signal
    overflow: Signal
    busy: Signal
    clear: Signal
    cleared: Signal
    input: list[stream.Interface]
    output: list[stream.Interface]
    load: LoadInterface

    def __init__(self, config: KernelConfig) -> None:
        assert config.core.map is not None, "the kernel has map engines"
        self._config = config
        self._engine: MapConfig = config.core.map
        self._load_bits = load_bits(config.core)
        super().__init__(core_signature(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        engine, bits = self._engine, self._load_bits
        m.submodules.memory = memory = MapMemory(engine)
        m.submodules.walk = walk = Walk()
        m.submodules.array = array = MapArray(engine, load_bits=bits)
        m.submodules.make = make = MakeRows(engine, load_bits=bits)
        m.submodules.finish = finish = FinishRows(engine, load_bits=bits)
        m.submodules.feeder = feeder = MapFeeder(engine, bus_bits=self._config.bus_bits)
        m.submodules.reader = reader = RowReader(engine, bus_bits=self._config.bus_bits)
        for part in (array, make, finish):
            wiring.connect(m, wiring.flipped(self.load), part.load)

        # Rows that are read, and what they are.
        issue = delay(m, Value.cast(walk.issue), MAP_READ_LATENCY, name="issue")
        valid = Signal(MAP_READ_LATENCY)
        m.d.sync += valid.eq(Cat(walk.valid, valid))
        read, read_issue = valid[-1], Signal(issue_layout())
        of_map = read & ~read_issue.second
        m.d.comb += [
            Value.cast(read_issue).eq(issue),
            memory.address.eq(Mux(reader.busy, reader.address, walk.issue.address)),
            reader.row.eq(memory.row),
            array.valid.eq(of_map & (array.layer.mode == MapMode.MULTIPLY)),
            array.issue.eq(read_issue),
            array.row.eq(memory.row),
            make.valid.eq(of_map & (array.layer.mode == MapMode.MAXIMUM)),
            make.issue.eq(read_issue),
            make.read.eq(memory.row),
            make.beat_valid.eq(array.beat_valid),
            make.sums.eq(array.sums),
            make.parameter_row.eq(array.parameter_row),
            finish.row_valid.eq(make.row_valid),
            finish.row.eq(make.row),
            finish.second_valid.eq(read & read_issue.second),
            finish.second.eq(memory.row),
            walk.room.eq(array.room),
            walk.second_room.eq(finish.second_room),
            self.busy.eq(array.busy | make.valid),
        ]
        self._connect_edges(m, feeder, reader)
        self._write(m, memory, feeder, finish)
        self._sequence(m, walk, array, make, finish, feeder, reader)
        return m

    def _connect_edges(self, m: Module, feeder: MapFeeder, reader: RowReader) -> None:
        """Input beats to the feeder, pieces of rows to output beats."""
        config = self._config
        m.submodules.input_queue = queue = Queue(config.bus_bits, config.input_beats)
        m.submodules.packer = packer = Packer(
            piece_bits=piece_bits(self._engine, config.bus_bits),
            bus_bits=config.bus_bits,
            depth=config.output_beats,
        )
        connect_streams(m, source=wiring.flipped(self.input[0]), sink=queue.i)
        connect_streams(m, source=queue.o, sink=feeder.beats)
        connect_streams(m, source=reader.pieces, sink=packer.pieces)
        connect_streams(m, source=packer.beats, sink=wiring.flipped(self.output[0]))
        m.d.comb += [feeder.feed.eq(self.feed), packer.feed.eq(self.feed)]

    def _write(self, m: Module, memory: MapMemory, feeder: MapFeeder, finish: FinishRows) -> None:
        """Arbiter of writes to the map memory: the clearing, a sample that arrives, or a layer."""
        clearing = Signal()
        address = Signal(range(self._engine.map_rows))
        m.d.sync += address.eq(address + 1)
        with m.If(self.clear & ~clearing & ~self.cleared):
            m.d.sync += [clearing.eq(1), address.eq(0)]
        with m.If(address == self._engine.map_rows - 1):
            m.d.sync += [clearing.eq(0), self.cleared.eq(clearing)]
        with m.If(~self.clear):
            m.d.sync += self.cleared.eq(0)
        with m.If(clearing):
            m.d.comb += [memory.write_enable.eq(1), memory.write_address.eq(address)]
        with m.Elif(feeder.write_enable):
            m.d.comb += [
                memory.write_enable.eq(1),
                memory.write_address.eq(feeder.write_address),
                memory.write_row.eq(feeder.write_row),
            ]
        with m.Else():
            m.d.comb += [
                memory.write_enable.eq(finish.write_enable),
                memory.write_address.eq(finish.write_address),
                memory.write_row.eq(finish.write_row),
            ]

    def _tables(self, m: Module) -> tuple[data.View, LoadedTable, LoadedTable]:
        """The program, and the tables of its layers."""
        bits = self._load_bits
        program = Signal(layout_of(MAP_PROGRAM), reset_less=True)
        with m.If(self.load.enable & (self.load.target == Target.MAP_PROGRAM)):
            m.d.sync += Value.cast(program).eq(self.load.data)
        tables = []
        for record, target in ((MAP_LAYER, Target.MAP_LAYER), (ADD, Target.ADD)):
            table = LoadedTable(record, target, depth=self._engine.layers, load_bits=bits)
            m.submodules[f"table_{record.name.lower()}"] = table
            wiring.connect(m, wiring.flipped(self.load), table.load)
            tables.append(table)
        return program, tables[0], tables[1]

    def _sequence(
        self,
        m: Module,
        walk: Walk,
        array: MapArray,
        make: MakeRows,
        finish: FinishRows,
        feeder: MapFeeder,
        reader: RowReader,
    ) -> None:
        """One sample after the other: it arrives, its layers, it leaves."""
        program, layers, adds = self._tables(m)
        number = Signal(MAP_PROGRAM["layers"].bits)
        layer, add = Signal(layout_of(MAP_LAYER), reset_less=True), Signal(layout_of(ADD))
        wait = Signal(range(SETTLE_CYCLES))
        open_steps = Signal(MAP_LAYER["origin"].bits)
        begin = Signal()
        m.d.comb += [
            layers.address[0].eq(number),
            adds.address[0].eq(number),
            walk.layer.eq(layer),
            array.layer.eq(layer),
            make.layer.eq(layer),
            finish.layer.eq(layer),
            finish.add.eq(add),
            walk.start.eq(begin),
            array.begin.eq(begin),
            finish.begin.eq(begin),
            reader.base.eq(program.out_base),
            reader.rows.eq(program.out_rows),
        ]
        begun = walk.valid & walk.issue.last & ~walk.issue.second
        m.d.sync += open_steps.eq(open_steps + begun - finish.step_end)
        # Multipliers and accumulators have no reset: what is left in them is let through, and
        # forgotten.
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.next = "settle"
            with m.State("settle"):
                m.d.sync += wait.eq(wait + 1)
                with m.If(wait == SETTLE_CYCLES - 1):
                    m.next = "flush"
            with m.State("flush"):
                m.d.comb += array.flush.eq(1)
                with m.If(array.flushed):
                    m.next = "arrive"
            with m.State("arrive"):
                m.d.comb += feeder.allowed.eq(1)
                m.d.sync += number.eq(0)
                with m.If(feeder.done):
                    m.d.comb += feeder.allowed.eq(0)
                    m.next = "layer"
            with m.State("layer"):
                m.d.sync += [layer.eq(layers.row[0]), add.eq(adds.row[0])]
                m.next = "begin"
            with m.State("begin"):
                m.d.comb += begin.eq(1)
                m.next = "walk"
            with m.State("walk"), m.If(~walk.busy & ~walk.valid & (open_steps == 0)):
                m.d.sync += number.eq(number + 1)
                m.next = "layer"
                with m.If(number == program.layers):
                    m.d.comb += reader.start.eq(1)
                    m.next = "leave"
            with m.State("leave"), m.If(~reader.busy):
                m.next = "arrive"
