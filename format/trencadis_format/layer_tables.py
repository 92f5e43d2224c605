"""Rows of an engine's memories: what the layers of a program say to the parts of an engine."""

import enum

from trencadis_format.records import Field, Record
from trencadis_format.widths import INPUT_INDEX_BITS, KEY_BITS, LIST_ADDRESS_BITS

__all__ = [
    "EMIT",
    "FEED",
    "INPUT_ENTRY",
    "PROGRAM",
    "REGION",
    "REQUANTISE",
    "SELECT",
    "SEQUENCE",
    "SERIALISE",
    "SLOT",
    "TABLE",
    "Destination",
    "Emission",
    "Selection",
    "Ties",
    "gather_record",
    "scatter_record",
    "weight_record",
]


class Destination(enum.IntEnum):
    """Destination of a layer's output."""

    SELF = 0
    """The engine's own activation memory."""
    NEXT = 1
    """The activation memory of the next engine of the core."""
    HOST = 2
    """The output buffer in device memory."""


class Selection(enum.IntEnum):
    """Choice of the activations of a vector that survive."""

    ALL = 0
    """Every one (ReLU-sparse and dense layers)."""
    EXACT = 1
    """Exactly k: the k largest, ties to the lowest index."""
    THRESHOLD = 2
    """All that are at least the k-th largest; may be more than k."""


class Emission(enum.IntEnum):
    """Format in which the survivors of a vector are written."""

    LISTS = 0
    """A list a position, always `pitch` entries: the survivors, then zeros."""
    TERMINATED = 1
    """A list a position, zeros left out, ended by a zero if shorter than `pitch`."""
    OWNED = 2
    """A terminated list an owner: the i-th holds indices i*block .. (i+1)*block - 1."""
    BYTES = 3
    """Bytes for the host: every activation as its key, in index order."""


class Ties(enum.IntEnum):
    """Rounding of a sum that is exactly between two keys.

    Rounding half to even comes before the zero point: where the key of zero is odd, ties go to odd
    keys.
    """

    FLOOR = 0
    """Downwards: there are no ties, or the offset decides."""
    EVEN = 1
    """The even one. A tie is a floor without a rest."""
    ODD = 2
    """The odd one. The offset is one less than for `EVEN`, so a tie is a floor with a rest of
    2**shift - 2**OFFSET_SHIFT."""


PROGRAM = Record(
    "PROGRAM",
    (
        Field("layers", 5, "layers of the program"),
        Field("depth", 3, "largest delay of a layer"),
        Field("in_map", 3, "map in which a new sample group arrives"),
    ),
)
"""Order of an engine's layers: each of them once for every sample group, in sequence."""

SEQUENCE = Record(
    "SEQUENCE",
    (
        Field("delay", 3, "sample groups the layer lags behind the newest"),
        Field("in_map", 3, "map read"),
        Field("in_buffers", 2, "buffers of the map read"),
        Field("in_step", 16, "address step to the second buffer of the map read"),
        Field("dense", 1, "the map is the dense input: every index present"),
        Field("out_map", 3, "map written"),
        Field("out_buffers", 2, "buffers of the map written"),
        Field("destination", 2, "a `Destination`"),
        Field("address", 16, "address of the first window"),
        Field("elem_x", 16, "address step to the next column of a pooling window", True),
        Field("elem_y", 16, "address step to the next row of a pooling window", True),
        Field("pos_x", 16, "address step to the next pooled column", True),
        Field("pos_y", 16, "address step to the next pooled row", True),
        Field("pool_w", 4, "columns of a pooling window - 1"),
        Field("pool_h", 4, "rows of a pooling window - 1"),
        Field("out_w", 10, "pooled columns - 1"),
        Field("out_h", 10, "pooled rows - 1"),
        Field("passes", 10, "passes over a window - 1"),
        Field("slots", 6, "slots per lane and pass - 1"),
        Field("slot_base", 8, "slot table row of the first slot"),
        Field("entries", 10, "entries of a list to walk - 1 (at most, if `dynamic`)"),
        Field("entry_step", 10, "address step to the next entry"),
        Field("dynamic", 1, "end a walk when the lists of all lanes have ended"),
        Field("least", 10, "entries of a list to walk at least - 1, if `dynamic`"),
        Field("weight_base", 16, "weight row of the first slot of the first pass"),
        Field("slot_rows", 16, "weight rows from slot to slot"),
        Field("pass_rows", 16, "weight rows from pass to pass"),
        Field("interval", 12, "minimum cycles per step - 1"),
        Field("tail", 8, "cycles to wait after the last step"),
        Field("beats", 6, "kernels to drain after a step - 1"),
        Field("combine", 1, "add up the sums of all lane groups"),
        Field(
            "paired",
            1,
            "a step is two windows, of an odd number of slots: those before the middle one are the "
            "first's, those after it the second's; the lower half of the lanes has the middle one "
            "for the first, the upper half for the second",
        ),
    ),
)
"""One layer, as the sequencer sees it."""

SERIALISE = Record(
    "SERIALISE",
    (
        Field("groups", 6, "requantiser groups of a beat - 1"),
        Field("row_base", 16, "requantise row of the first group of a vector"),
        Field("vector_rows", 12, "rows of a vector in index order - 1"),
        Field("gather_base", 12, "gather row of the first row of a vector"),
        Field("last_count", 6, "activations in the last row - 1"),
        Field("low", 8, "smallest key the layer gives"),
        Field("high", 8, "largest key the layer gives"),
        Field("table", 4, "activation table"),
        Field("use_table", 1, "map keys through the activation table"),
        Field("raw", 1, "send sums to the host instead of keys"),
    ),
)
"""One layer, as the requantisers and the reordering see it."""

