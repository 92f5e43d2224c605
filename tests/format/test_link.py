import zlib
from typing import Any

import pytest

from trencadis_format import link
from trencadis_format.link import Answer, FrameError, Operation, pack_request, unpack_reply


def reply(answer: int = 0, sequence: int = 7, payload: bytes = b"", sync: int = 0x5A) -> bytes:
    body = bytes([sync, answer, sequence, max(len(payload) // 4 - 1, 0)]) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_request_byte_by_byte() -> None:
    """The format is a promise to boards that are out there: change LINK_VERSION with it."""
    frame = pack_request(Operation.WRITE_MEMORY, 9, address=0x1234, count=2, payload=b"12345678")
    assert link.LINK_VERSION == 1
    assert frame[:-4] == bytes.fromhex("a5 02 09 01 34 12 00 00") + b"12345678"
    assert int.from_bytes(frame[-4:], "little") == zlib.crc32(frame[:-4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count must be 1..256 words, not 0"),
        ({"count": 257}, "count must be 1..256 words, not 257"),
        ({"address": 2}, "address must be a multiple of 4, not 0x2"),
        ({"payload": b"1234"}, "READ_MEMORY needs 0 bytes of payload, not 4"),
        ({"address": 1 << 32}, "REQUEST.address must be in"),
    ],
)
def test_requests_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"address": 0, "count": 1, "payload": b""}
    with pytest.raises(ValueError, match=message):
        pack_request(Operation.READ_MEMORY, 1, **(fields | changes))


def test_reply() -> None:
    got = unpack_reply(reply(payload=b"abcd"), 7)
    assert (got.answer, got.payload) == (Answer.DONE, b"abcd")
    assert unpack_reply(reply(answer=3), 7).answer is Answer.OUTSIDE


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "0 bytes are not a reply"),
        (reply()[:-1], "7 bytes are not a reply"),
        (reply()[:-1] + b"\0", "the CRC is"),
        (reply(sequence=8), "it answers request 8, not 7"),
        (reply(answer=9), "are not the header of a reply"),
        (reply(sync=0xA5), "are not the header of a reply"),
    ],
)
def test_what_is_no_reply(frame: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        unpack_reply(frame, 7)


def test_every_single_bit_is_checked() -> None:
    frame = reply(payload=b"abcdefgh")
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            unpack_reply(bytes(damaged), 7)


def test_words_of_payloads() -> None:
    carries = {op: link.request_words(op, 5) for op in Operation}
    returns = {op: link.reply_words(op, 5) for op in Operation}
    assert {op.name for op in Operation if carries[op] == 5} == {"WRITE_MEMORY", "WRITE_REGISTERS"}
    assert {op.name for op in Operation if returns[op] == 5} == {"READ_MEMORY", "READ_REGISTERS"}
    assert (carries[Operation.CHECKSUM], returns[Operation.CHECKSUM]) == (1, 1)
    assert returns[Operation.IDENTIFY] == 3
