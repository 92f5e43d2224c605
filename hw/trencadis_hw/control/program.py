"""The order in which the layers of a program run, and the maps that they wait for."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import PROGRAM, SEQUENCE, Destination
from trencadis_format.widths import MAP_COUNT
from trencadis_hw.array.lane import Lane, address_bits
from trencadis_hw.control.tokens import level_of, levels_layout
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable

__all__ = ["ProgramOrder"]


class ProgramOrder(wiring.Component):
    """Start the layers of a program in order, once for every sample group.

    A layer may lag behind the newest sample group, so that it works on an older one while a newer
    one's activations are still on their way. A layer waits until its input map is full and its
    output map may be written.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    load_bits : int
        Width of the load bus.

    Members
    -------
    start, input_ended, idle, full, reserved, next_reserved : In, In, Out, In, In, In
        As in `Sequencer`.
    reserve, next_reserve, take, release : Out(MAP_COUNT)
        To `MapTokens`.
    layer_end : In(1)
        The layer's last cycle.
    layer, number : Out
        The layer that begins or runs, and its number.
    begin : Out(1)
        The layer may begin in a later cycle.
    base : Out
        Address of its first window.
    running : Out(1)
        The layer runs.
    syncing : Out(1)
        A bank of accumulators is to be drained, and the sums forgotten.
    load : In(LoadSignature)
        Image rows.
    """

    start: Signal
    input_ended: Signal
    idle: Signal
    full: Signal
    reserved: data.View
    next_reserved: data.View
    reserve: Signal
    next_reserve: Signal
    take: Signal
    release: Signal
    layer_end: Signal
    layer: data.View
    number: Signal
    begin: Signal
    base: Signal
    running: Signal
    syncing: Signal
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, load_bits: int) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "input_ended": In(1),
                "idle": Out(1),
                "full": In(MAP_COUNT),
                "reserved": In(levels_layout()),
                "next_reserved": In(levels_layout()),
                "reserve": Out(MAP_COUNT),
                "next_reserve": Out(MAP_COUNT),
                "take": Out(MAP_COUNT),
                "release": Out(MAP_COUNT),
                "layer_end": In(1),
                "layer": Out(layout_of(SEQUENCE)),
                "number": Out(range(config.layers)),
                "begin": Out(1),
                "base": Out(address_bits(config)),
                "running": Out(1),
                "syncing": Out(1),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, load = self._config, self.load
        program = Signal(layout_of(PROGRAM), reset_less=True)
        with m.If(load.enable & (load.target == Target.PROGRAM)):
            m.d.sync += program.eq(load.data)
        m.submodules.layers = layers = LoadedTable(
            SEQUENCE, Target.SEQUENCE, depth=config.layers, load_bits=len(load.data)
        )
        wiring.connect(m, wiring.flipped(load), layers.load)
        m.d.comb += layers.address[0].eq(self.number)
        layer = Signal(layout_of(SEQUENCE), reset_less=True)

        # A bit of `groups` tells whether the group that is that much older than the newest exists.
        groups = Signal(1 << SEQUENCE["delay"].bits)
        parity = Signal(MAP_COUNT)
        waited = Signal(SEQUENCE["tail"].bits)
        second_bank = Signal()
        own = layer.destination == Destination.SELF
        to_next = layer.destination == Destination.NEXT
        may_write = (
            (layer.destination == Destination.HOST)
            | (own & (level_of(self.reserved, layer.out_map) < layer.out_buffers))
            | (to_next & (level_of(self.next_reserved, layer.out_map) < layer.out_buffers))
        )
        released = Signal(MAP_COUNT)
        m.d.comb += [
            self.layer.eq(layer),
            self.base.eq(layer.address + Mux(parity.bit_select(layer.in_map, 1), layer.in_step, 0)),
        ]

        def go_on() -> None:
            m.d.sync += self.number.eq(self.number + 1)
            m.next = "fetch"
            with m.If(self.number + 1 == program.layers):
                m.d.sync += self.number.eq(0)
                m.next = "group"

        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.start):
                    m.next = "synchronise"
            with m.State("synchronise"):
                # Drain both banks and forget the sums: whatever an aborted run has left in the
                # accumulators becomes the total that the first differences are taken to.
                m.d.comb += self.syncing.eq(waited == 0)
                m.d.sync += waited.eq(waited + 1)
                with m.If(waited == config.beats):
                    m.d.sync += [waited.eq(0), second_bank.eq(1)]
                    with m.If(second_bank):
                        m.next = "group"
            with m.State("group"):
                arrived = self.full.bit_select(program.in_map, 1)
                older = [(groups[:depth]).any() for depth in range(len(groups))]
                none_coming = self.input_ended & (level_of(self.reserved, program.in_map) == 0)
                with m.If(arrived | none_coming):
                    m.d.sync += groups.eq(Cat(arrived, groups))
                    m.next = "fetch"
                    with m.If(~arrived & ~Array(older)[program.depth]):
                        m.next = "idle"
            with m.State("fetch"):
                m.d.sync += layer.eq(layers.row[0])
                m.next = "wait"
            with m.State("wait"):
                m.d.comb += self.begin.eq(1)
                m.d.sync += waited.eq(0)
                with m.If(~groups.bit_select(layer.delay, 1)):
                    go_on()
                with m.Elif(self.full.bit_select(layer.in_map, 1) & may_write):
                    m.d.comb += [
                        self.reserve.bit_select(layer.out_map, 1).eq(own),
                        self.next_reserve.bit_select(layer.out_map, 1).eq(to_next),
                    ]
                    m.next = "run"
            with m.State("run"):
                m.d.comb += self.running.eq(1)
                with m.If(self.layer_end):
                    m.d.comb += released.bit_select(layer.in_map, 1).eq(1)
                    m.d.sync += parity.bit_select(layer.in_map, 1).eq(
                        parity.bit_select(layer.in_map, 1) ^ (layer.in_buffers == 2)
                    )
                    m.next = "tail"
                    with m.If(layer.tail == 0):
                        go_on()
            with m.State("tail"):
                m.d.sync += waited.eq(waited + 1)
                with m.If(waited + 1 == layer.tail):
                    go_on()
        self._release(m, released)
        return m

    def _release(self, m: Module, released: Value) -> None:
        """Take a map when its last entry has been asked for; free it when that has been read.

        Nobody must find a map full once more whose entries have all been asked for.
        """
        m.d.comb += self.take.eq(released)
        for i in range(1 + Lane.latency):
            held = Signal(MAP_COUNT, name=f"released_{i + 1}")
            m.d.sync += held.eq(released)
            released = held
        m.d.comb += self.release.eq(released)
