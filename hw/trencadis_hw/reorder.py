"""From the order in which kernels are drained to the order of their indices."""

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw import abi
from trencadis_hw.config import EngineConfig
from trencadis_hw.layouts import layout_of
from trencadis_hw.load import LoadInterface, LoadSignature, add_load_port
from trencadis_hw.streams import Queue, connect_streams, delay

__all__ = ["DISTRIBUTED_ROWS", "Reorder", "row_layout"]

DISTRIBUTED_ROWS = 32
"""Up to this many rows the memory is distributed."""

VECTORS = 64
"""Most vectors that may be in the memory, so that those of a row need no longer queue."""
WAITING_ROWS = 8
"""Rows that may wait for the rest of the output stage, for every word."""


def row_layout(config: EngineConfig) -> data.StructLayout:
    """A row of a vector in index order, for one word.

    `keys`: the activations; `mask`: which of them count; `number`: the row's, counted from 0;
    `last`: it ends the vector; `layer`: whose vector it is.
    """
    return data.StructLayout(
        {
            "keys": data.ArrayLayout(abi.KEY_BITS, config.requantisers),
            "mask": config.requantisers,
            "number": range(config.reorder_rows),
            "last": 1,
            "layer": config.layer_bits,
        }
    )


class Reorder(wiring.Component):
    """Put the activations of a vector into index order.

    Kernels share a tile because their weights fit together, so they leave the array in any order;
    but ties of k-WTA go to the lowest index, and the host wants channels where the model has them.
    The memory has as many banks as there are requantisers. Bank and row of every activation are
    chosen by the compiler such that no two of a group, and no two of a row, share a bank; that is
    an edge colouring of a bipartite graph, so it always exists (König's theorem).

    Vectors follow each other through the memory as through a ring. A vector can be read when it is
    complete. Latency from its last group to its first row: 4 cycles.

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
    row, layer, vector_end, valid : In
        A group of keys: its row in the scatter table, its layer, whether it ends a vector.
    keys : In
        The keys, a word each, `key_latency` cycles later.
    reserve : In
        Rows to set aside, as `Serialiser` reports them.
    free_rows : Out
        Rows neither filled nor set aside; none if as many vectors as may be are in the memory.
    rows_0, ... : Out(stream of row_layout)
        The vectors' rows, a word each.
    load : In(LoadSignature)
        Image rows.
    """

    valid: Signal
    row: Signal
    layer: Signal
    vector_end: Signal
    keys: data.View
    reserve: Signal
    free_rows: Signal
    rows_0: stream.Interface
    load: LoadInterface

    def __init__(
        self, config: EngineConfig, *, words: int, key_latency: int, load_bits: int
    ) -> None:
        if key_latency < 2:
            raise ValueError(f"key_latency must be at least 2 cycles, not {key_latency}")
        self._config = config
        self._words = words
        self._key_latency = key_latency
        self._keys = data.ArrayLayout(abi.KEY_BITS, config.requantisers)
        rows = Out(stream.Signature(row_layout(config)))
        super().__init__(
            {
                "valid": In(1),
                "row": In(range(config.requantise_rows)),
                "layer": In(4),
                "vector_end": In(1),
                "keys": In(data.ArrayLayout(self._keys, words)),
                "reserve": In(range(config.reorder_rows + 1)),
                "free_rows": Out(range(config.reorder_rows + 1)),
                "load": In(LoadSignature(load_bits)),
                **{f"rows_{word}": rows for word in range(words)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, load = self._config, self.load
        banks = config.requantisers
        row_bits = (config.reorder_rows - 1).bit_length()

        m.submodules.layers = layers = memory.Memory(
            shape=layout_of(abi.SERIALISE),
            depth=config.layers,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        add_load_port(m, layers, load, abi.Target.SERIALISE)
        m.submodules.scatter = scatter_table = memory.Memory(
            shape=layout_of(abi.scatter_record(banks)),
            depth=config.requantise_rows,
            init=[],
            attrs={"ram_style": "block"},
        )
        add_load_port(m, scatter_table, load, abi.Target.SCATTER)
        m.submodules.gather = gather_table = memory.Memory(
            shape=layout_of(abi.gather_record(banks)),
            depth=config.requantise_rows,
            init=[],
            attrs={"ram_style": "block"},
        )
        add_load_port(m, gather_table, load, abi.Target.GATHER)

        # Write side: look up, wait for the keys, scatter.
        look_up = scatter_table.read_port()
        m.d.comb += look_up.addr.eq(self.row)
        scatter = delay(m, Value.cast(look_up.data), self._key_latency - 1, name="scatter")
        scatter = layout_of(abi.scatter_record(banks))(scatter)
        valid = Signal(self._key_latency)
        m.d.sync += valid.eq(Cat(self.valid, valid))
        flags = delay(m, Cat(self.layer, self.vector_end), self._key_latency, name="flags")
        layer, vector_end = flags[:4], flags[4]
        write_layer = layers.read_port(domain="comb")
        m.d.comb += write_layer.addr.eq(layer)
        base = Signal(row_bits)
        most_vectors = min(VECTORS, config.reorder_rows)
        complete = Queue(data.StructLayout({"layer": config.layer_bits}), most_vectors)
        m.submodules.complete = complete
        m.d.comb += [
            complete.i.valid.eq(valid[-1] & vector_end),
            complete.i.payload.layer.eq(layer),
        ]
        with m.If(valid[-1] & vector_end):
            m.d.sync += base.eq(base + write_layer.data.vector_rows + 1)

        # All words are written and read at the same places.
        style = "block" if config.reorder_rows > DISTRIBUTED_ROWS else "distributed"
        reads = []
        read_address = Signal(row_bits)
        for bank in range(banks):
            keys = memory.Memory(
                shape=data.ArrayLayout(abi.KEY_BITS, self._words),
                depth=config.reorder_rows,
                init=[],
                attrs={"ram_style": style},
            )
            m.submodules[f"keys_{bank}"] = keys
            write, read = keys.write_port(), keys.read_port()
            m.d.comb += [
                write.addr.eq(base + scatter[f"row{bank}"]),
                write.en.eq(valid[-1] & scatter[f"valid{bank}"]),
                read.addr.eq(read_address),
            ]
            for word in range(self._words):
                source = scatter[f"source{bank}"]
                m.d.comb += write.data[word].eq(Array(self.keys[word])[source])
            reads.append(read.data)

        # Read side: the queues have room for the two rows under way when one of them stalls.
        queues = [Queue(row_layout(config), WAITING_ROWS) for _ in range(self._words)]
        room = Cat(queue.level <= WAITING_ROWS - 3 for queue in queues).all()
        read_layer = layers.read_port(domain="comb")
        gather = gather_table.read_port()
        number = Signal(range(config.reorder_rows))
        issue, last = Signal(), Signal()
        gather_row = Signal(range(config.requantise_rows))
        m.d.comb += [
            read_layer.addr.eq(complete.o.payload.layer),
            last.eq(number == read_layer.data.vector_rows),
            issue.eq(complete.o.valid & room),
            complete.o.ready.eq(issue & last),
            gather.addr.eq(gather_row),
            gather_row.eq(read_layer.data.gather_base + number),
        ]
        free_rows = Signal.like(self.free_rows, init=config.reorder_rows)
        m.d.sync += free_rows.eq(free_rows + issue - self.reserve)
        m.d.comb += self.free_rows.eq(free_rows)
        if most_vectors < config.reorder_rows:
            vectors = Signal(range(most_vectors + 1))
            m.d.sync += vectors.eq(vectors + self.reserve.any() - complete.o.ready)
            with m.If(vectors == most_vectors):
                m.d.comb += self.free_rows.eq(0)
        with m.If(issue):
            m.d.sync += [read_address.eq(read_address + 1), number.eq(number + 1)]
            with m.If(last):
                m.d.sync += number.eq(0)

        issued = Signal()
        arrived = Signal()
        fetched = Signal(row_layout(config), reset_less=True)
        m.d.sync += [
            issued.eq(issue),
            arrived.eq(issued),
            fetched.number.eq(number),
            fetched.last.eq(last),
            fetched.layer.eq(complete.o.payload.layer),
            fetched.mask.eq(~0),
        ]
        with m.If(last):
            m.d.sync += fetched.mask.eq((2 << read_layer.data.last_count[: banks.bit_length()]) - 1)
        for word, queue in enumerate(queues):
            m.submodules[f"queue_{word}"] = queue
            ordered = Signal(row_layout(config), name=f"ordered_{word}", reset_less=True)
            m.d.sync += ordered.eq(fetched)
            for i in range(banks):
                chosen = Array(read[word] for read in reads)[gather.data[f"bank{i}"]]
                m.d.sync += ordered.keys[i].eq(chosen)
            m.d.comb += [queue.i.valid.eq(arrived), queue.i.payload.eq(ordered)]
            rows = getattr(self, f"rows_{word}")
            connect_streams(m, source=queue.o, sink=wiring.flipped(rows))
        return m
