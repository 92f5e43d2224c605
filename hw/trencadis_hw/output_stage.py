"""From the sums of an array to the lists of the next layer."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw import abi
from trencadis_hw.array import beat_layout
from trencadis_hw.config import EngineConfig
from trencadis_hw.emit import Emitter, piece_shape, routed_write_layout
from trencadis_hw.layouts import layout_of
from trencadis_hw.load import LoadInterface, LoadSignature, add_load_port, narrow_load
from trencadis_hw.pool import Pool, pooled_layout
from trencadis_hw.reorder import Reorder, row_layout
from trencadis_hw.requantise import Requantiser
from trencadis_hw.rows import RowMerge, RowSplit
from trencadis_hw.select import StreamSelector
from trencadis_hw.serialise import Serialiser, group_layout
from trencadis_hw.streams import Queue, connect_streams, delay
from trencadis_hw.whole_select import WholeSelector

__all__ = ["OutputStage"]

WINNER_ROWS = 16
"""Rows of winners that may wait for the emitter."""


class OutputStage(wiring.Component):
    """Pool, requantise, put into index order, select winners, emit; for all words of a core.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    words : int
        Words in lockstep.
    load_bits : int
        Width of the load bus.

    Members
    -------
    valid, beats : In
        Beats of sums, a word each; all words in the same cycle.
    queue_taken : Out(1)
        A pooled beat has left the queue.
    overflow : Out(1)
        A beat found the queue full and is lost; stays.
    writes_0, ... : Out(stream of routed_write_layout)
        List entries, two streams a word: from streaming and from whole-layer k-WTA.
    host_0, ... : Out(stream of piece_shape)
        Keys for the host, a word each.
    raw : Out(stream of group_layout)
        Sums for the host, all words.
    load : In(LoadSignature)
        Image rows.
    """

    valid: Signal
    beats: data.View
    queue_taken: Signal
    overflow: Signal
    raw: stream.Interface
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, words: int, load_bits: int) -> None:
        self._config = config
        self._words = words
        self._load_bits = load_bits
        members = {
            "valid": In(1),
            "beats": In(data.ArrayLayout(beat_layout(config), words)),
            "queue_taken": Out(1),
            "overflow": Out(1),
            "raw": Out(stream.Signature(group_layout(config, words))),
            "load": In(LoadSignature(load_bits)),
        }
        for word in range(words):
            members[f"writes_{word}"] = Out(stream.Signature(routed_write_layout()))
            members[f"whole_writes_{word}"] = Out(stream.Signature(routed_write_layout()))
            members[f"host_{word}"] = Out(stream.Signature(piece_shape(config)))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, words, load = self._config, self._words, self.load
        load_bits = self._load_bits

        m.submodules.queue = queue = Queue(pooled_layout(config, words), config.queue_beats)
        for word in range(words):
            m.submodules[f"pool_{word}"] = pool = Pool(config)
            m.d.comb += [
                pool.valid.eq(self.valid),
                pool.beat.eq(self.beats[word]),
                queue.i.payload.sums[word].eq(pool.pooled.sums),
            ]
            if word == 0:
                m.d.comb += [
                    queue.i.valid.eq(pool.pooled_valid),
                    queue.i.payload.layer.eq(pool.pooled.layer),
                    queue.i.payload.vector_end.eq(pool.pooled.vector_end),
                ]
        with m.If(queue.i.valid & ~queue.i.ready):
            m.d.sync += self.overflow.eq(1)
        m.d.comb += self.queue_taken.eq(queue.o.valid & queue.o.ready)

        m.submodules.serialiser = serialiser = Serialiser(config, words=words, load_bits=load_bits)
        connect_streams(m, source=queue.o, sink=serialiser.beats)
        connect_streams(m, source=serialiser.raw, sink=wiring.flipped(self.raw))
        keys, key_latency = self._requantise(m, serialiser)

        m.submodules.reorder = reorder = Reorder(
            config, words=words, key_latency=key_latency, load_bits=load_bits
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

        # Every word goes its own way from here.
        for word in range(words):
            self._select_and_emit(m, word, getattr(reorder, f"rows_{word}"))
        for component in (serialiser, reorder):
            wiring.connect(m, wiring.flipped(load), component.load)
        return m

    def _requantise(self, m: Module, serialiser: Serialiser) -> tuple[data.View, int]:
        """Keys of the serialiser's groups, and how many cycles after the group they come."""
        config, words, load = self._config, self._words, self.load
        m.submodules.layers = layers = memory.Memory(
            shape=layout_of(abi.SERIALISE),
            depth=config.layers,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        add_load_port(m, layers, load, abi.Target.SERIALISE)
        bounds = layers.read_port(domain="comb")
        m.d.comb += bounds.addr.eq(
            delay(m, serialiser.group.layer, Requantiser.bounds_latency, name="layer")
        )
        bounds_data = Signal(layout_of(abi.SERIALISE), reset_less=True)
        m.d.sync += bounds_data.eq(bounds.data)

        keys = Signal(
            data.ArrayLayout(data.ArrayLayout(abi.KEY_BITS, config.requantisers), words),
            name="keys",
        )
        for i in range(config.requantisers):
            parameters = memory.Memory(
                shape=layout_of(abi.REQUANTISE),
                depth=config.requantise_rows,
                init=[],
                attrs={"ram_style": "block"},
            )
            m.submodules[f"parameters_{i}"] = parameters
            mine = narrow_load(m, load, load.unit == i, name=f"load_{i}")
            add_load_port(m, parameters, mine, abi.Target.REQUANTISE)
            read = parameters.read_port()
            m.d.comb += read.addr.eq(serialiser.group.row)
            for word in range(words):
                requantiser = Requantiser(config.sum_bits)
                m.submodules[f"requantise_{word}_{i}"] = requantiser
                total = delay(m, serialiser.group.sums[word][i], 1, name=f"sum_{word}_{i}")
                m.d.comb += [
                    requantiser.sum.eq(total),
                    requantiser.parameters.eq(read.data),
                    requantiser.low.eq(bounds_data.low),
                    requantiser.high.eq(bounds_data.high),
                ]
                key: Value = requantiser.key
                if config.tables:
                    key = self._table(m, f"{word}_{i}", key, bounds_data)
                m.d.comb += keys[word][i].eq(key)
        return keys, 1 + Requantiser.latency + (config.tables > 0)

    def _table(self, m: Module, name: str, key: Value, layer: data.View) -> Value:
        """The key mapped through the layer's activation table, if it has one; 1 cycle later."""
        table = memory.Memory(
            shape=abi.KEY_BITS,
            depth=self._config.tables << abi.KEY_BITS,
            init=[],
            attrs={"ram_style": "block"},
        )
        m.submodules[f"table_{name}"] = table
        add_load_port(m, table, self.load, abi.Target.TABLE)
        read = table.read_port()
        # `layer` belongs to the cycle before the key.
        aligned = delay(m, Cat(layer.table, layer.use_table), 1, name=f"table_layer_{name}")
        m.d.comb += read.addr.eq(Cat(key, aligned[:4]))
        plain = delay(m, Cat(key, aligned[4]), 1, name=f"plain_{name}")
        return Mux(plain[-1], read.data, plain[: abi.KEY_BITS])

    def _select_and_emit(self, m: Module, word: int, rows: stream.Interface) -> None:
        config, load = self._config, self.load
        load_bits = self._load_bits
        split = RowSplit(config, load_bits=load_bits)
        emitter = Emitter(config, load_bits=load_bits)
        m.submodules[f"split_{word}"] = split
        m.submodules[f"emit_{word}"] = emitter
        components: list[RowSplit | StreamSelector | WholeSelector | Emitter] = [split, emitter]
        connect_streams(m, source=rows, sink=split.i)
        selected = split.all
        if config.select_rows:
            short = StreamSelector(config, load_bits=load_bits)
            merge = RowMerge(config)
            m.submodules[f"select_{word}"] = short
            m.submodules[f"merge_{word}"] = merge
            components.append(short)
            connect_streams(m, source=split.short, sink=short.i)
            connect_streams(m, source=short.o, sink=merge.short)
            # A vector's place in the order is known to `merge` a cycle later.
            m.submodules[f"waiting_{word}"] = waiting = Queue(row_layout(config), 2)
            connect_streams(m, source=split.all, sink=waiting.i)
            connect_streams(m, source=waiting.o, sink=merge.all)
            connect_streams(m, source=split.order, sink=merge.order)
            selected = merge.o
        # Winners in the same row are emitted one by one, while the selector has no cycle to spare.
        m.submodules[f"winners_{word}"] = winners = Queue(row_layout(config), WINNER_ROWS)
        connect_streams(m, source=selected, sink=winners.i)
        connect_streams(m, source=winners.o, sink=emitter.rows)
        connect_streams(
            m, source=emitter.writes, sink=wiring.flipped(getattr(self, f"writes_{word}"))
        )
        connect_streams(m, source=emitter.host, sink=wiring.flipped(getattr(self, f"host_{word}")))
        if config.whole_rows:
            whole, whole_emitter = (
                WholeSelector(config, load_bits=load_bits),
                Emitter(config, load_bits=load_bits),
            )
            m.submodules[f"whole_select_{word}"] = whole
            m.submodules[f"whole_emit_{word}"] = whole_emitter
            components += [whole, whole_emitter]
            connect_streams(m, source=split.whole, sink=whole.i)
            connect_streams(m, source=whole.o, sink=whole_emitter.rows)
            connect_streams(
                m,
                source=whole_emitter.writes,
                sink=wiring.flipped(getattr(self, f"whole_writes_{word}")),
            )
        for component in components:
            wiring.connect(m, wiring.flipped(load), component.load)
