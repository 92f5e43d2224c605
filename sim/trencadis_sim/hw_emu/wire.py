"""The wire format of protocol buffers, as far as XRT's emulation messages need it.

A message is a sequence of fields: a key (number and wire type) and a value. Values are taken and
given as integers or bytes under the fields' numbers; what they are called is in `messages.py`.
"""

import struct
from collections.abc import Iterator, Mapping

__all__ = ["WireError", "decode", "encode", "fixed32", "fixed64"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Value = int | bytes | memoryview


class WireError(ValueError):
    """Bytes are not a message. One line: what is wrong, and where."""


class fixed32(int):
    """An integer that is sent as 4 bytes whatever its size."""


class fixed64(int):
    """An integer that is sent as 8 bytes whatever its size."""


def encode(fields: Mapping[int, int | bytes]) -> bytes:
    """A message of these fields, in this order.

    Raises
    ------
    ValueError
        If an integer is negative, or more than 64 bits.
    """
    parts = []
    for number, value in fields.items():
        if isinstance(value, fixed64):
            parts += [_varint(number << 3 | FIXED64), struct.pack("<Q", value)]
        elif isinstance(value, fixed32):
            parts += [_varint(number << 3 | FIXED32), struct.pack("<I", value)]
        elif isinstance(value, int):
            parts += [_varint(number << 3 | VARINT), _varint(value)]
        else:
            parts += [_varint(number << 3 | BYTES), _varint(len(value)), value]
    return b"".join(parts)


def decode(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of a message's fields; bytes as views, without a copy.

    Raises
    ------
    WireError
        If the message is damaged.
    """
    view = memoryview(message)
    position = 0
    while position < len(view):
        key, position = _read_varint(view, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = _read_varint(view, position)
            yield number, value
            continue
        if kind == BYTES:
            size, position = _read_varint(view, position)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"field {number} has wire type {kind}, which is not known")
        if size > len(view) - position:
            raise WireError(f"field {number} ends {size - len(view) + position} bytes too late")
        data = view[position : position + size]
        position += size
        yield number, data if kind == BYTES else int.from_bytes(data, "little")


def _varint(value: int) -> bytes:
    if not 0 <= value < 1 << 64:
        raise ValueError(f"a number must be in 0..2**64 - 1, not {value}")
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(view):
            raise WireError("a number is cut off at the end of the message")
        byte = view[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, position
    raise WireError("a number has more than 64 bits")
