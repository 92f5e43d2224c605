"""Rows of a map engine's memories: what the layers of a program say to its parts.

Addresses count rows of the map memory, modulo its address space: a window that begins in the
padding has an origin below zero.
"""

import enum

from trencadis_format.records import Field, Record

__all__ = ["ADD", "ADD_SHIFT", "MAP_LAYER", "MAP_PROGRAM", "MapMode"]

ADDRESS_BITS = 16

ADD_SHIFT = 30
"""Bits that an Add shifts right by."""


class MapMode(enum.IntEnum):
    """Computation of a layer."""

    MULTIPLY = 0
    """Sums of products, requantised."""
    MAXIMUM = 1
    """The largest key of a window, channel by channel; of one position, a copy."""


MAP_PROGRAM = Record(
    "MAP_PROGRAM",
    (
        Field("layers", 8, "layers of the program - 1"),
        Field("out_base", ADDRESS_BITS, "first row of the output"),
        Field("out_rows", ADDRESS_BITS, "rows of the output - 1"),
    ),
)
"""Order of a map engine's layers, each of them once per sample, and what leaves after the last."""

MAP_LAYER = Record(
    "MAP_LAYER",
    (
        Field("mode", 1, "a `MapMode`"),
        Field("origin", ADDRESS_BITS, "row of the first window's first position"),
        Field("x_step", ADDRESS_BITS, "address step to the next window of a row"),
        Field("y_step", ADDRESS_BITS, "address step to the next row of windows"),
        Field("slot_x", ADDRESS_BITS, "address step to the next column of a window"),
        Field("slot_y", ADDRESS_BITS, "address step to the next row of a window"),
        Field("pass_step", ADDRESS_BITS, "address step from pass to pass"),
        Field("in_h", 10, "rows of positions of the map read - 1"),
        Field("in_w", 10, "columns of the map read - 1"),
        Field("pad_top", 8, "rows of padding above"),
        Field("pad_left", 8, "columns of padding to the left"),
        Field("stride_y", 5, "rows from window to window"),
        Field("stride_x", 5, "columns from window to window"),
        Field("dilation_y", 5, "rows from position to position of a window"),
        Field("dilation_x", 5, "columns from position to position of a window"),
        Field("kernel_h", 8, "rows of a window - 1"),
        Field("kernel_w", 8, "columns of a window - 1"),
        Field("rows", 8, "rows of channels of a position that a pass reads - 1"),
        Field("out_h", 10, "rows of positions of the map written - 1"),
        Field("out_w", 10, "columns of the map written - 1"),
        Field("passes", 10, "passes over a window - 1"),
        Field("weight_base", 16, "weight row of the first value of a lane"),
        Field("row_weights", 10, "weight rows of a row of channels"),
        Field("slot_weights", 16, "weight rows of a position"),
        Field("depth", 6, "weight rows of a value - 1"),
        Field("zero", 8, "key of the value zero in the map read"),
        Field("beats", 6, "kernels per tile that a pass drains - 1"),
        Field("requantise_base", 16, "requantise row of the first beat of the first pass"),
        Field("low", 8, "smallest key of a requantised sum"),
        Field("high", 8, "largest key of a requantised sum"),
        Field("table", 4, "activation table"),
        Field("use_table", 1, "map keys through the activation table"),
        Field("raw", 1, "write sums of 32 bits instead of keys"),
        Field("out_base", ADDRESS_BITS, "first row of the map written"),
        Field("out_step", ADDRESS_BITS, "address step to the next position of the map written"),
        Field("step_rows", 4, "rows that a step writes - 1"),
        Field("add", 1, "add a second map"),
        Field("second_base", ADDRESS_BITS, "first row of the second map"),
        Field("second_step", ADDRESS_BITS, "address step to the next position of the second map"),
    ),
)
"""One layer of a map engine."""

ADD = Record(
    "ADD",
    (
        Field("first", 34, "factor of a key of the layer"),
        Field("second", 34, "factor of a key of the second map"),
        Field("offset", 48, "c in (first*a + second*b + c) >> ADD_SHIFT", True),
        Field("ties", 2, "which key exact ties go to: a `Ties`; for `ODD`, c is one less"),
        Field("low", 8, "smallest key of the sum"),
        Field("high", 8, "largest key of the sum"),
    ),
)
"""Addition of a second map to the keys of a layer, by the layer's number."""
