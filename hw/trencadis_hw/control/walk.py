"""The walk through a layer: one entry of every lane's lists per cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.layer_tables import SEQUENCE
from trencadis_format.timing import ENDED_DELAY
from trencadis_hw.array.lane import address_bits
from trencadis_hw.control.loops import Loops
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.streams import delay

__all__ = ["Walk"]

WALK_BITS = 3
"""Width of the number that tells walks apart while an answer about their ends is under way."""


class Walk(wiring.Component):
    """Walk the lists of all slots, step after step, until the layer ends.

    A step takes `interval` cycles or as many as it has entries, whichever is more. The last entry
    of a pooling window waits until the queue after the array has room for the window's beats.

    Parameters
    ----------
    config : EngineConfig
        The engine.

    Members
    -------
    layer : In(SEQUENCE)
        The layer.
    base : In
        Address of its first window.
    begin : In(1)
        The layer begins in a later cycle.
    running : In(1)
        The layer runs.
    ended : In(1)
        All lanes' lists have ended, `Lane.latency` cycles after the issue.
    queue_taken : In(1)
        A beat has left the queue after the array.
    issuing : Out(1)
        There is an entry.
    last_issue : Out(1)
        It is the step's last, if there is one.
    layer_end : Out(1)
        The layer's last cycle.
    entry, slot : Out
        Numbers of the entry in its list, and of the slot.
    entry_address, weight_row : Out
        Address of the entry; weight row of channel 0.
    pool_first, pool_last, pass_last : Out(1)
        As in `Loops`.
    """

    layer: data.View
    base: Signal
    begin: Signal
    running: Signal
    ended: Signal
    queue_taken: Signal
    issuing: Signal
    last_issue: Signal
    layer_end: Signal
    entry: Signal
    slot: Signal
    entry_address: Signal
    weight_row: Signal
    pool_first: Signal
    pool_last: Signal
    pass_last: Signal

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        super().__init__(
            {
                "layer": In(layout_of(SEQUENCE)),
                "base": In(address_bits(config)),
                "begin": In(1),
                "running": In(1),
                "ended": In(1),
                "queue_taken": In(1),
                "issuing": Out(1),
                "last_issue": Out(1),
                "layer_end": Out(1),
                "entry": Out(SEQUENCE["entries"].bits),
                "slot": Out(SEQUENCE["slots"].bits),
                "entry_address": Out(address_bits(config)),
                "weight_row": Out(range(config.weight_rows)),
                "pool_first": Out(1),
                "pool_last": Out(1),
                "pass_last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer = self.layer
        m.submodules.loops = loops = Loops(self._config)
        elapsed = Signal(SEQUENCE["interval"].bits)
        issued_all, stopped = Signal(), Signal()
        walk = Signal(WALK_BITS)
        walk_end, due, step_end = Signal(), Signal(), Signal()
        stop = self._stop(m, walk, stopped)
        m.d.comb += [
            loops.layer.eq(layer),
            loops.base.eq(self.base),
            loops.begin.eq(self.begin),
            loops.advance.eq(step_end),
            self.pool_first.eq(loops.pool_first),
            self.pool_last.eq(loops.pool_last),
            self.pass_last.eq(loops.pass_last),
            walk_end.eq(
                (self.entry == layer.entries) | (layer.dynamic & stop & (self.entry >= layer.least))
            ),
            self.last_issue.eq(walk_end & (self.slot == layer.slots)),
            self.issuing.eq(self.running & ~issued_all & ~self._starved(m, loops.pool_last)),
            due.eq(elapsed >= layer.interval),
            step_end.eq(self.running & due & (issued_all | (self.issuing & self.last_issue))),
            self.layer_end.eq(step_end & loops.layer_last),
        ]
        with m.If(stop):
            m.d.sync += stopped.eq(1)
        with m.If(self.running & ~due):
            m.d.sync += elapsed.eq(elapsed + 1)
        with m.If(self.issuing):
            m.d.sync += [
                self.entry.eq(self.entry + 1),
                self.entry_address.eq(self.entry_address + layer.entry_step),
            ]
            with m.If(walk_end):
                m.d.sync += [
                    self.entry.eq(0),
                    self.entry_address.eq(loops.address),
                    self.slot.eq(self.slot + 1),
                    self.weight_row.eq(self.weight_row + layer.slot_rows),
                    walk.eq(walk + 1),
                    stopped.eq(0),
                ]
            with m.If(self.last_issue):
                m.d.sync += issued_all.eq(1)
        with m.If(step_end):
            m.d.sync += [
                elapsed.eq(0),
                issued_all.eq(0),
                self.entry.eq(0),
                self.slot.eq(0),
                self.entry_address.eq(loops.next_address),
                self.weight_row.eq(loops.next_weight_row),
            ]
        with m.If(self.begin):
            m.d.sync += [
                self.entry_address.eq(self.base),
                self.weight_row.eq(layer.weight_base),
            ]
        return m

    def _stop(self, m: Module, walk: Signal, stopped: Signal) -> Value:
        """Tell whether all lanes' lists have ended at an entry of this very walk."""
        if not self._config.list_entries:
            return stopped
        asked = Cat(self.issuing & self.layer.dynamic, walk)
        answered = delay(m, asked, ENDED_DELAY, name="walk")
        all_ended = Signal()
        m.d.sync += all_ended.eq(self.ended)
        return stopped | (all_ended & answered[0] & (answered[1:] == walk))

    def _starved(self, m: Module, pool_last: Signal) -> Signal:
        """Count the places in the queue; tell whether the last issue has to wait for some."""
        depth = self._config.queue_beats
        credit = Signal(range(depth + 1), init=depth)
        starved = Signal()
        at_last = self.last_issue & pool_last
        spent = Mux(self.issuing & at_last, self.layer.beats + 1, 0)
        m.d.comb += starved.eq(at_last & (credit <= self.layer.beats))
        m.d.sync += credit.eq(credit - spent + self.queue_taken)
        return starved
