"""Writing the survivors of a vector where the next layer, or the host, will find them."""

from amaranth.hdl import Array, Cat, Module, Mux, Shape, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import EMIT, Destination, Emission
from trencadis_format.widths import KEY_BITS, LIST_ADDRESS_BITS, MAP_COUNT
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.lists import list_write_layout
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.output.position import PositionCounter
from trencadis_hw.output.reorder import row_layout

__all__ = ["Emitter", "piece_shape", "routed_write_layout"]


def routed_write_layout() -> data.StructLayout:
    """A list write, and whether it is for the next engine of the core."""
    return data.StructLayout({"next": 1, "write": list_write_layout()})


def piece_shape(config: EngineConfig) -> Shape:
    """A piece of output for the host: as many bytes as there are requantisers."""
    return unsigned(KEY_BITS * config.requantisers)


class Emitter(wiring.Component):
    """Turn rows of survivors into list entries or host bytes, for one sample.

    Survivors of value zero are left out: they would add nothing. One entry a cycle; a row without
    survivors takes a cycle too. After its entries a list takes a cycle for every padding zero
    (`LISTS`), one for its end (`TERMINATED`), or one for every owner (`OWNED`); a map takes one.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    load_bits : int
        Width of the load bus.
    target : Target
        Table in images: that of the layers, or of the input.

    Members
    -------
    rows : In(stream of row_layout)
        Rows, their survivors in `mask`.
    writes : Out(stream of routed_write_layout)
        List entries.
    host : Out(stream of piece_shape)
        Rows for the host: all keys of a row, 0 where it has none.
    load : In(LoadSignature)
        Image rows.
    """

    rows: stream.Interface
    writes: stream.Interface
    host: stream.Interface
    load: LoadInterface

    def __init__(
        self, config: EngineConfig, *, load_bits: int, target: Target = Target.EMIT
    ) -> None:
        self._config = config
        self._target = target
        super().__init__(
            {
                "rows": In(stream.Signature(row_layout(config))),
                "writes": Out(stream.Signature(routed_write_layout())),
                "host": Out(stream.Signature(piece_shape(config))),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        width = config.requantisers
        m.submodules.layers = layers = LoadedTable(
            EMIT, self._target, depth=config.layers, load_bits=len(self.load.data)
        )
        wiring.connect(m, wiring.flipped(self.load), layers.load)
        m.submodules.position = position = PositionCounter()
        row, layer, mask, present, finished = self._hold_row(m, layers)
        list_address, at_end = position.address, position.at_end
        list_end = Signal()
        parity = Signal(2 * MAP_COUNT)
        to_next = layer.destination == Destination.NEXT
        second = parity.bit_select(Cat(layer.out_map, to_next), 1)
        m.d.comb += [position.layer.eq(layer), position.list_end.eq(list_end)]

        # The survivor to write next.
        lowest = _lowest(m, mask)
        rest = mask & (mask - 1)
        index = Signal(range(config.reorder_rows * width))
        m.d.comb += index.eq(Cat(lowest, row.number))

        count, counted = Signal(LIST_ADDRESS_BITS), Signal(LIST_ADDRESS_BITS)
        m.d.comb += counted.eq(count + 1)
        owner = Signal(EMIT["owners"].bits)
        owner_base = Signal(len(index))
        owned = layer.emission == Emission.OWNED
        beyond = owned & (index >= owner_base + layer.block)
        full, fills = count == layer.pitch, counted == layer.pitch

        write = self.writes.payload.write
        m.d.comb += [
            self.writes.payload.next.eq(to_next),
            write.map.eq(layer.out_map),
            write.owned.eq(owned),
            write.owner.eq(owner),
            write.address.eq(list_address + count),
            write.base.eq(layer.base + Mux(second, layer.size, 0)),
            write.size.eq(layer.size),
        ]
        for i in range(width):
            with m.If(row.mask[i]):
                m.d.comb += self.host.payload.word_select(i, KEY_BITS).eq(row.keys[i])

        def next_owner() -> None:
            m.d.sync += [
                count.eq(0),
                owner.eq(owner + 1),
                owner_base.eq(owner_base + layer.block),
            ]

        def end_list() -> None:
            m.d.comb += list_end.eq(1)
            m.d.sync += [count.eq(0), owner.eq(0), owner_base.eq(0)]
            with m.If(at_end):
                m.next = "final"
            with m.Else():
                m.d.comb += finished.eq(1)
                m.next = "survivors"

        row_end = Signal()
        with m.FSM():
            with m.State("survivors"):
                with m.If(layer.emission == Emission.BYTES):
                    m.d.comb += [
                        self.host.valid.eq(present),
                        finished.eq(present & self.host.ready),
                        list_end.eq(finished & row.last),
                    ]
                with m.Elif(present & mask.any()):
                    m.d.comb += self.writes.valid.eq(1)
                    with m.If(beyond):
                        m.d.comb += write.enable.eq(~full)
                        with m.If(self.writes.ready):
                            next_owner()
                    with m.Else():
                        m.d.comb += [
                            write.enable.eq(1),
                            write.entry.index.eq(index - owner_base),
                            write.entry.value.eq(Array(row.keys)[lowest] - layer.zero),
                            row_end.eq(self.writes.ready & ~rest.any()),
                        ]
                        with m.If(self.writes.ready):
                            m.d.sync += count.eq(counted)
                        with m.If(self.writes.ready & ~finished):
                            m.d.sync += mask.eq(rest)
                with m.Else():
                    m.d.comb += row_end.eq(present)
                with m.If(row_end & ~row.last):
                    m.d.comb += finished.eq(1)
                with m.If(row_end & row.last):
                    m.next = "end"
                    with m.If((layer.emission == Emission.LISTS) & Mux(mask.any(), fills, full)):
                        end_list()
            with m.State("end"):
                m.d.comb += [self.writes.valid.eq(1), write.enable.eq(~full)]
                with m.If(self.writes.ready):
                    m.d.sync += count.eq(counted)
                    with m.If(owned):
                        next_owner()
                    with m.If(
                        Mux(
                            owned,
                            owner == layer.owners,
                            (layer.emission == Emission.TERMINATED) | fills,
                        )
                    ):
                        end_list()
            with m.State("final"):
                m.d.comb += [self.writes.valid.eq(1), write.final.eq(1)]
                with m.If(self.writes.ready):
                    m.d.comb += finished.eq(1)
                    m.d.sync += parity.bit_select(Cat(layer.out_map, to_next), 1).eq(
                        second ^ (layer.buffers == 2)
                    )
                    m.next = "survivors"
        return m

    def _hold_row(
        self, m: Module, layers: LoadedTable
    ) -> tuple[data.View, data.View, Signal, Signal, Signal]:
        """Hold the row at hand, its layer, and the survivors not yet written.

        Returns
        -------
        row, layer, mask, present, finished
            `mask`: survivors still to write; `present`: there is a row; `finished`: to be driven,
            the row is written in this cycle.
        """
        config = self._config
        m.d.comb += layers.address[0].eq(self.rows.payload.layer)
        looked_up = layers.row[0]
        present = Signal()
        finished = Signal()
        row = Signal(row_layout(config), reset_less=True)
        layer = Signal(layout_of(EMIT), reset_less=True)
        mask = Signal(config.requantisers, reset_less=True)
        m.d.comb += self.rows.ready.eq(~present | finished)
        with m.If(self.rows.ready):
            m.d.sync += [
                present.eq(self.rows.valid),
                row.eq(self.rows.payload),
                layer.eq(looked_up),
            ]
            for i in range(config.requantisers):
                key = self.rows.payload.keys[i]
                m.d.sync += mask[i].eq(self.rows.payload.mask[i] & (key != looked_up.zero))
        return row, layer, mask, present, finished


def _lowest(m: Module, mask: Signal) -> Signal:
    """Number of the lowest bit that is set."""
    lowest = Signal(range(len(mask)))
    for i in reversed(range(len(mask))):
        with m.If(mask[i]):
            m.d.comb += lowest.eq(i)
    return lowest
