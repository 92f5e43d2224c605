"""The contract of the serial link: how a host reaches a kernel's registers and memory over a UART.

Standard library only. The host sends a *request*, the board answers it with a *reply*, and only
then comes the next request. Both are framed alike: a header, a payload of whole 32-bit words, and
the CRC-32 (that of `zlib`) of all this; everything is little-endian.

A request whose CRC is wrong changes nothing and is answered with `Answer.DAMAGED`. One whose bytes
stop coming is forgotten after `IDLE_BYTES` byte times. A host that gets no usable reply sends the
same request again: the board recognises it by its sequence number, and does not do it twice.
"""

import enum
import zlib
from dataclasses import dataclass

from trencadis_format.records import Field, Record

__all__ = [
    "CRC_BYTES",
    "IDENTITY",
    "IDLE_BYTES",
    "LINK_VERSION",
    "MAX_WORDS",
    "REPLY",
    "REPLY_SYNC",
    "REQUEST",
    "REQUEST_SYNC",
    "Answer",
    "FrameError",
    "Operation",
    "Reply",
    "pack_request",
    "reply_words",
    "request_words",
    "unpack_reply",
]

LINK_VERSION = 1
"""Changes whenever anything here changes; host and board must agree."""

REQUEST_SYNC = 0xA5
REPLY_SYNC = 0x5A
"""First bytes, by which the beginning of a frame is found."""

WORD_BYTES = 4
CRC_BYTES = 4
MAX_WORDS = 256
"""Words of the longest payload."""

IDLE_BYTES = 4096
"""Byte times without a byte after which an unfinished request is forgotten."""


class Operation(enum.IntEnum):
    """Operation of a request. Addresses and counts are of whole words."""

    IDENTIFY = 0
    """Reply: `IDENTITY`. Makes the board forget which request was the last."""
    READ_MEMORY = 1
    """Reply: `count` words of memory from `address` on."""
    WRITE_MEMORY = 2
    """Payload: `count` words for memory from `address` on."""
    READ_REGISTERS = 3
    """Reply: `count` registers of the kernel from `address` on."""
    WRITE_REGISTERS = 4
    """Payload: `count` words for registers of the kernel from `address` on."""
    CHECKSUM = 5
    """Payload: words, n. Reply: CRC-32 of n words of memory from `address` on."""
    RESET = 6
    """Reset the kernel, but not the memory."""


class Answer(enum.IntEnum):
    """Result of a request."""

    DONE = 0
    DAMAGED = 1
    """Its CRC was wrong; nothing was done."""
    UNKNOWN = 2
    """There is no such operation; nothing was done."""
    OUTSIDE = 3
    """It reaches beyond the memory; nothing was done."""


REQUEST = Record(
    "REQUEST",
    (
        Field("sync", 8, "REQUEST_SYNC"),
        Field("operation", 8, "an `Operation`"),
        Field("sequence", 8, "different from the request before, the same if sent again"),
        Field("count", 8, "words - 1"),
        Field("address", 32, "byte address, of a word"),
    ),
)
"""Header of a request."""

REPLY = Record(
    "REPLY",
    (
        Field("sync", 8, "REPLY_SYNC"),
        Field("answer", 8, "an `Answer`"),
        Field("sequence", 8, "that of the request"),
        Field("count", 8, "words of the payload - 1; 0 too if there is none"),
    ),
)
"""Header of a reply. It has a payload if it is `Answer.DONE` and the operation says so."""

IDENTITY = Record(
    "IDENTITY",
    (
        Field("version", 32, "LINK_VERSION"),
        Field("memory_bytes", 32, "size of the memory"),
        Field("clock_khz", 32, "clock of the kernel"),
    ),
)
"""Identity of a board."""


class FrameError(ValueError):
    """Bytes that are not the reply waited for. One line: what is wrong with them."""


@dataclass(frozen=True)
class Reply:
    """A reply, taken apart.

    Attributes
    ----------
    answer : Answer
        How the request went.
    payload : bytes
        Whole words; empty unless `answer` is `Answer.DONE`.
    """

    answer: Answer
    payload: bytes


def request_words(operation: Operation, count: int) -> int:
    """Words of the payload of a request."""
    if operation in (Operation.WRITE_MEMORY, Operation.WRITE_REGISTERS):
        return count
    return 1 if operation is Operation.CHECKSUM else 0


def reply_words(operation: Operation, count: int) -> int:
    """Words of the payload of a reply, if all went well."""
    if operation in (Operation.READ_MEMORY, Operation.READ_REGISTERS):
        return count
    if operation is Operation.IDENTIFY:
        return IDENTITY.bits // (8 * WORD_BYTES)
    return 1 if operation is Operation.CHECKSUM else 0


def pack_request(
    operation: Operation, sequence: int, *, address: int = 0, count: int = 1, payload: bytes = b""
) -> bytes:
    """A request as it is sent.

    Raises
    ------
    ValueError
        If a field is out of range, or the payload is not as long as the operation needs it.
    """
    if not 1 <= count <= MAX_WORDS:
        raise ValueError(f"REQUEST.count must be 1..{MAX_WORDS} words, not {count}")
    if address % WORD_BYTES:
        raise ValueError(f"REQUEST.address must be a multiple of {WORD_BYTES}, not {address:#x}")
    expected = WORD_BYTES * request_words(operation, count)
    if len(payload) != expected:
        raise ValueError(f"{operation.name} needs {expected} bytes of payload, not {len(payload)}")
    header = REQUEST.pack(
        sync=REQUEST_SYNC,
        operation=operation,
        sequence=sequence,
        count=count - 1,
        address=address,
    )
    frame = header.to_bytes(REQUEST.bits // 8, "little") + payload
    return frame + zlib.crc32(frame).to_bytes(CRC_BYTES, "little")


def unpack_reply(frame: bytes, sequence: int) -> Reply:
    """Check a reply and take it apart.

    Parameters
    ----------
    frame : bytes
        The frame, from sync byte to CRC.
    sequence : int
        Sequence number of the request.

    Raises
    ------
    FrameError
        If it is too short, damaged, or the reply to another request.
    """
    header_bytes = REPLY.bits // 8
    if len(frame) < header_bytes + CRC_BYTES or len(frame) % WORD_BYTES:
        raise FrameError(f"{len(frame)} bytes are not a reply")
    body, crc = frame[:-CRC_BYTES], int.from_bytes(frame[-CRC_BYTES:], "little")
    if zlib.crc32(body) != crc:
        raise FrameError(f"the CRC is {crc:08x}, not {zlib.crc32(body):08x}")
    header = REPLY.unpack(int.from_bytes(body[:header_bytes], "little"))
    if header["sync"] != REPLY_SYNC or header["answer"] not in Answer.__members__.values():
        raise FrameError(f"bytes {body[:header_bytes].hex()} are not the header of a reply")
    if header["sequence"] != sequence:
        raise FrameError(f"it answers request {header['sequence']}, not {sequence}")
    return Reply(Answer(header["answer"]), body[header_bytes:])
