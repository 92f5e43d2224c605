"""The contract between compiler, host and hardware: every format and register, once.

Standard library only. Amaranth layouts are derived from these records (`layouts.py`), the
compiler packs with them, the emulator and the host unpack with them.

A *record* is a fixed sequence of bit fields, the first field in the least significant bits.
A *device image* is what the kernel reads from memory to become a network: a sequence of blocks,
each a header (`BLOCK`) and rows for one memory of every core; `Target` names the memories.
"""

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "ABI_VERSION",
    "BLOCK",
    "CONTROL",
    "EMIT",
    "FEED",
    "INDEX_BITS",
    "INPUT_ENTRY",
    "INPUT_INDEX_BITS",
    "KEY_BITS",
    "LIST_ADDRESS_BITS",
    "MAP_COUNT",
    "OFFSET_SHIFT",
    "PROGRAM",
    "REGION",
    "REQUANTISE",
    "SELECT",
    "SEQUENCE",
    "SERIALISE",
    "SHIFT_BASE",
    "SHIFT_STEP",
    "SLOT",
    "STATISTICS",
    "VALUE_BITS",
    "Block",
    "Command",
    "Destination",
    "Emission",
    "Field",
    "Record",
    "Register",
    "Selection",
    "Status",
    "Target",
    "Ties",
    "gather_record",
    "pack_blocks",
    "scatter_record",
    "unpack_blocks",
    "weight_record",
]

ABI_VERSION = 2
"""Changes whenever a format below changes; hardware, image and host must agree."""

KEY_BITS = 8
"""Bits of a *key*: a quantised activation in offset binary (0 is the smallest)."""

VALUE_BITS = 9
"""Bits of a *value*: key minus the key of zero, signed; what the multipliers see."""

INDEX_BITS = 9
"""Bits of the channel index in a list entry; a list covers at most 512 channels."""

INPUT_INDEX_BITS = 12
"""Width of a channel's number in a sparse input word."""

LIST_ADDRESS_BITS = 14
"""Bits of a list address: a padded map has at most 16,384 list entries."""

MAP_COUNT = 8
"""Activation maps an engine's memory can hold at the same time."""

OFFSET_SHIFT = 12
"""`REQUANTISE.offset` counts in units of 2**OFFSET_SHIFT of the product."""

SHIFT_BASE = 24
SHIFT_STEP = 4
"""A requantiser shifts right by SHIFT_BASE + SHIFT_STEP * `REQUANTISE.shift` bits."""


@dataclass(frozen=True)
class Field:
    """One bit field of a record: `bits` wide, two's complement if `signed`."""

    name: str
    bits: int
    doc: str
    signed: bool = False

    @property
    def low(self) -> int:
        """Smallest value the field holds."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value the field holds."""
        return (1 << (self.bits - self.signed)) - 1

    def encode(self, value: int, record: str) -> int:
        """`value` as an unsigned bit pattern; refuses what does not fit."""
        if not self.low <= value <= self.high:
            raise ValueError(
                f"{record}.{self.name} must be in {self.low}..{self.high}, not {value}"
            )
        return value & ((1 << self.bits) - 1)

    def decode(self, pattern: int) -> int:
        """Inverse of `encode`, for a pattern of `bits` bits."""
        return pattern - (1 << self.bits) if pattern > self.high else pattern


