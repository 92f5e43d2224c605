"""Runs the layers of a program: one entry of every lane's lists a cycle."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw import abi
from trencadis_hw.array import step_layout
from trencadis_hw.config import EngineConfig
from trencadis_hw.lane import Lane, address_bits, issue_layout, lookup_layout
from trencadis_hw.layouts import layout_of
from trencadis_hw.load import LoadInterface, LoadSignature, add_load_port
from trencadis_hw.streams import delay
from trencadis_hw.tokens import level_of, levels_layout

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """The nested loops of a layer, and the order of layers and words.

    For every word group, the program's layers run in order; a layer may lag behind by some word
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
        No more words will arrive, but those that already have a buffer reserved.
    idle : Out(1)
        No run is under way: all words that arrived were issued.
    full, reserved, next_reserved : In
        State of the engine's maps and of the next engine's, as `MapTokens` has it.
    reserve, next_reserve, take, release : Out(MAP_COUNT)
        To `MapTokens`.
    ended : In(1)
        All lanes' lists have ended, `Lane.latency` cycles after the issue.
    queue_taken : In(1)
        A beat has left the queue behind the array.
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
                "full": In(abi.MAP_COUNT),
                "reserved": In(levels_layout()),
                "next_reserved": In(levels_layout()),
                "reserve": Out(abi.MAP_COUNT),
                "next_reserve": Out(abi.MAP_COUNT),
                "take": Out(abi.MAP_COUNT),
                "release": Out(abi.MAP_COUNT),
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
        config, load = self._config, self.load

        program = Signal(layout_of(abi.PROGRAM), reset_less=True)
        with m.If(load.enable & (load.target == abi.Target.PROGRAM)):
            m.d.sync += program.eq(load.data)
        m.submodules.layers = layers = memory.Memory(
            shape=layout_of(abi.SEQUENCE),
            depth=config.layers,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        add_load_port(m, layers, load, abi.Target.SEQUENCE)
        number = Signal(range(config.layers))
        read = layers.read_port(domain="comb")
        m.d.comb += read.addr.eq(number)
        layer = Signal(layout_of(abi.SEQUENCE), reset_less=True)

        # Loops of the layer.
        names = ("elem_x", "elem_y", "pass", "pos_x", "pos_y")
        ends = (layer.pool_w, layer.pool_h, layer.passes, layer.out_w, layer.out_h)
        counts = {name: Signal(10, name=f"count_{name}") for name in names}
        at_end = {name: Signal(name=f"at_end_{name}") for name in names}
        for name, end in zip(names, ends, strict=True):
            m.d.comb += at_end[name].eq(counts[name] == end)
        bits = address_bits(config)
        element, element_row, position, position_row = (
            Signal(bits, name=name)
            for name in ("element", "element_row", "position", "position_row")
        )
        pass_row = Signal(range(config.weight_rows))

        # The walk within a step.
        entry, slot = Signal(10), Signal(6)
        entry_address = Signal(bits)
        slot_row = Signal(range(config.weight_rows))
        elapsed = Signal(12)
        issued_all = Signal()
        walk = Signal(3)
        stopped = Signal()

        running, issuing = Signal(), Signal()
        walk_end, last_issue = Signal(), Signal()
        pool_last = at_end["elem_x"] & at_end["elem_y"]
        credit = Signal(range(config.queue_beats + 1), init=config.queue_beats)
        starved = Signal()
        due = Signal()
        step_end, layer_end = Signal(), Signal()
        stop = stopped
        if config.list_entries:
            # All lanes' lists have ended at an entry of this very walk.
            asked = Cat(issuing & layer.dynamic, walk)
            answered = delay(m, asked, Lane.latency + 2, name="walk")
            all_ended = Signal()
            m.d.sync += all_ended.eq(self.ended)
            stop = stopped | (all_ended & answered[0] & (answered[1:] == walk))
        m.d.comb += [
            walk_end.eq((entry == layer.entries) | (layer.dynamic & stop & (entry >= layer.least))),
            last_issue.eq(walk_end & (slot == layer.slots)),
            starved.eq(last_issue & pool_last & (credit <= layer.beats)),
            issuing.eq(running & ~issued_all & ~starved),
            due.eq(elapsed >= layer.interval),
            step_end.eq(running & due & (issued_all | (issuing & last_issue))),
            layer_end.eq(step_end & pool_last & at_end["pass"] & at_end["pos_x"] & at_end["pos_y"]),
        ]
        spent = Mux(issuing & last_issue & pool_last, layer.beats + 1, 0)
        m.d.sync += credit.eq(credit - spent + self.queue_taken)
        with m.If(stop):
            m.d.sync += stopped.eq(1)
        with m.If(running & ~due):
            m.d.sync += elapsed.eq(elapsed + 1)
        with m.If(issuing):
            m.d.sync += [entry.eq(entry + 1), entry_address.eq(entry_address + layer.entry_step)]
            with m.If(walk_end):
                m.d.sync += [
                    entry.eq(0),
                    entry_address.eq(element),
                    slot.eq(slot + 1),
                    slot_row.eq(slot_row + layer.slot_rows),
                    walk.eq(walk + 1),
                    stopped.eq(0),
                ]
            with m.If(last_issue):
                m.d.sync += issued_all.eq(1)

        # The next step: the innermost loop that is not at its end goes on, those inside restart.
        with m.If(step_end):
            m.d.sync += [elapsed.eq(0), issued_all.eq(0), entry.eq(0), slot.eq(0)]
            inner: list[str] = []
            next_element = Signal(bits)
            next_pass_row = Signal(range(config.weight_rows))
            m.d.comb += next_pass_row.eq(pass_row)
            for i, name in enumerate(names):
                with m.If(~at_end[name]) if i == 0 else m.Elif(~at_end[name]):
                    m.d.sync += [counts[other].eq(0) for other in inner]
                    m.d.sync += counts[name].eq(counts[name] + 1)
                    if name == "elem_x":
                        m.d.comb += next_element.eq(element + layer.elem_x)
                    elif name == "elem_y":
                        m.d.comb += next_element.eq(element_row + layer.elem_y)
                        m.d.sync += element_row.eq(next_element)
                    elif name == "pass":
                        m.d.comb += [
                            next_element.eq(position),
                            next_pass_row.eq(pass_row + layer.pass_rows),
                        ]
                        m.d.sync += element_row.eq(next_element)
                    elif name == "pos_x":
                        m.d.comb += [
                            next_element.eq(position + layer.pos_x),
                            next_pass_row.eq(layer.weight_base),
                        ]
                        m.d.sync += [element_row.eq(next_element), position.eq(next_element)]
                    else:
                        m.d.comb += [
                            next_element.eq(position_row + layer.pos_y),
                            next_pass_row.eq(layer.weight_base),
                        ]
                        m.d.sync += [
                            element_row.eq(next_element),
                            position.eq(next_element),
                            position_row.eq(next_element),
                        ]
                inner.append(name)
            m.d.sync += [
                element.eq(next_element),
                entry_address.eq(next_element),
                pass_row.eq(next_pass_row),
                slot_row.eq(next_pass_row),
            ]

        # The order of layers and word groups. A bit of `groups` tells whether the group that is
        # that much older than the newest exists.
        groups = Signal(1 << len(layer.delay))
        parity = Signal(abi.MAP_COUNT)
        waited = Signal(8)
        syncing, second_bank = Signal(), Signal()
        own = layer.destination == abi.Destination.SELF
        to_next = layer.destination == abi.Destination.NEXT
        may_write = (
            (layer.destination == abi.Destination.HOST)
            | (own & (level_of(self.reserved, layer.out_map) < layer.out_buffers))
            | (to_next & (level_of(self.next_reserved, layer.out_map) < layer.out_buffers))
        )
        released = Signal(abi.MAP_COUNT)

        def go_on() -> None:
            m.d.sync += number.eq(number + 1)
            m.next = "fetch"
            with m.If(number + 1 == program.layers):
                m.d.sync += number.eq(0)
                m.next = "group"

        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.start):
                    m.next = "synchronise"
            with m.State("synchronise"):
                # Drain both banks and forget the sums: whatever an aborted run has left in the
                # accumulators becomes the total that the first differences are taken to.
                m.d.comb += syncing.eq(waited == 0)
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
                m.d.sync += layer.eq(read.data)
                m.next = "wait"
            with m.State("wait"):
                base = layer.address + Mux(parity.bit_select(layer.in_map, 1), layer.in_step, 0)
                m.d.sync += [
                    *(count.eq(0) for count in counts.values()),
                    *(
                        address.eq(base)
                        for address in (element, element_row, position, position_row, entry_address)
                    ),
                    pass_row.eq(layer.weight_base),
                    slot_row.eq(layer.weight_base),
                    waited.eq(0),
                ]
                with m.If(~groups.bit_select(layer.delay, 1)):
                    go_on()
                with m.Elif(self.full.bit_select(layer.in_map, 1) & may_write):
                    m.d.comb += [
                        self.reserve.bit_select(layer.out_map, 1).eq(own),
                        self.next_reserve.bit_select(layer.out_map, 1).eq(to_next),
                    ]
                    m.next = "run"
            with m.State("run"):
                m.d.comb += running.eq(1)
                with m.If(layer_end):
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

        # A map is taken when its last entry has been asked for: nobody must find it full once more.
        # It is free when that entry has been read.
        m.d.comb += self.take.eq(released)
        for i in range(1 + Lane.latency):
            held = Signal(abi.MAP_COUNT, name=f"released_{i + 1}")
            m.d.sync += held.eq(released)
            released = held
        m.d.comb += self.release.eq(released)

        # Which of its two windows a paired step is at; the only one is its first and its last.
        at_first, at_second, split = Signal(), Signal(), Signal()
        m.d.comb += [at_first.eq(1), at_second.eq(1)]
        if config.routing == "split-trees":
            middle = layer.slots[1:]
            with m.If(layer.paired):
                m.d.comb += [
                    at_first.eq(slot <= middle),
                    at_second.eq(slot > middle),
                    split.eq(issuing & (slot == middle)),
                ]

        lookup = Signal(lookup_layout(config))
        m.d.comb += [
            lookup.dense.eq(layer.dense),
            lookup.index.eq(entry),
            lookup.weight_row.eq(slot_row),
            lookup.walk_first.eq(entry == 0),
            lookup.dynamic.eq(layer.dynamic),
            Value.cast(self.lookup).eq(
                delay(m, Value.cast(lookup), 1 + Lane.lookup_latency, name="lookup")
            ),
        ]
        m.d.sync += [
            self.issue.valid.eq(issuing),
            self.issue.address.eq(entry_address),
            self.issue.slot.eq(layer.slot_base + slot),
            self.step.first.eq(issuing & (entry == 0) & (slot == 0)),
            self.step.last.eq((issuing & last_issue) | split | syncing),
            self.step.split.eq(split),
            self.step.layer.eq(number),
            self.step.pool_first.eq((counts["elem_x"] == 0) & (counts["elem_y"] == 0) & at_first),
            self.step.pool_last.eq(pool_last & at_second),
            self.step.vector_end.eq(pool_last & at_second & at_end["pass"]),
            self.step.beats.eq(Mux(syncing, config.beats - 1, layer.beats)),
            self.step.combine.eq(layer.combine),
            self.step.discard.eq(syncing),
        ]
        return m
