"""The calls of XRT's emulation driver: numbers of calls and of their messages' fields.

These are facts of XRT's public message definitions. A call is a header of 14 bytes with the size
and the number of the call, and a message; an answer is a header of 9 bytes with its size, and a
message. Headers have fields of fixed size, so that they are always of the same length.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from trencadis_sim.hw_emu.wire import WireError, decode, encode, fixed32, fixed64

__all__ = [
    "CALL_HEADER_BYTES",
    "LAYOUTS",
    "Call",
    "Layout",
    "call_header",
    "parse_call",
    "parse_call_header",
    "response",
]

CALL_HEADER_BYTES = 14


class Call(enum.IntEnum):
    """Numbers of the calls that a card with memory-mapped kernels gets."""

    CLOSE = 1
    LOAD_BITSTREAM = 3
    ALLOCATE = 4
    FREE = 5
    COPY_TO_DEVICE = 6
    COPY_TO_HOST = 7
    WRITE_MEMORY = 8
    WRITE_KERNEL = 9
    READ_MEMORY = 10
    READ_KERNEL = 11
    READ_COUNTERS = 14
    TRACE_COUNT = 15
    READ_TRACE = 16
    TIMESTAMP = 17
    BUS_STATUS = 18
    DEBUG_MESSAGES = 19
    ENVIRONMENT = 20
    SETUP_INSTANCE = 28
    READ_STREAM_COUNTERS = 32
    READ_STREAM_TRACE = 33
    WRITE_REGISTER = 51
    READ_REGISTER = 52


@dataclass(frozen=True)
class Layout:
    """A call's message and its answer.

    Attributes
    ----------
    fields, answer : mapping of str to int
        Numbers of the fields of interest. Fields of the message that are not named are skipped.
    """

    fields: Mapping[str, int]
    answer: Mapping[str, int]


_COPY = {"address": 3, "data": 4, "size": 5}
_WRITE = {"address": 2, "size": 3, "data": 4}
_READ = {"address": 2, "size": 3}

LAYOUTS: Mapping[Call, Layout] = {
    Call.CLOSE: Layout({}, {"valid": 1}),
    Call.LOAD_BITSTREAM: Layout({}, {"valid": 1}),
    Call.ALLOCATE: Layout({"address": 1, "size": 2}, {"valid": 1}),
    Call.FREE: Layout({"address": 1}, {"valid": 1}),
    Call.COPY_TO_DEVICE: Layout(_COPY, {"size": 1}),
    Call.COPY_TO_HOST: Layout({"address": 4, "size": 5}, {"size": 1, "data": 2}),
    Call.WRITE_MEMORY: Layout(_WRITE, {"valid": 1}),
    Call.WRITE_KERNEL: Layout(_WRITE, {"valid": 1}),
    Call.READ_MEMORY: Layout(_READ, {"valid": 1, "data": 2}),
    Call.READ_KERNEL: Layout(_READ, {"valid": 1, "data": 2}),
    Call.READ_COUNTERS: Layout({}, {}),
    Call.TRACE_COUNT: Layout({}, {}),
    Call.READ_TRACE: Layout({}, {}),
    Call.TIMESTAMP: Layout({}, {"timestamp": 1}),
    Call.BUS_STATUS: Layout({}, {}),
    Call.DEBUG_MESSAGES: Layout({}, {}),
    Call.ENVIRONMENT: Layout({}, {"valid": 1}),
    Call.SETUP_INSTANCE: Layout({}, {"valid": 1}),
    Call.READ_STREAM_COUNTERS: Layout({}, {}),
    Call.READ_STREAM_TRACE: Layout({}, {}),
    Call.WRITE_REGISTER: Layout({"base": 1, "address": 2, "data": 3}, {"valid": 1}),
    Call.READ_REGISTER: Layout({"base": 1, "address": 2, "size": 3}, {"valid": 1, "data": 2}),
}


def call_header(call: Call, size: int) -> bytes:
    """The header of a call; 14 bytes."""
    return encode({1: fixed64(size), 2: fixed32(call)})


def parse_call_header(header: bytes) -> tuple[int, int]:
    """Number of the call, and size of its message.

    Raises
    ------
    WireError
        If it is none.
    """
    fields = dict(decode(header))
    size, number = fields.get(1), fields.get(2)
    if not isinstance(size, int) or not isinstance(number, int):
        raise WireError("the header of a call has no size or no number")
    return number, size


def parse_call(call: Call, message: bytes | memoryview) -> dict[str, int | memoryview]:
    """The fields of a call's message by name; the last one of a number counts.

    Raises
    ------
    WireError
        If the message is damaged, or lacks a field.
    """
    fields = dict(decode(message))
    layout = LAYOUTS[call].fields
    missing = [name for name, number in layout.items() if number not in fields]
    if missing:
        raise WireError(f"{call.name} has no {', '.join(missing)}")
    return {name: fields[number] for name, number in layout.items()}


def response(call: Call, **values: int | bytes) -> bytes:
    """An answer with its header."""
    layout = LAYOUTS[call].answer
    message = encode({layout[name]: value for name, value in values.items()})
    return encode({1: fixed64(len(message))}) + message
