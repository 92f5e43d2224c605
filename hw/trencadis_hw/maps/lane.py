"""A lane of a map engine: its values of every row, without those that are zero."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.map_config import BANKS, MapConfig
from trencadis_format.map_tables import MAP_LAYER
from trencadis_format.widths import KEY_BITS, VALUE_BITS
from trencadis_hw.interface.streams import Queue

__all__ = ["QUEUE_MARGIN", "MapLane"]

QUEUE_MARGIN = 8
"""Rows that a queue keeps free for those that are on their way when it says that it is full."""


class MapLane(wiring.Component):
    """Gives the non-zero values of a lane, one per cycle and weight row.

    A row without any is left out, unless it is the last of its step: then it takes a cycle. A lane
    stops when it has completed as many steps as there are accumulator banks and none was drained.

    Latency from a row to its first value: 2 cycles.

    Parameters
    ----------
    config : MapConfig
        The engine.

    Members
    -------
    valid : In(1)
        There is a row.
    keys : In(array of KEY_BITS)
        The lane's keys of it.
    masked, last : In(1)
        The row is padding; it is the last of its step.
    weight : In
        Weight row of the first key.
    zero, depth : In
        Key of the value zero, and weight rows of a value less one.
    room : Out(1)
        More rows may be issued.
    drained : In(1)
        The oldest completed step was drained.
    completed : Out(1)
        The value of this cycle is the last of a step, or the step has none left.
    weight_row, value, bank : Out
        A value, 0 if there is none, its weight row, and the accumulator bank it belongs to; a
        cycle after `completed`.
    """

    valid: Signal
    keys: data.View
    masked: Signal
    last: Signal
    weight: Signal
    zero: Signal
    depth: Signal
    room: Signal
    drained: Signal
    completed: Signal
    weight_row: Signal
    value: Signal
    bank: Signal

    def __init__(self, config: MapConfig) -> None:
        self._config = config
        super().__init__(
            {
                "valid": In(1),
                "keys": In(data.ArrayLayout(KEY_BITS, config.lane_values)),
                "masked": In(1),
                "last": In(1),
                "weight": In(MAP_LAYER["weight_base"].bits),
                "zero": In(KEY_BITS),
                "depth": In(MAP_LAYER["depth"].bits),
                "room": Out(1),
                "drained": In(1),
                "completed": Out(1),
                "weight_row": Out(range(config.weight_rows)),
                "value": Out(signed(VALUE_BITS)),
                "bank": Out(range(BANKS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        entry = data.StructLayout(
            {
                "values": data.ArrayLayout(signed(VALUE_BITS), config.lane_values),
                "present": config.lane_values,
                "weight": len(self.weight),
                "last": 1,
            }
        )
        m.submodules.queue = queue = Queue(entry, config.queue_rows)
        present = Cat(
            self.keys[i] != self.zero for i in range(config.lane_values)
        ) & ~self.masked.replicate(config.lane_values)
        pushed = Signal(entry, reset_less=True)
        push = Signal()
        m.d.sync += [
            push.eq(self.valid & (present.any() | self.last)),
            pushed.present.eq(present),
            pushed.weight.eq(self.weight),
            pushed.last.eq(self.last),
            *(pushed.values[i].eq(self.keys[i] - self.zero) for i in range(config.lane_values)),
            self.room.eq(queue.level <= config.queue_rows - QUEUE_MARGIN),
        ]
        m.d.comb += [queue.i.payload.eq(pushed), queue.i.valid.eq(push)]
        self._take(m, queue)
        return m

    def _take(self, m: Module, queue: Queue) -> None:
        """Values of the queue's first row, one after the other, each with all its weight rows."""
        config = self._config
        row = queue.o.payload
        taken = Signal(config.lane_values)
        count = Signal.like(self.depth)
        ahead = Signal(range(BANKS + 1))
        bank = Signal(range(BANKS))
        pending, left = Signal(config.lane_values), Signal(config.lane_values)
        value_end, active, emit = Signal(), Signal(), Signal()
        value = Signal(signed(VALUE_BITS))
        offset = Signal(range(config.weight_rows))
        m.d.comb += [
            pending.eq(row.present & ~taken),
            left.eq(pending & (pending - 1)),
            value_end.eq(count == self.depth),
            active.eq(queue.o.valid & (ahead != BANKS)),
            emit.eq(active & pending.any()),
            queue.o.ready.eq(active & ((value_end & (left == 0)) | (pending == 0))),
            self.completed.eq(queue.o.ready & row.last),
        ]
        for i in reversed(range(config.lane_values)):
            with m.If(pending[i]):
                m.d.comb += value.eq(row.values[i])
        # The lowest one pending: those below it are taken or absent.
        lowest: Value = pending & ~left
        place = sum(
            (Mux(lowest[i], i, 0) for i in range(1, config.lane_values)), start=Value.cast(0)
        )
        m.d.comb += offset.eq(place * (self.depth + 1) + count)
        with m.If(emit):
            m.d.sync += count.eq(count + 1)
            with m.If(value_end):
                m.d.sync += [count.eq(0), taken.eq(taken | lowest)]
        with m.If(queue.o.ready):
            m.d.sync += taken.eq(0)
        m.d.sync += [
            self.value.eq(Mux(emit, value, 0)),
            self.weight_row.eq(row.weight + offset),
            self.bank.eq(bank),
            ahead.eq(ahead + self.completed - self.drained),
            bank.eq(bank + self.completed),
        ]
