"""From beats of sums, as the array gives them, to groups as wide as the requantisers."""

from amaranth.hdl import Array, Module, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw import abi
from trencadis_hw.config import EngineConfig
from trencadis_hw.layouts import layout_of
from trencadis_hw.load import LoadInterface, LoadSignature, add_load_port
from trencadis_hw.pool import pooled_layout

__all__ = ["Serialiser", "group_layout"]


def group_layout(config: EngineConfig, words: int) -> data.StructLayout:
    """Sums for all requantisers, with their rows and layer.

    `row`: of the requantisers' parameters. `vector_end`: the vector's last group.
    """
    return data.StructLayout(
        {
            "sums": data.ArrayLayout(
                data.ArrayLayout(signed(config.sum_bits), config.requantisers), words
            ),
            "row": range(config.requantise_rows),
            "layer": 4,
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
    words : int
        Words in lockstep.
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

    def __init__(self, config: EngineConfig, *, words: int, load_bits: int) -> None:
        self._config = config
        self._words = words
        super().__init__(
            {
                "beats": In(stream.Signature(pooled_layout(config, words))),
                "free_rows": In(range(config.reorder_rows + 1)),
                "group_valid": Out(1),
                "group": Out(group_layout(config, words)),
                "reserve": Out(range(config.reorder_rows + 1)),
                "raw": Out(stream.Signature(group_layout(config, words))),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.layers = layers = memory.Memory(
            shape=layout_of(abi.SERIALISE),
            depth=config.layers,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        add_load_port(m, layers, self.load, abi.Target.SERIALISE)
        layer = layers.read_port(domain="comb")
        beat = self.beats.payload
        m.d.comb += layer.addr.eq(beat.layer)

        inside = Signal()
        number = Signal(6)
        row = Signal(range(config.requantise_rows))
        room = Signal()
        go = Signal()
        last = Signal()
        group = Signal(group_layout(config, self._words))
        per_beat = config.columns // config.requantisers
        m.d.comb += [
            room.eq(inside | (self.free_rows > layer.data.vector_rows)),
            last.eq(number == layer.data.groups),
            go.eq(
                self.beats.valid & ((layer.data.raw & self.raw.ready) | (~layer.data.raw & room))
            ),
            self.beats.ready.eq(go & last),
            group.row.eq(row),
            group.layer.eq(beat.layer),
            group.vector_end.eq(beat.vector_end & last),
            self.raw.payload.eq(group),
            self.raw.valid.eq(self.beats.valid & layer.data.raw),
        ]
        with m.If(~inside):
            m.d.comb += group.row.eq(layer.data.row_base)
        for word in range(self._words):
            sums = Value.cast(beat.sums[word])
            width = config.requantisers * config.sum_bits
            choices = [sums.word_select(i, width) for i in range(per_beat)]
            m.d.comb += Value.cast(group.sums[word]).eq(Array(choices)[number])
        with m.If(go):
            m.d.sync += [
                inside.eq(~group.vector_end),
                row.eq(group.row + 1),
                number.eq(number + 1),
            ]
            with m.If(last):
                m.d.sync += number.eq(0)

        m.d.sync += [
            self.group_valid.eq(go & ~layer.data.raw),
            self.group.eq(group),
        ]
        with m.If(go & ~inside & ~layer.data.raw):
            m.d.comb += self.reserve.eq(layer.data.vector_rows + 1)
        return m
