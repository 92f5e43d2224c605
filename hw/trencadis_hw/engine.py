"""An array of multipliers with its memories, sequencer and output stage."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.timing import LIST_WRITE_LATENCY
from trencadis_format.widths import MAP_COUNT, VALUE_BITS
from trencadis_hw.array.banked_array import BankedArray
from trencadis_hw.array.lane import Lane
from trencadis_hw.array.memories import DenseMemory, WeightMemory
from trencadis_hw.array.tree_array import TreeArray
from trencadis_hw.control.sequencer import Sequencer
from trencadis_hw.control.tokens import MapTokens, levels_layout
from trencadis_hw.interface.lists import list_write_layout
from trencadis_hw.interface.load import LoadInterface, LoadSignature, narrow_load
from trencadis_hw.interface.streams import connect_streams, delay
from trencadis_hw.output.emit import piece_shape
from trencadis_hw.output.serialise import group_layout
from trencadis_hw.output.stage import WRITE_PATHS, OutputStage

__all__ = ["Engine", "array_class"]


def array_class(config: EngineConfig) -> type[BankedArray] | type[TreeArray]:
    """The array a configuration's routing asks for."""
    return BankedArray if config.routing == "banked" else TreeArray


class Engine(wiring.Component):
    """One engine of a core, for all samples of the core.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    batch_lanes : int
        Samples in lockstep.
    load_bits, engine : int
        Width of the load bus, and the engine's number on it.

    Members
    -------
    start, input_ended, idle : In, In, Out
        As in `Sequencer`.
    overflow : Out(1)
        A queue overflowed; stays.
    busy : Out(1)
        Work was issued in this cycle.
    clear : In(1)
        Fill the activation memories with zeros; hold until `cleared`.
    cleared : Out(1)
        They are filled.
    outside_reserve, outside_fill, reserved : In, In, Out
        Tokens of maps that are filled from outside, as in `MapTokens`.
    filled : Out(array of MAP_COUNT bits)
        Maps that are complete in this cycle, for every sample.
    dense_enables, dense_addresses, dense_values : In
        Values of the dense input to store, one per sample.
    enter : In(array of stream of list_write_layout)
        List entries from the engine before, `WRITE_PATHS` streams per sample.
    leave : Out(array of stream of list_write_layout)
        List entries for the next engine, `WRITE_PATHS` streams per sample.
    next_reserve, next_reserved : Out, In
        Tokens of the next engine.
    host, raw : Out(stream)
        As in `OutputStage`.
    load : In(LoadSignature)
        Image rows.
    """

    start: Signal
    input_ended: Signal
    idle: Signal
    overflow: Signal
    busy: Signal
    clear: Signal
    cleared: Signal
    outside_reserve: Signal
    outside_fill: data.View
    reserved: data.View
    filled: data.View
    dense_enables: Signal
    dense_addresses: data.View
    dense_values: data.View
    next_reserve: Signal
    next_reserved: data.View
    enter: list[list[stream.Interface]]
    leave: list[list[stream.Interface]]
    host: list[stream.Interface]
    raw: stream.Interface
    load: LoadInterface

    def __init__(
        self, config: EngineConfig, *, batch_lanes: int, load_bits: int, engine: int
    ) -> None:
        self._config = config
        self._batch_lanes = batch_lanes
        self._load_bits = load_bits
        self._engine = engine
        address = range(max(2, config.dense_values))
        writes = stream.Signature(list_write_layout())
        members = {
            "start": In(1),
            "input_ended": In(1),
            "idle": Out(1),
            "overflow": Out(1),
            "busy": Out(1),
            "clear": In(1),
            "cleared": Out(1),
            "outside_reserve": In(MAP_COUNT),
            "outside_fill": In(data.ArrayLayout(MAP_COUNT, batch_lanes)),
            "reserved": Out(levels_layout()),
            "filled": Out(data.ArrayLayout(MAP_COUNT, batch_lanes)),
            "dense_enables": In(batch_lanes),
            "dense_addresses": In(data.ArrayLayout(address, batch_lanes)),
            "dense_values": In(data.ArrayLayout(signed(VALUE_BITS), batch_lanes)),
            "next_reserve": Out(MAP_COUNT),
            "next_reserved": In(levels_layout()),
            "enter": In(writes).array(batch_lanes, WRITE_PATHS),
            "leave": Out(writes).array(batch_lanes, WRITE_PATHS),
            "host": Out(stream.Signature(piece_shape(config))).array(batch_lanes),
            "raw": Out(stream.Signature(group_layout(config, batch_lanes))),
            "load": In(LoadSignature(load_bits)),
        }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, batch_lanes, load_bits = self._config, self._batch_lanes, self._load_bits
        load = narrow_load(m, self.load, self.load.engine == self._engine, name="own_load")

        m.submodules.tokens = tokens = MapTokens(batch_lanes)
        m.submodules.sequencer = sequencer = Sequencer(config, load_bits=load_bits)
        m.submodules.output = output = OutputStage(
            config, batch_lanes=batch_lanes, load_bits=load_bits
        )
        m.d.comb += [
            sequencer.start.eq(self.start),
            sequencer.input_ended.eq(self.input_ended),
            sequencer.full.eq(tokens.full),
            sequencer.reserved.eq(tokens.reserved),
            sequencer.next_reserved.eq(self.next_reserved),
            sequencer.queue_taken.eq(output.queue_taken),
            tokens.reserve.eq(sequencer.reserve | self.outside_reserve),
            tokens.take.eq(sequencer.take),
            tokens.release.eq(sequencer.release),
            self.next_reserve.eq(sequencer.next_reserve),
            self.reserved.eq(tokens.reserved),
            self.filled.eq(tokens.fill),
            self.overflow.eq(output.overflow),
            self.busy.eq(sequencer.issue.valid),
            self.idle.eq(sequencer.idle),
        ]
        for component in (sequencer, output):
            wiring.connect(m, load, component.load)
        connect_streams(m, source=output.raw, sink=wiring.flipped(self.raw))

        # Clearing: a zero to every address of every lane.
        depth = max(config.dense_values, config.list_entries)
        clearing = Signal()
        clear_address = Signal(range(depth))
        m.d.sync += clear_address.eq(clear_address + 1)
        with m.If(self.clear & ~clearing & ~self.cleared):
            m.d.sync += [clearing.eq(1), clear_address.eq(0)]
        with m.If(clear_address == depth - 1):
            m.d.sync += [clearing.eq(0), self.cleared.eq(clearing)]
        with m.If(~self.clear):
            m.d.sync += self.cleared.eq(0)

        # Lanes, their weights, and the dense input that equal lanes of all groups share.
        lanes, weights = [], []
        for number in range(config.lanes):
            lane = Lane(config, batch_lanes=batch_lanes, load_bits=load_bits)
            weight = WeightMemory(config, batch_lanes=batch_lanes, load_bits=load_bits)
            m.submodules[f"lane_{number}"] = lane
            m.submodules[f"weights_{number}"] = weight
            m.d.comb += [
                lane.issue.eq(sequencer.issue),
                lane.lookup.eq(sequencer.lookup),
                weight.rows.eq(lane.weight_rows),
            ]
            mine = narrow_load(m, load, load.unit == number, name=f"load_{number}")
            wiring.connect(m, mine, lane.load)
            wiring.connect(m, mine, weight.load)
            lanes.append(lane)
            weights.append(weight)
        m.d.comb += sequencer.ended.eq(Cat(lane.ended for lane in lanes).all())

        if config.dense_values:
            for sample in range(batch_lanes):
                address, value = Signal(range(config.dense_values)), Signal(signed(VALUE_BITS))
                enable = Signal()
                m.d.sync += [
                    enable.eq(self.dense_enables[sample] | clearing),
                    address.eq(Mux(clearing, clear_address, self.dense_addresses[sample])),
                    value.eq(Mux(clearing, 0, self.dense_values[sample])),
                ]
                for number in range(config.group_lanes):
                    dense = DenseMemory(config.dense_values)
                    m.submodules[f"dense_{sample}_{number}"] = dense
                    m.d.comb += [
                        dense.address.eq(lanes[number].dense_address),
                        dense.write_enable.eq(enable),
                        dense.write_address.eq(address),
                        dense.write_value.eq(value),
                    ]
                    for lane in lanes[number :: config.group_lanes]:
                        m.d.comb += lane.dense_values[sample].eq(dense.value)

        # The arrays.
        step = delay(
            m, Value.cast(sequencer.step), Lane.latency + WeightMemory.latency, name="step"
        )
        last = Signal(Lane.latency + WeightMemory.latency)
        m.d.sync += last.eq(Cat(sequencer.step.last, last))
        for sample in range(batch_lanes):
            array = array_class(config)(config)
            m.submodules[f"array_{sample}"] = array
            m.d.comb += [
                Value.cast(array.step).eq(step),
                array.step.last.eq(last[-1]),
                output.beats[sample].eq(array.beat),
            ]
            if sample == 0:
                m.d.comb += output.valid.eq(array.valid)
            for number, (lane, weight) in enumerate(zip(lanes, weights, strict=True)):
                value = delay(
                    m, lane.values[sample], WeightMemory.latency, name=f"value_{sample}_{number}"
                )
                m.d.comb += [
                    array.values[number].eq(value),
                    array.weights[number].eq(weight.weights[sample]),
                ]

        for sample in range(batch_lanes):
            self._route_writes(m, sample, output, lanes, tokens, clearing, clear_address)
            connect_streams(
                m,
                source=output.host[sample],
                sink=wiring.flipped(self.host[sample]),
            )
        return m

    def _route_writes(
        self,
        m: Module,
        sample: int,
        output: OutputStage,
        lanes: list[Lane],
        tokens: MapTokens,
        clearing: Signal,
        clear_address: Signal,
    ) -> None:
        """Bring all list writes of a sample to the lanes, the first source that has one first."""
        sources: list[stream.Interface] = []
        paths = zip(output.writes[sample], self.enter[sample], self.leave[sample], strict=True)
        for path, (emitted, enter, leave) in enumerate(paths):
            own = stream.Signature(list_write_layout()).create(path=(f"own_{sample}_{path}",))
            m.d.comb += [
                own.payload.eq(emitted.payload.write),
                leave.payload.eq(emitted.payload.write),
                own.valid.eq(emitted.valid & ~emitted.payload.next),
                leave.valid.eq(emitted.valid & emitted.payload.next),
                emitted.ready.eq(Mux(emitted.payload.next, leave.ready, own.ready)),
            ]
            sources += [own, enter]

        write = Signal(list_write_layout(), name=f"write_{sample}", reset_less=True)
        enable, final = Signal(name=f"enable_{sample}"), Signal(name=f"final_{sample}")
        m.d.sync += [enable.eq(0), final.eq(0)]
        taken: Value = clearing
        for source in sources:
            m.d.comb += source.ready.eq(~taken)
            with m.If(source.valid & source.ready):
                m.d.sync += [
                    write.eq(source.payload),
                    enable.eq(source.payload.enable),
                    final.eq(source.payload.final),
                ]
            taken = taken | source.valid
        with m.If(clearing):
            m.d.sync += [
                enable.eq(1),
                write.owned.eq(1),
                write.everywhere.eq(1),
                write.address.eq(clear_address),
                write.base.eq(0),
                write.entry.value.eq(0),
            ]
        for lane in lanes:
            m.d.comb += [lane.write_enables[sample].eq(enable), lane.writes[sample].eq(write)]

        done = final
        for i in range(LIST_WRITE_LATENCY):
            later = Signal(name=f"done_{sample}_{i}")
            m.d.sync += later.eq(done)
            done = later
        done_map = delay(m, write.map, LIST_WRITE_LATENCY, name=f"done_map_{sample}")
        m.d.comb += tokens.fill[sample].eq((done << done_map) | self.outside_fill[sample])
