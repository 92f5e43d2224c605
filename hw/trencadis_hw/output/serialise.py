"""Serialising: beats of sums from the array become groups as wide as the requantisers."""

from amaranth.hdl import Array, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SERIALISE
from trencadis_format.widths import LAYER_BITS
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.output.pool import pooled_layout

__all__ = ["Serialiser", "group_layout"]


def group_layout(config: EngineConfig, batch_lanes: int) -> data.StructLayout:
    """Sums for all requantisers, with their rows and layer.

    `row`: of the requantisers' parameters. `vector_end`: the vector's last group.
    """
    return data.StructLayout(
        {
            "sums": data.ArrayLayout(
                data.ArrayLayout(signed(config.sum_bits), config.requantisers), batch_lanes
            ),
            "row": range(config.requantise_rows),
            "layer": LAYER_BITS,
            "vector_end": 1,
        }
    )


class Serialiser(wiring.Component):
    """Cut beats into groups of `requantisers` sums; one group a cycle.

    Groups of keys leave on `group` when the reorder memory has room for the whole vector; it has
    no way to wait after that. Groups of layers whose sums go to the host leave on `raw`.

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
    beats : In(stream of pooled_layout)
        Pooled beats.
    free_rows : In
        Rows free in the reorder memory.
    group_valid, group : Out
        A group of sums to become keys.
    reserve : Out
        Rows the vector takes that begins with this group, 0 within a vector.
    raw : Out(stream of group_layout)
        A group of sums for the host.
    load : In(LoadSignature)
        Image rows.
    """

    beats: stream.Interface
    free_rows: Signal
    group_valid: Signal
    group: data.View
    reserve: Signal
    raw: stream.Interface
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, batch_lanes: int, load_bits: int) -> None:
        self._config = config
        self._batch_lanes = batch_lanes
        super().__init__(
            {
                "beats": In(stream.Signature(pooled_layout(config, batch_lanes))),
                "free_rows": In(range(config.reorder_rows + 1)),
                "group_valid": Out(1),
                "group": Out(group_layout(config, batch_lanes)),
                "reserve": Out(range(config.reorder_rows + 1)),
                "raw": Out(stream.Signature(group_layout(config, batch_lanes))),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.layers = layers = LoadedTable(
            SERIALISE, Target.SERIALISE, depth=config.layers, load_bits=len(self.load.data)
        )
        wiring.connect(m, wiring.flipped(self.load), layers.load)
        layer = layers.row[0]
        beat = self.beats.payload
        m.d.comb += layers.address[0].eq(beat.layer)

        inside = Signal()
        number = Signal(SERIALISE["groups"].bits)
        row = Signal(range(config.requantise_rows))
        room = Signal()
        go = Signal()
        last = Signal()
        group = Signal(group_layout(config, self._batch_lanes))
        per_beat = config.columns // config.requantisers
        m.d.comb += [
            room.eq(inside | (self.free_rows > layer.vector_rows)),
            last.eq(number == layer.groups),
            go.eq(self.beats.valid & ((layer.raw & self.raw.ready) | (~layer.raw & room))),
            self.beats.ready.eq(go & last),
            group.row.eq(row),
            group.layer.eq(beat.layer),
            group.vector_end.eq(beat.vector_end & last),
            self.raw.payload.eq(group),
            self.raw.valid.eq(self.beats.valid & layer.raw),
        ]
        with m.If(~inside):
            m.d.comb += group.row.eq(layer.row_base)
        for sample in range(self._batch_lanes):
            sums = Value.cast(beat.sums[sample])
            width = config.requantisers * config.sum_bits
            choices = [sums.word_select(i, width) for i in range(per_beat)]
            m.d.comb += Value.cast(group.sums[sample]).eq(Array(choices)[number])
        with m.If(go):
            m.d.sync += [
                inside.eq(~group.vector_end),
                row.eq(group.row + 1),
                number.eq(number + 1),
            ]
            with m.If(last):
                m.d.sync += number.eq(0)

        m.d.sync += [
            self.group_valid.eq(go & ~layer.raw),
            self.group.eq(group),
        ]
        with m.If(go & ~inside & ~layer.raw):
            m.d.comb += self.reserve.eq(layer.vector_rows + 1)
        return m
