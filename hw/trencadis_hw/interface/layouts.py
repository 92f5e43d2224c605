"""Amaranth layouts of the records in `trencadis_format`."""

from amaranth.hdl import ShapeLike, signed, unsigned
from amaranth.lib import data

from trencadis_format.records import Record

__all__ = ["layout_of"]


def layout_of(record: Record) -> data.StructLayout:
    """The Amaranth layout with a record's fields, in the same bits."""
    members: dict[str, ShapeLike] = {
        field.name: signed(field.bits) if field.signed else unsigned(field.bits)
        for field in record.fields
    }
    return data.StructLayout(members)
