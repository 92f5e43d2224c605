"""Run the layers of a program: one entry of every lane's lists per cycle."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.widths import MAP_COUNT
from trencadis_hw.array.array import step_layout
from trencadis_hw.array.lane import Lane, issue_layout, lookup_layout
from trencadis_hw.control.program import ProgramOrder
from trencadis_hw.control.tokens import levels_layout
from trencadis_hw.control.walk import Walk
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.streams import delay

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """The nested loops of a layer, and the order of layers and samples.

    For every sample group, the program's layers run in order; a layer may lag behind by some sample
    groups, so that it works on an older one while a newer one's activations are still on their
    way. A layer waits until its input map is full and its output map may be written.

    Inside a layer, from the outside in: pooled rows, pooled columns, passes, rows and columns of
    the pooling window; each of these is a *step*, which walks the lists of all slots. A step takes
    `interval` cycles or as many as it has entries, whichever is more. From the last cycle of a
    layer to the first of the next, if that need not wait: 3 cycles and the layer's tail.

    With `split-trees`, the steps of a paired layer are two windows of the pooling window: the first
    one's sums end with the middle slot, the second one's with the last.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    load_bits : int
        Width of the load bus.

    Members
    -------
    start : In(1)
        Begin a run. The accumulators are synchronised first.
    input_ended : In(1)
        No more samples will arrive, but those that already have a buffer reserved.
    idle : Out(1)
        No run is under way: all samples that arrived were issued.
    full, reserved, next_reserved : In
        State of the engine's maps and of the next engine's, as `MapTokens` has it.
    reserve, next_reserve, take, release : Out(MAP_COUNT)
        To `MapTokens`.
    ended : In(1)
        All lanes' lists have ended, `Lane.latency` cycles after the issue.
    queue_taken : In(1)
        A beat has left the queue after the array.
    issue, lookup : Out(issue_layout), Out(lookup_layout)
        To the lanes; `lookup` follows the issue by `Lane.lookup_latency` cycles.
    step : Out(step_layout)
        What the issue is part of.
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
    ended: Signal
    queue_taken: Signal
    issue: data.View
    lookup: data.View
    step: data.View
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
                "ended": In(1),
                "queue_taken": In(1),
                "issue": Out(issue_layout(config)),
                "lookup": Out(lookup_layout(config)),
                "step": Out(step_layout()),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.order = order = ProgramOrder(config, load_bits=len(self.load.data))
        m.submodules.walk = walk = Walk(config)
        wiring.connect(m, wiring.flipped(self.load), order.load)
        layer = order.layer
        m.d.comb += [
            order.start.eq(self.start),
            order.input_ended.eq(self.input_ended),
            order.full.eq(self.full),
            order.reserved.eq(self.reserved),
            order.next_reserved.eq(self.next_reserved),
            order.layer_end.eq(walk.layer_end),
            self.idle.eq(order.idle),
            self.reserve.eq(order.reserve),
            self.next_reserve.eq(order.next_reserve),
            self.take.eq(order.take),
            self.release.eq(order.release),
            walk.layer.eq(layer),
            walk.base.eq(order.base),
            walk.begin.eq(order.begin),
            walk.running.eq(order.running),
            walk.ended.eq(self.ended),
            walk.queue_taken.eq(self.queue_taken),
        ]

        # Which of its two windows a paired step is at; the only one is its first and its last.
        at_first, at_second, split = Signal(), Signal(), Signal()
        m.d.comb += [at_first.eq(1), at_second.eq(1)]
        if config.routing == "split-trees":
            middle = layer.slots[1:]
            with m.If(layer.paired):
                m.d.comb += [
                    at_first.eq(walk.slot <= middle),
                    at_second.eq(walk.slot > middle),
                    split.eq(walk.issuing & (walk.slot == middle)),
                ]

        lookup = Signal(lookup_layout(config))
        m.d.comb += [
            lookup.dense.eq(layer.dense),
            lookup.index.eq(walk.entry),
            lookup.weight_row.eq(walk.weight_row),
            lookup.walk_first.eq(walk.entry == 0),
            lookup.dynamic.eq(layer.dynamic),
            Value.cast(self.lookup).eq(
                delay(m, Value.cast(lookup), 1 + Lane.lookup_latency, name="lookup")
            ),
        ]
        window_end = walk.pool_last & at_second
        m.d.sync += [
            self.issue.valid.eq(walk.issuing),
            self.issue.address.eq(walk.entry_address),
            self.issue.slot.eq(layer.slot_base + walk.slot),
            self.step.first.eq(walk.issuing & (walk.entry == 0) & (walk.slot == 0)),
            self.step.last.eq((walk.issuing & walk.last_issue) | split | order.syncing),
            self.step.split.eq(split),
            self.step.layer.eq(order.number),
            self.step.pool_first.eq(walk.pool_first & at_first),
            self.step.pool_last.eq(window_end),
            self.step.vector_end.eq(window_end & walk.pass_last),
            self.step.beats.eq(Mux(order.syncing, config.beats - 1, layer.beats)),
            self.step.combine.eq(layer.combine),
            self.step.discard.eq(order.syncing),
        ]
        return m