@dataclass(frozen=True)
class Record:
    """A fixed sequence of bit fields, the first one in the least significant bits."""

    name: str
    fields: tuple[Field, ...]

    @property
    def bits(self) -> int:
        """Width of a packed record."""
        return sum(field.bits for field in self.fields)

    def pack(self, **values: int) -> int:
        """Pack one value for every field.

        Raises
        ------
        ValueError
            If a value is missing, has no field, or does not fit its field.
        """
        unknown = sorted(values.keys() - {field.name for field in self.fields})
        if unknown:
            raise ValueError(f"{self.name} has no field {', '.join(unknown)}")
        word = offset = 0
        for field in self.fields:
            if field.name not in values:
                raise ValueError(f"{self.name}.{field.name} needs a value")
            word |= field.encode(int(values[field.name]), self.name) << offset
            offset += field.bits
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """Inverse of `pack`."""
        if word < 0 or word >> self.bits:
            raise ValueError(f"a {self.name} record has {self.bits} bits, not {word.bit_length()}")
        values = {}
        for field in self.fields:
            values[field.name] = field.decode(word & ((1 << field.bits) - 1))
            word >>= field.bits
        return values


# --- what the layers of a program say to the parts of an engine ----------------------------------


class Destination(enum.IntEnum):
    """Where a layer's output goes."""

    SELF = 0
    """To the engine's own activation memory."""
    NEXT = 1
    """To the activation memory of the next engine of the core."""
    HOST = 2
    """To the output buffer in device memory."""


class Selection(enum.IntEnum):
    """Which activations of a vector survive."""

    ALL = 0
    """Every one (ReLU-sparse and dense layers)."""
    EXACT = 1
    """Exactly k: the k largest, ties to the lowest index."""
    THRESHOLD = 2
    """All that are at least the k-th largest; may be more than k."""


class Emission(enum.IntEnum):
    """How the survivors of a vector are written."""

    LISTS = 0
    """A list a position, always `pitch` entries: the survivors, then zeros."""
    TERMINATED = 1
    """A list a position, zeros left out, ended by a zero if shorter than `pitch`."""
    OWNED = 2
    """A terminated list an owner: the i-th holds indices i*block .. (i+1)*block - 1."""
    BYTES = 3
    """To the host: every activation as one byte (its key), in index order."""


class Ties(enum.IntEnum):
    """Which key a sum gets that is exactly between two.

    Rounding half to even comes before the zero point: where the key of zero is odd, ties go to odd
    keys.
    """

    FLOOR = 0
    """What the floor gives: there are no ties, or the offset decides."""
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
        Field("in_map", 3, "map in which a new word group arrives"),
    ),
)
"""How an engine runs its layers: all of them once for every word group, in order."""

