"""Tables that an image fills: rows of a record, read while the kernel runs."""

from typing import Any, Literal

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.image import Target
from trencadis_format.records import Record
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature

__all__ = ["LoadedTable"]


class LoadedTable(wiring.Component):
    """Rows of a record, written from the load bus and read by address.

    Latency from an address to its row: 0 cycles with distributed memory, 1 cycle with block memory.

    Parameters
    ----------
    record : Record
        What a row is.
    target : Target
        The table on the load bus.
    depth : int
        Rows.
    load_bits : int
        Width of the load bus.
    readers : int
        Read ports.
    style : str
        Memory the table is made of: `distributed` or `block`.

    Members
    -------
    address : In(array)
        Row to read, one address per reader.
    row : Out(array)
        The rows.
    load : In(LoadSignature)
        Image rows.
    """

    address: list[Signal]
    row: list[Any]
    load: LoadInterface

    def __init__(
        self,
        record: Record,
        target: Target,
        *,
        depth: int,
        load_bits: int,
        readers: int = 1,
        style: Literal["distributed", "block"] = "distributed",
    ) -> None:
        self._layout = layout_of(record)
        self._target = target
        self._depth = depth
        self._style = style
        super().__init__(
            {
                "address": In(range(depth)).array(readers),
                "row": Out(self._layout).array(readers),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rows = rows = memory.Memory(
            shape=self._layout, depth=self._depth, init=[], attrs={"ram_style": self._style}
        )
        write = rows.write_port()
        m.d.comb += [
            write.addr.eq(self.load.row),
            Value.cast(write.data).eq(self.load.data),
            write.en.eq(self.load.enable & (self.load.target == self._target)),
        ]
        domain = "comb" if self._style == "distributed" else "sync"
        for address, row in zip(self.address, self.row, strict=True):
            read = rows.read_port(domain=domain)
            m.d.comb += [read.addr.eq(address), row.eq(read.data)]
        return m
