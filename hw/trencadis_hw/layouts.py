"""Amaranth layouts of the records in `abi`."""

from amaranth.hdl import ShapeLike, signed, unsigned
from amaranth.lib import data

from trencadis_hw import abi

__all__ = ["layout_of"]


def layout_of(record: abi.Record) -> data.StructLayout:
    """The Amaranth layout with a record's fields, in the same bits."""
    members: dict[str, ShapeLike] = {
        field.name: signed(field.bits) if field.signed else unsigned(field.bits)
        for field in record.fields
    }
    return data.StructLayout(members)
