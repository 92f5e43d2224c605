"""Protobuf messages read, and their fields written, without a package for it."""

from collections.abc import Iterator

__all__ = ["Field", "field_bytes", "fields", "text_field"]

Field = tuple[int, int, bytes]
"""Number, wire type, content; of numbers, as bytes."""


def text_field(message: bytes, wanted: int) -> str:
    """A string field, empty if it is not there."""
    for number, kind, data in fields(message):
        if number == wanted and kind == 2:
            return bytes(data).decode("utf-8", "replace")
    return ""


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a protobuf message: number, wire type, content; of numbers, as bytes."""
    view = memoryview(message)
    position, end = 0, len(view)
    while position < end:
        key, position = _varint(view, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(view, position)
            yield number, kind, value.to_bytes(10, "little").rstrip(b"\0") or b"\0"
            continue
        if kind == 2:
            length, position = _varint(view, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a message of protobuf is damaged (wire type {kind})")
        if length > end - position:
            raise ValueError("a message of protobuf is truncated")
        yield number, kind, view[position : position + length]  # type: ignore[misc]
        position += length


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            break
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a message of protobuf is truncated")


def field_bytes(number: int, content: bytes) -> bytes:
    """A field that holds bytes: a text or another message."""
    return _varint_bytes(number << 3 | 2) + _varint_bytes(len(content)) + content


def _varint_bytes(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
