"""The memory of all maps of a map engine."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.map_config import MapConfig
from trencadis_format.widths import KEY_BITS

__all__ = ["MAP_READ_LATENCY", "MapMemory", "row_layout"]

MAP_READ_LATENCY = 2
"""Cycles from an address to its row."""


def row_layout(config: MapConfig) -> data.ArrayLayout:
    """A row of keys."""
    return data.ArrayLayout(KEY_BITS, config.row_values)


class MapMemory(wiring.Component):
    """Rows of keys: one is read and one is written per cycle.

    Latency from `address` to `row`: 2 cycles.

    Parameters
    ----------
    config : MapConfig
        The engine.

    Members
    -------
    address : In(range(map_rows))
        Row to read.
    row : Out(row_layout)
        The row.
    write_enable, write_address, write_row : In
        A row to store.
    """

    address: Signal
    row: data.View
    write_enable: Signal
    write_address: Signal
    write_row: data.View

    def __init__(self, config: MapConfig) -> None:
        self._config = config
        super().__init__(
            {
                "address": In(range(config.map_rows)),
                "row": Out(row_layout(config)),
                "write_enable": In(1),
                "write_address": In(range(config.map_rows)),
                "write_row": In(row_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(
            shape=row_layout(self._config), depth=self._config.map_rows, init=[]
        )
        read, write = storage.read_port(), storage.write_port()
        m.d.comb += [
            read.addr.eq(self.address),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_row),
            write.en.eq(self.write_enable),
        ]
        m.d.sync += self.row.eq(read.data)
        return m
