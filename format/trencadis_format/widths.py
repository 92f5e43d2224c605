"""Widths of values, indices and addresses, and fixed counts that the formats share."""

__all__ = [
    "INDEX_BITS",
    "INPUT_INDEX_BITS",
    "KEY_BITS",
    "LAYER_BITS",
    "LIST_ADDRESS_BITS",
    "MAP_COUNT",
    "OFFSET_SHIFT",
    "PRODUCT_BITS",
    "SHIFT_BASE",
    "SHIFT_STEP",
    "VALUE_BITS",
]

KEY_BITS = 8
"""Bits of a *key*: a quantised activation in offset binary (0 is the smallest)."""

VALUE_BITS = 9
"""Bits of a *value*: key minus the key of zero, signed; what the multipliers see."""

PRODUCT_BITS = 18
"""Bits of the product of a value and a weight, signed."""

LAYER_BITS = 4
"""Bits of a layer's number on its way through an engine; a program has at most 16 layers."""

INDEX_BITS = 9
"""Bits of the channel index in a list entry; a list covers at most 512 channels."""

INPUT_INDEX_BITS = 12
"""Width of a channel's number in a sparse packed input."""

LIST_ADDRESS_BITS = 14
"""Bits of a list address: a padded map has at most 16,384 list entries."""

MAP_COUNT = 8
"""Activation maps an engine's memory can hold at the same time."""

OFFSET_SHIFT = 12
"""`REQUANTISE.offset` counts in units of 2**OFFSET_SHIFT of the product."""

SHIFT_BASE = 24
SHIFT_STEP = 4
"""A requantiser shifts right by SHIFT_BASE + SHIFT_STEP * `REQUANTISE.shift` bits."""
