"""The walk over a layer's windows: which rows of the map memory are read, in what order."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.map_tables import MAP_LAYER
from trencadis_hw.interface.layouts import layout_of

__all__ = ["Walk", "issue_layout"]

ADDRESS_BITS = MAP_LAYER["origin"].bits
PLACE_BITS = 16
"""Width of a signed row or column of positions: beyond the largest map and its padding."""


def issue_layout() -> data.StructLayout:
    """A row to read, and what it is.

    `second`: of the second map. `masked`: a position in the padding; nothing is read. `first`,
    `last`: the first, the last of a step. `weight`: weight row of a lane's first value of it.
    """
    return data.StructLayout(
        {
            "address": ADDRESS_BITS,
            "second": 1,
            "masked": 1,
            "first": 1,
            "last": 1,
            "weight": MAP_LAYER["weight_base"].bits,
        }
    )


class Walk(wiring.Component):
    """Issues a layer's rows, one per cycle.

    Loops from the outside: row and column of the output, pass, row and column of the window, row of
    channels. A step is a pass over a window; the rows of the second map that its sums meet are
    issued before it. A position in the padding takes one cycle.

    Members
    -------
    layer : In(MAP_LAYER)
        The layer; constant while it is walked.
    start : In(1)
        Begin with the next cycle.
    room, second_room : In(1)
        A row, or one of the second map, may be issued.
    busy : Out(1)
        The walk has not ended.
    valid : Out(1)
        There is an issue.
    issue : Out(issue_layout)
        The issue.
    """

    layer: data.View
    start: Signal
    room: Signal
    second_room: Signal
    busy: Signal
    valid: Signal
    issue: data.View

    def __init__(self) -> None:
        super().__init__(
            {
                "layer": In(layout_of(MAP_LAYER)),
                "start": In(1),
                "room": In(1),
                "second_room": In(1),
                "busy": Out(1),
                "valid": Out(1),
                "issue": Out(issue_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer = self.layer
        slot, step = Signal(), Signal()
        row = Signal.like(layer.rows)
        adding = Signal()
        inside, slot_first, slot_last = Signal(), Signal(), Signal()
        address, weight = Signal(ADDRESS_BITS), Signal.like(layer.weight_base)
        position_end, line_end = Signal(), Signal()
        self._steps(m, slot, step, address, position_end, line_end)
        ends = (step & position_end, step & position_end & line_end)
        self._window(m, slot, step, ends, inside, slot_first, slot_last)
        second_address = self._second(m, adding, step, position_end)

        reading = Signal()
        row_last = ~inside | (row == layer.rows)
        m.d.comb += [
            reading.eq(self.busy & ~adding & self.room),
            slot.eq(reading & row_last),
            step.eq(slot & slot_last),
        ]
        with m.If(self.start):
            m.d.sync += weight.eq(layer.weight_base)
        with m.Elif(step & position_end):
            m.d.sync += weight.eq(layer.weight_base)
        with m.Elif(reading):
            m.d.sync += weight.eq(weight + Mux(inside, layer.row_weights, layer.slot_weights))
        with m.If(self.start):
            m.d.sync += row.eq(0)
        with m.Elif(reading):
            m.d.sync += row.eq(Mux(row_last, 0, row + 1))

        taken = self.busy & adding & self.second_room
        m.d.sync += [
            self.valid.eq(reading | taken),
            self.issue.address.eq(Mux(adding, second_address, address + row)),
            self.issue.second.eq(adding),
            self.issue.masked.eq(~inside),
            self.issue.first.eq(slot_first & (row == 0)),
            self.issue.last.eq(slot_last & row_last),
            self.issue.weight.eq(weight),
        ]
        return m

    def _steps(
        self,
        m: Module,
        slot: Signal,
        step: Signal,
        address: Signal,
        position_end: Signal,
        line_end: Signal,
    ) -> None:
        """Count passes and output positions, and keep the address of what is read."""
        layer = self.layer
        pass_, column, row = (
            Signal.like(field, name=name)
            for name, field in (
                ("pass", layer.passes),
                ("column", layer.out_w),
                ("row", layer.out_h),
            )
        )
        line, window, passed = (
            Signal(ADDRESS_BITS, name=name) for name in ("line", "window", "passed")
        )
        # Where the window is after this step.
        after = Signal(ADDRESS_BITS)
        slot_column, slot_line = Signal.like(layer.kernel_w), Signal(ADDRESS_BITS)
        pass_last, column_last = position_end, line_end
        m.d.comb += [pass_last.eq(pass_ == layer.passes), column_last.eq(column == layer.out_w)]
        with m.If(~pass_last):
            m.d.comb += after.eq(passed + layer.pass_step)
        with m.Elif(~column_last):
            m.d.comb += after.eq(window + layer.x_step)
        with m.Else():
            m.d.comb += after.eq(line + layer.y_step)
        with m.If(self.start):
            m.d.sync += [pass_.eq(0), column.eq(0), row.eq(0), self.busy.eq(1), slot_column.eq(0)]
            m.d.sync += [one.eq(layer.origin) for one in (line, window, passed, slot_line, address)]
        with m.Elif(step):
            m.d.sync += [passed.eq(after), slot_line.eq(after), address.eq(after)]
            m.d.sync += [slot_column.eq(0), pass_.eq(Mux(pass_last, 0, pass_ + 1))]
            with m.If(pass_last):
                m.d.sync += [window.eq(after), column.eq(Mux(column_last, 0, column + 1))]
                with m.If(column_last):
                    m.d.sync += [line.eq(after), row.eq(row + 1)]
                    with m.If(row == layer.out_h):
                        m.d.sync += self.busy.eq(0)
        with m.Elif(slot):
            with m.If(slot_column == layer.kernel_w):
                m.d.sync += [slot_column.eq(0), slot_line.eq(slot_line + layer.slot_y)]
                m.d.sync += address.eq(slot_line + layer.slot_y)
            with m.Else():
                m.d.sync += [slot_column.eq(slot_column + 1), address.eq(address + layer.slot_x)]

    def _window(
        self,
        m: Module,
        slot: Signal,
        step: Signal,
        ends: tuple[Value, Value],
        inside: Signal,
        slot_first: Signal,
        slot_last: Signal,
    ) -> None:
        """Coordinates of the position that is read, in its window and in the map."""
        layer = self.layer
        firsts, lasts, insides = [], [], []
        moves = {
            # The columns' loop turns in every slot, the rows' when it has ended.
            "x": (layer.kernel_w, layer.dilation_x, layer.stride_x, layer.pad_left, layer.in_w),
            "y": (layer.kernel_h, layer.dilation_y, layer.stride_y, layer.pad_top, layer.in_h),
        }
        position, line = ends
        turn: Value = slot
        for name, (kernel, dilation, stride, pad, size) in moves.items():
            count = Signal.like(kernel, name=f"kernel_{name}")
            place = Signal(signed(PLACE_BITS), name=f"place_{name}")
            begin = Signal(signed(PLACE_BITS), name=f"begin_{name}")
            last = Signal(name=f"last_{name}")
            m.d.comb += last.eq(count == kernel)
            following = Signal(signed(PLACE_BITS), name=f"following_{name}")
            m.d.comb += following.eq(begin)
            if name == "x":
                with m.If(position):
                    m.d.comb += following.eq(Mux(line, 0 - pad, begin + stride))
            else:
                with m.If(line):
                    m.d.comb += following.eq(begin + stride)
            with m.If(self.start):
                m.d.sync += [count.eq(0), place.eq(0 - pad), begin.eq(0 - pad)]
            with m.Elif(step):
                m.d.sync += [count.eq(0), place.eq(following), begin.eq(following)]
            with m.Elif(turn):
                m.d.sync += [
                    count.eq(Mux(last, 0, count + 1)),
                    place.eq(Mux(last, begin, place + dilation)),
                ]
            turn = turn & last
            firsts.append(count == 0)
            lasts.append(last)
            insides.append((place >= 0) & (place <= size))
        m.d.comb += [
            inside.eq(insides[0] & insides[1]),
            slot_first.eq(firsts[0] & firsts[1]),
            slot_last.eq(lasts[0] & lasts[1]),
        ]

    def _second(self, m: Module, adding: Signal, step: Signal, position_end: Signal) -> Signal:
        """The rows of the second map that come before a step; their address."""
        layer = self.layer
        address, origin = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        count = Signal.like(layer.step_rows)
        with m.If(self.start):
            m.d.sync += [
                adding.eq(layer.add),
                count.eq(0),
                address.eq(layer.second_base),
                origin.eq(layer.second_base),
            ]
        with m.Elif(step):
            m.d.sync += adding.eq(layer.add)
            with m.If(position_end):
                m.d.sync += [
                    address.eq(origin + layer.second_step),
                    origin.eq(origin + layer.second_step),
                ]
        with m.Elif(self.busy & adding & self.second_room):
            m.d.sync += [address.eq(address + 1), count.eq(count + 1)]
            with m.If(count == layer.step_rows):
                m.d.sync += [adding.eq(0), count.eq(0)]
        return address
