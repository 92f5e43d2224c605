"""Device images: what the kernel reads from memory to become a network.

An image is a sequence of blocks, each a header (`BLOCK`) and rows for one memory of every core;
`Target` names the memories. The first block holds `HEADER`, the last one is `Target.END`.
"""

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trencadis_format.records import Field, Record

__all__ = [
    "ABI_VERSION",
    "BLOCK",
    "BLOCK_MAGIC",
    "HEADER",
    "Block",
    "Target",
    "pack_blocks",
    "unpack_blocks",
]

ABI_VERSION = 2
"""Changes whenever a format below changes; hardware, image and host must agree."""


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
    MAP_PROGRAM = 17
    MAP_LAYER = 18
    ADD = 19


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
