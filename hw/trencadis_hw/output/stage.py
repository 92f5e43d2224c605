"""Output stage: from the sums of an array to the lists of the next layer."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import REQUANTISE, SERIALISE, TABLE
from trencadis_format.timing import TABLE_LATENCY
from trencadis_format.widths import KEY_BITS
from trencadis_hw.array.array import beat_layout
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature, narrow_load
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.interface.streams import Queue, connect_streams, delay
from trencadis_hw.output.emit import Emitter, piece_shape, routed_write_layout
from trencadis_hw.output.pool import Pool, pooled_layout
from trencadis_hw.output.reorder import Reorder, row_layout
from trencadis_hw.output.requantise import Requantiser
from trencadis_hw.output.rows import RowMerge, RowSplit
from trencadis_hw.output.select import StreamSelector
from trencadis_hw.output.select_whole import WholeSelector
from trencadis_hw.output.serialise import Serialiser, group_layout

__all__ = ["WRITE_PATHS", "OutputStage"]

WINNER_ROWS = 16
"""Rows of winners that may wait for the emitter."""

WRITE_PATHS = 2
"""Streams of list entries per sample: from streaming and from whole-layer k-WTA."""


class OutputStage(wiring.Component):
    """Pool, requantise, put into index order, select winners, emit; for all samples of a core.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    batch_lanes : int
        Samples in lockstep.
    load_bits : int
        Width of the load bus.

    Members
    -------
    valid, beats : In
        Beats of sums, one per sample; all samples in the same cycle.
    queue_taken : Out(1)
        A pooled beat has left the queue.
    overflow : Out(1)
        A beat found the queue full and is lost; stays.
    writes : Out(array of stream of routed_write_layout)
        List entries, `WRITE_PATHS` streams per sample: from streaming and from whole-layer k-WTA.
    host : Out(array of stream of piece_shape)
        Keys for the host, one stream per sample.
    raw : Out(stream of group_layout)
        Sums for the host, all samples.
    load : In(LoadSignature)
        Image rows.
    """

    valid: Signal
    beats: data.View
    queue_taken: Signal
    overflow: Signal
    writes: list[list[stream.Interface]]
    host: list[stream.Interface]
    raw: stream.Interface
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, batch_lanes: int, load_bits: int) -> None:
        self._config = config
        self._batch_lanes = batch_lanes
        self._load_bits = load_bits
        routed = Out(stream.Signature(routed_write_layout()))
        members = {
            "valid": In(1),
            "beats": In(data.ArrayLayout(beat_layout(config), batch_lanes)),
            "queue_taken": Out(1),
            "overflow": Out(1),
            "writes": routed.array(batch_lanes, WRITE_PATHS),
            "host": Out(stream.Signature(piece_shape(config))).array(batch_lanes),
            "raw": Out(stream.Signature(group_layout(config, batch_lanes))),
            "load": In(LoadSignature(load_bits)),
        }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, batch_lanes, load = self._config, self._batch_lanes, self.load
        load_bits = self._load_bits

        m.submodules.queue = queue = Queue(pooled_layout(config, batch_lanes), config.queue_beats)
        for sample in range(batch_lanes):
            m.submodules[f"pool_{sample}"] = pool = Pool(config)
            m.d.comb += [
                pool.valid.eq(self.valid),
                pool.beat.eq(self.beats[sample]),
                queue.i.payload.sums[sample].eq(pool.pooled.sums),
            ]
            if sample == 0:
                m.d.comb += [
                    queue.i.valid.eq(pool.pooled_valid),
                    queue.i.payload.layer.eq(pool.pooled.layer),
                    queue.i.payload.vector_end.eq(pool.pooled.vector_end),
                ]
        with m.If(queue.i.valid & ~queue.i.ready):
            m.d.sync += self.overflow.eq(1)
        m.d.comb += self.queue_taken.eq(queue.o.valid & queue.o.ready)

        m.submodules.serialiser = serialiser = Serialiser(
            config, batch_lanes=batch_lanes, load_bits=load_bits
        )
        connect_streams(m, source=queue.o, sink=serialiser.beats)
        connect_streams(m, source=serialiser.raw, sink=wiring.flipped(self.raw))
        keys, key_latency = self._requantise(m, serialiser)

        m.submodules.reorder = reorder = Reorder(
            config, batch_lanes=batch_lanes, key_latency=key_latency, load_bits=load_bits
        )
        m.d.comb += [
            reorder.valid.eq(serialiser.group_valid),
            reorder.row.eq(serialiser.group.row),
            reorder.layer.eq(serialiser.group.layer),
            reorder.vector_end.eq(serialiser.group.vector_end),
            reorder.keys.eq(keys),
            reorder.reserve.eq(serialiser.reserve),
            serialiser.free_rows.eq(reorder.free_rows),
        ]

        # Every sample goes its own way from here.
        for sample in range(batch_lanes):
            self._select_and_emit(m, sample, reorder.rows[sample])
        for component in (serialiser, reorder):
            wiring.connect(m, wiring.flipped(load), component.load)
        return m

    def _requantise(self, m: Module, serialiser: Serialiser) -> tuple[data.View, int]:
        """Keys of the serialiser's groups, and how many cycles after the group they come."""
        config, batch_lanes, load = self._config, self._batch_lanes, self.load
        m.submodules.layers = layers = LoadedTable(
            SERIALISE, Target.SERIALISE, depth=config.layers, load_bits=len(load.data)
        )
        wiring.connect(m, wiring.flipped(load), layers.load)
        m.d.comb += layers.address[0].eq(
            delay(m, serialiser.group.layer, Requantiser.bounds_latency, name="layer")
        )
        bounds_data = Signal(layout_of(SERIALISE), reset_less=True)
        m.d.sync += bounds_data.eq(layers.row[0])

        keys = Signal(
            data.ArrayLayout(data.ArrayLayout(KEY_BITS, config.requantisers), batch_lanes),
            name="keys",
        )
        for i in range(config.requantisers):
            parameters = LoadedTable(
                REQUANTISE,
                Target.REQUANTISE,
                depth=config.requantise_rows,
                load_bits=self._load_bits,
                style="block",
            )
            m.submodules[f"parameters_{i}"] = parameters
            mine = narrow_load(m, load, load.unit == i, name=f"load_{i}")
            wiring.connect(m, mine, parameters.load)
            m.d.comb += parameters.address[0].eq(serialiser.group.row)
            for sample in range(batch_lanes):
                requantiser = Requantiser(config.sum_bits)
                m.submodules[f"requantise_{sample}_{i}"] = requantiser
                total = delay(m, serialiser.group.sums[sample][i], 1, name=f"sum_{sample}_{i}")
                m.d.comb += [
                    requantiser.sum.eq(total),
                    requantiser.parameters.eq(parameters.row[0]),
                    requantiser.low.eq(bounds_data.low),
                    requantiser.high.eq(bounds_data.high),
                ]
                key: Value = requantiser.key
                if config.tables:
                    key = self._table(m, f"{sample}_{i}", key, bounds_data)
                m.d.comb += keys[sample][i].eq(key)
        return keys, 1 + Requantiser.latency + TABLE_LATENCY * (config.tables > 0)

    def _table(self, m: Module, name: str, key: Value, layer: data.View) -> Value:
        """The key mapped through the layer's activation table, if it has one; 1 cycle later."""
        table = LoadedTable(
            TABLE,
            Target.TABLE,
            depth=self._config.tables << KEY_BITS,
            load_bits=self._load_bits,
            style="block",
        )
        m.submodules[f"table_{name}"] = table
        wiring.connect(m, wiring.flipped(self.load), table.load)
        # `layer` belongs to the cycle before the key.
        aligned = delay(m, Cat(layer.table, layer.use_table), 1, name=f"table_layer_{name}")
        m.d.comb += table.address[0].eq(Cat(key, aligned[:-1]))
        plain = delay(m, Cat(key, aligned[-1]), 1, name=f"plain_{name}")
        return Mux(plain[-1], table.row[0].key, plain[:KEY_BITS])

    def _select_and_emit(self, m: Module, sample: int, rows: stream.Interface) -> None:
        config, load = self._config, self.load
        load_bits = self._load_bits
        split = RowSplit(config, load_bits=load_bits)
        emitter = Emitter(config, load_bits=load_bits)
        m.submodules[f"split_{sample}"] = split
        m.submodules[f"emit_{sample}"] = emitter
        components: list[RowSplit | StreamSelector | WholeSelector | Emitter] = [split, emitter]
        connect_streams(m, source=rows, sink=split.i)
        selected = split.all
        if config.select_rows:
            short = StreamSelector(config, load_bits=load_bits)
            merge = RowMerge(config)
            m.submodules[f"select_{sample}"] = short
            m.submodules[f"merge_{sample}"] = merge
            components.append(short)
            connect_streams(m, source=split.short, sink=short.i)
            connect_streams(m, source=short.o, sink=merge.short)
            # A vector's place in the order is known to `merge` a cycle later.
            m.submodules[f"waiting_{sample}"] = waiting = Queue(row_layout(config), 2)
            connect_streams(m, source=split.all, sink=waiting.i)
            connect_streams(m, source=waiting.o, sink=merge.all)
            connect_streams(m, source=split.order, sink=merge.order)
            selected = merge.o
        # Winners in the same row are emitted one by one, while the selector has no cycle to spare.
        m.submodules[f"winners_{sample}"] = winners = Queue(row_layout(config), WINNER_ROWS)
        connect_streams(m, source=selected, sink=winners.i)
        connect_streams(m, source=winners.o, sink=emitter.rows)
        connect_streams(m, source=emitter.writes, sink=wiring.flipped(self.writes[sample][0]))
        connect_streams(m, source=emitter.host, sink=wiring.flipped(self.host[sample]))
        if config.whole_rows:
            whole, whole_emitter = (
                WholeSelector(config, load_bits=load_bits),
                Emitter(config, load_bits=load_bits),
            )
            m.submodules[f"whole_select_{sample}"] = whole
            m.submodules[f"whole_emit_{sample}"] = whole_emitter
            components += [whole, whole_emitter]
            connect_streams(m, source=split.whole, sink=whole.i)
            connect_streams(m, source=whole.o, sink=whole_emitter.rows)
            connect_streams(
                m,
                source=whole_emitter.writes,
                sink=wiring.flipped(self.writes[sample][1]),
            )
        for component in components:
            wiring.connect(m, wiring.flipped(load), component.load)
