"""Addresses of the lists of a map, position by position."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.layer_tables import EMIT
from trencadis_hw.interface.layouts import layout_of

__all__ = ["PositionCounter"]


class PositionCounter(wiring.Component):
    """Count the positions of a map, row by row, and keep the addresses of their lists.

    A map starts at its layer's first address.

    Members
    -------
    layer : In(EMIT)
        The layer of the position.
    list_end : In(1)
        The position's list ends; the next position is that of the following cycle.
    address : Out
        First entry of the position's list.
    at_end : Out(1)
        The position is the map's last.
    """

    layer: data.View
    list_end: Signal
    address: Signal
    at_end: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "layer": In(layout_of(EMIT)),
                "list_end": In(1),
                "address": Out(EMIT["address"].bits),
                "at_end": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer = self.layer
        inside = Signal()
        address, row_address = Signal.like(self.address), Signal.like(self.address)
        line_address, next_address = Signal.like(self.address), Signal.like(self.address)
        column, line = Signal(EMIT["width"].bits), Signal(EMIT["height"].bits)
        line_end = Signal()
        m.d.comb += [self.address.eq(address), line_address.eq(row_address)]
        with m.If(~inside):
            m.d.comb += [self.address.eq(layer.address), line_address.eq(layer.address)]
        m.d.comb += [
            line_end.eq(column == layer.width),
            next_address.eq(
                Mux(line_end, line_address, self.address)
                + Mux(line_end, layer.row_step, layer.pitch)
            ),
            self.at_end.eq(line_end & (line == layer.height)),
        ]
        with m.If(self.list_end):
            m.d.sync += [
                inside.eq(1),
                column.eq(column + 1),
                address.eq(next_address),
                row_address.eq(Mux(line_end, next_address, line_address)),
            ]
            with m.If(line_end):
                m.d.sync += [column.eq(0), line.eq(line + 1)]
            with m.If(self.at_end):
                m.d.sync += [inside.eq(0), line.eq(0)]
        return m