SEQUENCE = Record(
    "SEQUENCE",
    (
        Field("delay", 3, "word groups the layer lags behind the newest"),
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
        Field("slots", 6, "slots a lane walks in a pass - 1"),
        Field("slot_base", 8, "slot table row of the first slot"),
        Field("entries", 10, "entries of a list to walk - 1 (at most, if `dynamic`)"),
        Field("entry_step", 10, "address step to the next entry"),
        Field("dynamic", 1, "end a walk when the lists of all lanes have ended"),
        Field("least", 10, "entries of a list to walk at least - 1, if `dynamic`"),
        Field("weight_base", 16, "weight row of the first slot of the first pass"),
        Field("slot_rows", 16, "weight rows from slot to slot"),
        Field("pass_rows", 16, "weight rows from pass to pass"),
        Field("interval", 12, "cycles a step takes at least - 1"),
        Field("tail", 8, "cycles to wait after the last step"),
        Field("beats", 6, "kernels to drain after a step - 1"),
        Field("combine", 1, "add up the sums of all lane groups"),
        Field(
            "paired",
            1,
            "a step is two windows, of an odd number of slots: those before the middle one are the "
            "first's, those behind it the second's; the lower half of the lanes has the middle one "
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
"""A row of a lane's region table, one row a map."""

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

FEED = Record(
    "FEED",
    (
        Field("beats", 16, "bus beats of an input word - 1"),
        Field("row_values", 16, "values of an input row - 1"),
        Field("rows", 16, "input rows - 1"),
        Field("row_skip", 16, "addresses to skip at the end of a row"),
        Field("address", 16, "address of the first value"),
        Field("zero", 8, "key of the value zero"),
        Field("buffers", 2, "buffers of the input map"),
        Field("buffer_step", 16, "address step to the second buffer"),
        Field("in_map", 3, "map filled"),
        Field("sparse", 1, "words are of `INPUT_ENTRY`, and are written as row 0 of INPUT says"),
        Field("out_beats", 16, "bus beats of an output word - 1"),
        Field("out_pieces", 24, "pieces of an output word - 1; a piece has a byte a requantiser"),
    ),
)
"""How input words are unpacked and output words packed."""

INPUT_ENTRY = Record(
    "INPUT_ENTRY",
    (
        Field("key", KEY_BITS, "the activation"),
        Field("index", INPUT_INDEX_BITS, "its channel"),
        Field("present", 1, "there is an activation; a position without any has an entry, too"),
        Field("last", 1, "the last entry of its position"),
        Field("end", 1, "the last entry of its word; what follows fills up the word"),
        Field("reserved", 9, "zero"),
    ),
)
"""An activation of a sparse input word. Positions are in order, and so are their channels."""


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
    """For every bank of the reorder memory: which requantiser's key it takes, and where to."""
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
    """For every activation of a row in index order: the bank of the reorder memory it is in."""
    bits = max(1, (requantisers - 1).bit_length())
    fields = [
        Field(f"bank{i}", bits, "bank that holds the activation") for i in range(requantisers)
    ]
    return Record("GATHER", tuple(fields))


# --- device images --------------------------------------------------------------------------------


class Target(enum.IntEnum):
    """The memory a block fills."""

    HEADER = 0
    """First block of an image: one row, `HEADER`."""
    FEED = 1
    PROGRAM = 2
    SEQUENCE = 3
    SERIALISE = 4
    SELECT = 5
    EMIT = 6
    SLOT = 7
    """Unit: the lane."""
    REGION = 8
    """Unit: the lane."""
    WEIGHT = 9
    """Unit: the lane."""
    REQUANTISE = 10
    """Unit: the requantiser."""
    SCATTER = 11
    GATHER = 12
    TABLE = 13
    """Activation tables: row table*256 + key in, key out."""
    CLEAR = 14
    """No rows are stored: the engine's activation memories are filled with zeros."""
    END = 15
    """Last block of an image, without rows."""
    INPUT = 16
    """One row, `EMIT`: how a sparse input is written."""


HEADER = Record(
    "HEADER",
    (
        Field("version", 32, "ABI_VERSION"),
        Field("configuration", 64, "digest of the kernel configuration"),
    ),
)

BLOCK_MAGIC = 0x5443
BLOCK = Record(
    "BLOCK",
    (
        Field("magic", 16, "BLOCK_MAGIC"),
        Field("target", 8, "a `Target`"),
        Field("engine", 8, "engine of the core"),
        Field("unit", 8, "lane or requantiser"),
        Field("row_words", 8, "32-bit words of a row"),
        Field("start", 32, "first row"),
        Field("rows", 32, "number of rows"),
        Field("reserved", 16, "zero"),
    ),
)
"""Header of a block of a device image; four 32-bit words."""


@dataclass(frozen=True)
class Block:
    """Rows for one memory. Rows are integers of at most `row_bits` bits."""

    target: Target
    rows: Sequence[int]
    row_bits: int
    engine: int = 0
    unit: int = 0
    start: int = 0


def pack_blocks(blocks: Iterable[Block]) -> bytes:
    """A device image: blocks one after the other, each padded to 16 bytes."""
    chunks = []
    for block in blocks:
        words = -(-block.row_bits // 32)
        header = BLOCK.pack(
            magic=BLOCK_MAGIC,
            target=block.target,
            engine=block.engine,
            unit=block.unit,
            row_words=words,
            start=block.start,
            rows=len(block.rows),
            reserved=0,
        )
        payload = b"".join(row.to_bytes(words * 4, "little") for row in block.rows)
        chunks.append(header.to_bytes(16, "little") + payload + bytes(-len(payload) % 16))
    return b"".join(chunks)


def unpack_blocks(image: bytes) -> Iterator[Block]:
    """Inverse of `pack_blocks`.

    Raises
    ------
    ValueError
        If the image is truncated, has an unknown block, or does not end with `Target.END`.
    """
    offset = 0
    while True:
        if len(image) < offset + 16:
            raise ValueError(f"device image ends at byte {len(image)} without an END block")
        header = BLOCK.unpack(int.from_bytes(image[offset : offset + 16], "little"))
        if header["magic"] != BLOCK_MAGIC or header["target"] not in Target.__members__.values():
            raise ValueError(f"device image has no block at byte {offset}")
        size = 4 * header["row_words"]
        end = offset + 16 + size * header["rows"]
        if end > len(image):
            raise ValueError(f"device image ends at byte {len(image)} inside a block")
        payload = image[offset + 16 : end]
        yield Block(
            target=Target(header["target"]),
            rows=[
                int.from_bytes(payload[i : i + size], "little")
                for i in range(0, len(payload), size or 1)
            ],
            row_bits=8 * size,
            engine=header["engine"],
            unit=header["unit"],
            start=header["start"],
        )
        offset = end + -end % 16
        if header["target"] == Target.END:
            if offset != len(image):
                raise ValueError(
                    f"device image has {len(image) - offset} bytes after its END block"
                )
            return


# --- the kernel's registers and statistics --------------------------------------------------------


class Register(enum.IntEnum):
    """Byte offsets on the AXI4-Lite port: XRT's `ap_ctrl_hs` block, arguments, own registers."""

    CONTROL = 0x00
    GLOBAL_INTERRUPT_ENABLE = 0x04
    INTERRUPT_ENABLE = 0x08
    INTERRUPT_STATUS = 0x0C
    IMAGE = 0x10
    INPUT = 0x1C
    OUTPUT = 0x28
    STATISTICS = 0x34
    IMAGE_BEATS = 0x40
    INPUT_BEATS = 0x48
    WORDS = 0x50
    COMMAND = 0x58
    ABORT = 0x60
    STATUS = 0x68
    VERSION = 0x70
    CONFIGURATION = 0x78


class Command(enum.IntFlag):
    """What a start of the kernel does."""

    LOAD = 1
    """Load the image."""
    RUN = 2
    """Compute `WORDS` words."""


class Status(enum.IntFlag):
    """What went wrong since the last start."""

    READ_ERROR = 1
    """A read on the AXI4 port answered with an error."""
    WRITE_ERROR = 2
    """A write on the AXI4 port answered with an error."""
    BAD_IMAGE = 4
    """The image's header, version or configuration does not fit; nothing was computed."""
    OVERFLOW = 8
    """A queue inside a core overflowed: a fault of the schedule or of the hardware."""
    ABORTED = 16
    """The run was aborted."""
    NO_IMAGE = 32
    """A run was started before any image was loaded."""


CONTROL = Record(
    "CONTROL",
    (
        Field("start", 1, "ap_start: set to start, clears itself"),
        Field("done", 1, "ap_done: cleared by reading"),
        Field("idle", 1, "ap_idle"),
        Field("ready", 1, "ap_ready"),
    ),
)

STATISTICS = Record(
    "STATISTICS",
    (
        Field("version", 32, "ABI_VERSION"),
        Field("status", 32, "`Status` flags"),
        Field("cycles", 64, "cycles from start to the last output written"),
        Field("words", 64, "words computed"),
        Field("load_cycles", 64, "cycles spent on loading the image"),
        Field("first_done", 64, "cycle at which the first word's output left its core"),
        Field("last_done", 64, "cycle at which the last word's output left its core"),
        Field("busy", 64, "cycles in which engine 0 of core 0 issued work"),
        Field("reserved", 64, "zero"),
    ),
)
"""What the kernel writes to the statistics buffer at the end of a run; 64 bytes."""