SELECT = Record(
    "SELECT",
    (
        Field("selection", 2, "a `Selection`"),
        Field("whole", 1, "use the selector for vectors too long for the streaming one"),
        Field("k", 12, "winners"),
    ),
)
"""One layer, as the k-WTA selectors see it."""

EMIT = Record(
    "EMIT",
    (
        Field("emission", 2, "an `Emission`"),
        Field("destination", 2, "a `Destination`"),
        Field("out_map", 3, "map written"),
        Field("buffers", 2, "buffers of the map"),
        Field("zero", 8, "key of the value zero"),
        Field("address", LIST_ADDRESS_BITS, "list address of the first position"),
        Field("pitch", LIST_ADDRESS_BITS, "entries of a list"),
        Field("row_step", LIST_ADDRESS_BITS, "list address step from row to row of positions"),
        Field("width", 10, "positions of a row - 1"),
        Field("height", 10, "rows of positions - 1"),
        Field(
            "base", LIST_ADDRESS_BITS, "first entry of the map's first buffer in a lane's memory"
        ),
        Field("size", LIST_ADDRESS_BITS, "entries of a buffer of the map in a lane's memory"),
        Field("block", 10, "indices of an owner"),
        Field("owners", 8, "owners - 1"),
    ),
)
"""One layer, as the emitter sees it."""

SLOT = Record(
    "SLOT",
    (
        Field("offset", 16, "entry of the slot's list relative to the window's address", True),
        Field("valid", 1, "the lane has this slot"),
    ),
)
"""A row of a lane's slot table: which list of the window the lane reads."""

REGION = Record(
    "REGION",
    (Field("low", LIST_ADDRESS_BITS, "first list address it keeps, or its owner (`OWNED`)"),),
)
"""A row of a lane's region table, one row per map."""

REQUANTISE = Record(
    "REQUANTISE",
    (
        Field("multiplier", 32, "m in floor((m*sum + c*2**OFFSET_SHIFT) / 2**shift)"),
        Field("offset", 44, "c: bias and rounding", True),
        Field("shift", 3, "shift, in steps of SHIFT_STEP above SHIFT_BASE"),
        Field("ties", 2, "which key exact ties go to: a `Ties`"),
    ),
)
"""Requantisation of one output channel."""

TABLE = Record("TABLE", (Field("key", KEY_BITS, "key that the activation function gives"),))
"""A row of an activation table: of the key that is the row's number, modulo 2**KEY_BITS."""

FEED = Record(
    "FEED",
    (
        Field("beats", 16, "bus beats of a packed input - 1"),
        Field("row_values", 16, "values of an input row - 1"),
        Field("rows", 16, "input rows - 1"),
        Field("row_skip", 16, "addresses to skip at the end of a row"),
        Field("address", 16, "address of the first value"),
        Field("zero", 8, "key of the value zero"),
        Field("buffers", 2, "buffers of the input map"),
        Field("buffer_step", 16, "address step to the second buffer"),
        Field("in_map", 3, "map filled"),
        Field("sparse", 1, "samples are of `INPUT_ENTRY`, and are written as row 0 of INPUT says"),
        Field("out_beats", 16, "bus beats of a packed output - 1"),
        Field(
            "out_pieces", 24, "pieces of a packed output - 1; a piece has one byte per requantiser"
        ),
    ),
)
"""Format of packed inputs to unpack and of packed outputs to pack."""

INPUT_ENTRY = Record(
    "INPUT_ENTRY",
    (
        Field("key", KEY_BITS, "the activation"),
        Field("index", INPUT_INDEX_BITS, "its channel"),
        Field("present", 1, "there is an activation; a position without any has an entry, too"),
        Field("last", 1, "the last entry of its position"),
        Field("end", 1, "the last entry of its sample; what follows fills up the sample"),
        Field("reserved", 9, "zero"),
    ),
)
"""An activation of a sparse packed input. Positions are in order, and so are their channels."""


def weight_record(tiles: int, kernel_bits: int) -> Record:
    """A row of a lane's weight memory: for every tile a weight and the kernel ID that owns it.

    Tiles come in pairs sharing one DSP, and the pair's weights are stored as the DSP's wide
    operand: the even tile's weight, then the odd tile's less the borrow of the even one's sign.
    """
    fields = []
    for tile in range(0, tiles, 2):
        fields += [
            Field(f"weight{tile}", 8, "weight of the even tile", True),
            Field(f"weight{tile + 1}", 9, "weight of the odd tile, less the borrow", True),
            Field(f"kernel{tile}", kernel_bits, "kernel ID of the even tile"),
            Field(f"kernel{tile + 1}", kernel_bits, "kernel ID of the odd tile"),
        ]
    return Record("WEIGHT", tuple(fields))


def scatter_record(requantisers: int) -> Record:
    """Record with, for every bank of the reorder memory, the requantiser and address it takes."""
    column_bits = max(1, (requantisers - 1).bit_length())
    fields = []
    for bank in range(requantisers):
        fields += [
            Field(f"source{bank}", column_bits, "requantiser whose key the bank takes"),
            Field(f"row{bank}", 12, "row of the vector the key belongs to"),
            Field(f"valid{bank}", 1, "the bank takes a key"),
        ]
    return Record("SCATTER", tuple(fields))


def gather_record(requantisers: int) -> Record:
    """Record with, for every activation of a row in index order, the reorder bank it is in."""
    bits = max(1, (requantisers - 1).bit_length())
    fields = [
        Field(f"bank{i}", bits, "bank that holds the activation") for i in range(requantisers)
    ]
    return Record("GATHER", tuple(fields))
