"""Writing activations into the lanes' list memories."""

from amaranth.hdl import signed
from amaranth.lib import data

from trencadis_format.layer_tables import EMIT
from trencadis_format.widths import INDEX_BITS, LIST_ADDRESS_BITS, VALUE_BITS

__all__ = ["ENTRY", "list_write_layout"]

ENTRY = data.StructLayout({"value": signed(VALUE_BITS), "index": INDEX_BITS})
"""An entry of an activation list. A list may end early with an entry of value 0."""


def list_write_layout() -> data.StructLayout:
    """One entry on its way to the lanes of an engine.

    Two ways to address: to every lane whose region of map `map` holds list address `address`
    (each lane keeps `size` entries from the first address in its region table on, at `base` of its
    memory); or, if `owned`, to `address` + `base` of those lanes whose region table names `owner`,
    or of all lanes if `everywhere`.

    `enable`: there is an entry. `final`: with it the map is complete.
    """
    return data.StructLayout(
        {
            "enable": 1,
            "final": 1,
            "map": EMIT["out_map"].bits,
            "owned": 1,
            "everywhere": 1,
            "owner": EMIT["owners"].bits,
            "address": LIST_ADDRESS_BITS,
            "base": LIST_ADDRESS_BITS,
            "size": LIST_ADDRESS_BITS,
            "entry": ENTRY,
        }
    )
