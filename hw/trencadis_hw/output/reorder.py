"""Reordering: from the order in which kernels are drained to the order of their indices."""

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SERIALISE, gather_record, scatter_record
from trencadis_format.widths import KEY_BITS, LAYER_BITS
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.interface.streams import Queue, connect_streams, delay

__all__ = ["DISTRIBUTED_ROWS", "Reorder", "row_layout"]

DISTRIBUTED_ROWS = 32
"""Up to this many rows the memory is distributed."""

VECTORS = 64
"""Most vectors that may be in the memory, so that those of a row need no longer queue."""
WAITING_ROWS = 8
"""Rows that may wait for the rest of the output stage, for every sample."""


def row_layout(config: EngineConfig) -> data.StructLayout:
    """A row of a vector in index order, for one sample.

    `keys`: the activations; `mask`: which of them count; `number`: the row's, counted from 0;
    `last`: it ends the vector; `layer`: whose vector it is.
    """
    return data.StructLayout(
        {
            "keys": data.ArrayLayout(KEY_BITS, config.requantisers),
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
    batch_lanes : int
        Samples in lockstep.
    load_bits : int
        Width of the load bus.

    Members
    -------
    row, layer, vector_end, valid : In
        A group of keys: its row in the scatter table, its layer, whether it ends a vector.
    keys : In
        The keys, one per sample, `key_latency` cycles later.
    reserve : In
        Rows to set aside, as `Serialiser` reports them.
    free_rows : Out
        Rows neither filled nor set aside; none if as many vectors as may be are in the memory.
    rows : Out(array of stream of row_layout)
        The vectors' rows, one stream per sample.
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
    rows: list[stream.Interface]
    load: LoadInterface

    def __init__(
        self, config: EngineConfig, *, batch_lanes: int, key_latency: int, load_bits: int
    ) -> None:
        if key_latency < 2:
            raise ValueError(f"key_latency must be at least 2 cycles, not {key_latency}")
        self._config = config
        self._batch_lanes = batch_lanes
        self._key_latency = key_latency
        self._keys = data.ArrayLayout(KEY_BITS, config.requantisers)
        rows = Out(stream.Signature(row_layout(config)))
        super().__init__(
            {
                "valid": In(1),
                "row": In(range(config.requantise_rows)),
                "layer": In(LAYER_BITS),
                "vector_end": In(1),
                "keys": In(data.ArrayLayout(self._keys, batch_lanes)),
                "reserve": In(range(config.reorder_rows + 1)),
                "free_rows": Out(range(config.reorder_rows + 1)),
                "load": In(LoadSignature(load_bits)),
                "rows": rows.array(batch_lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, load = self._config, self.load
        banks = config.requantisers
        row_bits = (config.reorder_rows - 1).bit_length()

        m.submodules.layers = layers = LoadedTable(
            SERIALISE, Target.SERIALISE, depth=config.layers, load_bits=len(load.data), readers=2
        )
        wiring.connect(m, wiring.flipped(load), layers.load)
        scatter_table, gather_table = (
            LoadedTable(
                record,
                target,
                depth=config.requantise_rows,
                load_bits=len(load.data),
                style="block",
            )
            for record, target in (
                (scatter_record(banks), Target.SCATTER),
                (gather_record(banks), Target.GATHER),
            )
        )
        m.submodules.scatter, m.submodules.gather = scatter_table, gather_table
        wiring.connect(m, wiring.flipped(load), scatter_table.load)
        wiring.connect(m, wiring.flipped(load), gather_table.load)

        # Write side: look up, wait for the keys, scatter.
        m.d.comb += scatter_table.address[0].eq(self.row)
        scatter = delay(m, Value.cast(scatter_table.row[0]), self._key_latency - 1, name="scatter")
        scatter = layout_of(scatter_record(banks))(scatter)
        valid = Signal(self._key_latency)
        m.d.sync += valid.eq(Cat(self.valid, valid))
        flags = delay(m, Cat(self.layer, self.vector_end), self._key_latency, name="flags")
        layer, vector_end = flags[:-1], flags[-1]
        write_layer, read_layer = layers.row
        m.d.comb += layers.address[0].eq(layer)
        base = Signal(row_bits)
        most_vectors = min(VECTORS, config.reorder_rows)
        complete = Queue(data.StructLayout({"layer": config.layer_bits}), most_vectors)
        m.submodules.complete = complete
        m.d.comb += [
            complete.i.valid.eq(valid[-1] & vector_end),
            complete.i.payload.layer.eq(layer),
        ]
        with m.If(valid[-1] & vector_end):
            m.d.sync += base.eq(base + write_layer.vector_rows + 1)

        read_address = Signal(row_bits)
        reads = self._key_memories(
            m, scatter, base=base, valid=valid[-1], read_address=read_address
        )

        # Read side: the queues have room for the two rows under way when one of them stalls.
        queues = [Queue(row_layout(config), WAITING_ROWS) for _ in range(self._batch_lanes)]
        room = Cat(queue.level <= WAITING_ROWS - 3 for queue in queues).all()
        number = Signal(range(config.reorder_rows))
        issue, last = Signal(), Signal()
        gather_row = Signal(range(config.requantise_rows))
        m.d.comb += [
            layers.address[1].eq(complete.o.payload.layer),
            last.eq(number == read_layer.vector_rows),
            issue.eq(complete.o.valid & room),
            complete.o.ready.eq(issue & last),
            gather_table.address[0].eq(gather_row),
            gather_row.eq(read_layer.gather_base + number),
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

        row = Signal(row_layout(config))
        m.d.comb += [
            row.number.eq(number),
            row.last.eq(last),
            row.layer.eq(complete.o.payload.layer),
            row.mask.eq(~0),
        ]
        with m.If(last):
            m.d.comb += row.mask.eq((2 << read_layer.last_count[: banks.bit_length()]) - 1)
        self._gather(m, gather_table.row[0], reads, queues, row=row, issue=issue)
        return m

    def _key_memories(
        self,
        m: Module,
        scatter: data.View,
        *,
        base: Signal,
        valid: Value,
        read_address: Signal,
    ) -> list[data.View]:
        """Scatter the keys into banks; all samples are written and read at the same places.

        Returns
        -------
        reads
            What the banks hold at `read_address`, a cycle later.
        """
        config = self._config
        style = "block" if config.reorder_rows > DISTRIBUTED_ROWS else "distributed"
        reads = []
        for bank in range(config.requantisers):
            keys = memory.Memory(
                shape=data.ArrayLayout(KEY_BITS, self._batch_lanes),
                depth=config.reorder_rows,
                init=[],
                attrs={"ram_style": style},
            )
            m.submodules[f"keys_{bank}"] = keys
            write, read = keys.write_port(), keys.read_port()
            m.d.comb += [
                write.addr.eq(base + scatter[f"row{bank}"]),
                write.en.eq(valid & scatter[f"valid{bank}"]),
                read.addr.eq(read_address),
            ]
            for sample in range(self._batch_lanes):
                source = scatter[f"source{bank}"]
                m.d.comb += write.data[sample].eq(Array(self.keys[sample])[source])
            reads.append(read.data)
        return reads

    def _gather(
        self,
        m: Module,
        gather: data.View,
        reads: list[data.View],
        queues: list[Queue],
        *,
        row: data.View,
        issue: Signal,
    ) -> None:
        """Put the keys of the row that is read in this cycle into the order of their indices."""
        config = self._config
        issued = Signal()
        arrived = Signal()
        fetched = Signal(row_layout(config), reset_less=True)
        m.d.sync += [
            issued.eq(issue),
            arrived.eq(issued),
            fetched.eq(row),
        ]
        for sample, queue in enumerate(queues):
            m.submodules[f"queue_{sample}"] = queue
            ordered = Signal(row_layout(config), name=f"ordered_{sample}", reset_less=True)
            m.d.sync += ordered.eq(fetched)
            for i in range(config.requantisers):
                chosen = Array(read[sample] for read in reads)[gather[f"bank{i}"]]
                m.d.sync += ordered.keys[i].eq(chosen)
            m.d.comb += [queue.i.valid.eq(arrived), queue.i.payload.eq(ordered)]
            connect_streams(m, source=queue.o, sink=wiring.flipped(self.rows[sample]))
