"""The nested loops of a layer, which choose the window and the weights of each step."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.layer_tables import SEQUENCE
from trencadis_hw.array.lane import address_bits
from trencadis_hw.interface.layouts import layout_of

__all__ = ["Loops"]

ENDS = {
    "elem_x": "pool_w",
    "elem_y": "pool_h",
    "pass": "passes",
    "pos_x": "out_w",
    "pos_y": "out_h",
}
"""Loops, the innermost first, and the field of `SEQUENCE` that each one counts up to."""


class Loops(wiring.Component):
    """Count the steps of a layer, and keep where their windows and weights are.

    From the outside in: pooled rows, pooled columns, passes, rows and columns of the pooling
    window. `next_address` and `next_weight_row` are those of the step that `advance` begins, in the
    same cycle; flags are those of the current step.

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
        The layer begins.
    advance : In(1)
        The next step begins: the innermost loop that is not at its end goes on, those inside
        restart.
    address : Out
        First entry of the step.
    next_address, next_weight_row : Out
        First entry and first weight row of the next step.
    pool_first, pool_last : Out(1)
        The step is the first, the last of a pooling window.
    pass_last : Out(1)
        The step belongs to the last pass.
    layer_last : Out(1)
        The step is the layer's last.
    """

    layer: data.View
    base: Signal
    begin: Signal
    advance: Signal
    address: Signal
    next_address: Signal
    next_weight_row: Signal
    pool_first: Signal
    pool_last: Signal
    pass_last: Signal
    layer_last: Signal

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        super().__init__(
            {
                "layer": In(layout_of(SEQUENCE)),
                "base": In(address_bits(config)),
                "begin": In(1),
                "advance": In(1),
                "address": Out(address_bits(config)),
                "next_address": Out(address_bits(config)),
                "next_weight_row": Out(range(config.weight_rows)),
                "pool_first": Out(1),
                "pool_last": Out(1),
                "pass_last": Out(1),
                "layer_last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer = self.layer
        width = max(SEQUENCE[end].bits for end in ENDS.values())
        counts = {name: Signal(width, name=f"count_{name}") for name in ENDS}
        at_end = {name: Signal(name=f"at_end_{name}") for name in ENDS}
        m.d.comb += [
            *(at_end[name].eq(counts[name] == layer[end]) for name, end in ENDS.items()),
            self.pool_first.eq((counts["elem_x"] == 0) & (counts["elem_y"] == 0)),
            self.pool_last.eq(at_end["elem_x"] & at_end["elem_y"]),
            self.pass_last.eq(at_end["pass"]),
            self.layer_last.eq(self.pool_last & at_end["pass"] & at_end["pos_x"] & at_end["pos_y"]),
        ]

        # Where the step, the row of the pooling window, its position and the row of positions are.
        element_row, position, position_row = (
            Signal.like(self.base, name=name)
            for name in ("element_row", "position", "position_row")
        )
        places = (self.address, element_row, position, position_row)
        pass_row = Signal.like(self.next_weight_row)
        goes_on = {
            "elem_x": self.address + layer.elem_x,
            "elem_y": element_row + layer.elem_y,
            "pass": position,
            "pos_x": position + layer.pos_x,
            "pos_y": position_row + layer.pos_y,
        }
        restarts = {
            "elem_x": [],
            "elem_y": [element_row],
            "pass": [element_row],
            "pos_x": [element_row, position],
            "pos_y": [element_row, position, position_row],
        }
        weight_rows = {
            "pass": pass_row + layer.pass_rows,
            "pos_x": layer.weight_base,
            "pos_y": layer.weight_base,
        }
        with m.If(self.advance):
            m.d.comb += self.next_weight_row.eq(pass_row)
            m.d.sync += [self.address.eq(self.next_address), pass_row.eq(self.next_weight_row)]
            inner: list[str] = []
            for name in ENDS:
                with m.Elif(~at_end[name]) if inner else m.If(~at_end[name]):
                    m.d.comb += self.next_address.eq(goes_on[name])
                    m.d.sync += [
                        *(counts[other].eq(0) for other in inner),
                        counts[name].eq(counts[name] + 1),
                        *(place.eq(self.next_address) for place in restarts[name]),
                    ]
                    if name in weight_rows:
                        m.d.comb += self.next_weight_row.eq(weight_rows[name])
                inner.append(name)
        with m.If(self.begin):
            m.d.sync += [
                *(count.eq(0) for count in counts.values()),
                *(place.eq(self.base) for place in places),
                pass_row.eq(layer.weight_base),
            ]
        return m
