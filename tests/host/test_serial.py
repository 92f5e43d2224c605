import os
import tty
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from trencadis_host import serial as serial_module
from trencadis_host.device import DeviceError
from trencadis_host.serial import SerialLink
from trencadis_host.wire import SerialPort, WireError
from trencadis_hw import link
from trencadis_hw.link import Answer, Operation

BAUD = 1_000_000


@dataclass
class Board:
    """A board that keeps to the protocol, as a wire; `harm` may spoil what is on it."""

    memory: bytearray = field(default_factory=lambda: bytearray(4096))
    identity: dict[str, int] = field(
        default_factory=lambda: {"version": 1, "memory_bytes": 4096, "clock_khz": 25_000}
    )
    harm: list[str] = field(default_factory=list)
    pending: bytes = b""
    late: bytes = b""
    last: int | None = None
    done: list[Operation] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        kind = self.harm.pop(0) if self.harm else ""
        self.pending, self.late = self.pending + self.late, b""
        if kind == "request lost":
            return
        if kind == "request damaged":
            data = data[:-1] + bytes([data[-1] ^ 1])
        reply = self.answer(data)
        if kind == "reply lost":
            return
        if kind == "reply late":
            self.late = reply
            return
        if kind == "reply damaged":
            reply = reply[:-1] + bytes([reply[-1] ^ 1])
        if kind == "reply cut":
            reply = reply[:5]
        if kind == "noise first":
            reply = b"\x00\xff" + reply
        self.pending += reply

    def answer(self, data: bytes) -> bytes:
        header = link.REQUEST.unpack(int.from_bytes(data[:8], "little"))
        body, crc = data[:-4], int.from_bytes(data[-4:], "little")
        if zlib.crc32(body) != crc:
            return self.reply(Answer.DAMAGED, header["sequence"])
        operation, count = Operation(header["operation"]), header["count"] + 1
        address, payload = header["address"], body[8:]
        repeated = header["sequence"] == self.last
        self.last = header["sequence"]
        if not repeated:
            self.done.append(operation)
        result = b""
        if operation is Operation.IDENTIFY:
            result = link.IDENTITY.pack(**self.identity).to_bytes(12, "little")
        elif address + 4 * count > len(self.memory):
            return self.reply(Answer.OUTSIDE, header["sequence"])
        elif operation is Operation.WRITE_MEMORY and not repeated:
            self.memory[address : address + 4 * count] = payload
        elif operation is Operation.READ_MEMORY:
            result = bytes(self.memory[address : address + 4 * count])
        elif operation is Operation.CHECKSUM:
            size = 4 * int.from_bytes(payload, "little")
            result = zlib.crc32(self.memory[address : address + size]).to_bytes(4, "little")
        return self.reply(Answer.DONE, header["sequence"], result)

    def reply(self, answer: Answer, sequence: int, payload: bytes = b"") -> bytes:
        body = link.REPLY.pack(
            sync=link.REPLY_SYNC,
            answer=answer,
            sequence=sequence,
            count=max(len(payload) // 4 - 1, 0),
        ).to_bytes(4, "little")
        body += payload
        return body + zlib.crc32(body).to_bytes(4, "little")

    def receive(self, count: int, timeout_s: float) -> bytes:
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    def drain(self) -> None:
        self.pending = self.late = b""

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_module, "REPLY_TIMEOUT_S", 0.002)


def test_memory_in_pieces() -> None:
    board = Board()
    serial = SerialLink(board, "x", BAUD)
    assert (serial.memory_bytes, serial.clock_khz) == (4096, 25_000)
    data = bytes(i * 7 % 256 for i in range(3000))
    serial.write_memory(8, data)
    assert serial.read_memory(8, 3000) == data
    assert serial.checksum(8, 3000) == zlib.crc32(data)
    assert board.done.count(Operation.WRITE_MEMORY) == 3
    assert serial.statistics.repeats == 0


@pytest.mark.parametrize(
    "kind", ["request lost", "request damaged", "reply lost", "reply damaged", "reply cut"]
)
@pytest.mark.parametrize("times", [1, 3])
def test_harm_is_repaired(kind: str, times: int) -> None:
    board = Board()
    serial = SerialLink(board, "x", BAUD)
    board.harm = [kind] * times
    serial.write_memory(0, b"12345678")
    assert board.memory[:8] == b"12345678"
    assert serial.statistics.repeats == times
    assert board.done.count(Operation.WRITE_MEMORY) == 1


def test_late_reply_is_not_taken_for_the_next_one() -> None:
    board = Board()
    serial = SerialLink(board, "x", BAUD)
    board.harm = ["reply late"]
    serial.write_memory(0, b"12345678")
    assert serial.read_memory(0, 8) == b"12345678"
    assert serial.statistics.repeats == 1


def test_noise_before_a_reply_is_skipped() -> None:
    board = Board(harm=["noise first"])
    assert SerialLink(board, "x", BAUD).statistics.repeats == 0


def test_broken_link_is_given_up() -> None:
    board = Board()
    serial = SerialLink(board, "dev", BAUD)
    board.harm = ["reply lost"] * 100
    with pytest.raises(DeviceError, match="device dev: the link is broken: 8 times READ_MEMORY"):
        serial.read_memory(0, 4)


def test_no_board() -> None:
    with pytest.raises(DeviceError, match="device dev: no board answers at 1000000 baud"):
        SerialLink(Board(harm=["request lost"] * 100), "dev", BAUD)


def test_board_of_another_version() -> None:
    board = Board()
    board.identity["version"] = 2
    with pytest.raises(DeviceError, match="the board speaks version 2 of the link, this program 1"):
        SerialLink(board, "dev", BAUD)


def test_refusal_is_an_error() -> None:
    serial = SerialLink(Board(), "dev", BAUD)
    with pytest.raises(DeviceError, match="the board refused READ_MEMORY at 0x1000: OUTSIDE"):
        serial.read_memory(4096, 4)


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    tty.setraw(master)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_port_carries_every_byte(terminal: tuple[int, str]) -> None:
    master, path = terminal
    everything = bytes(range(256))
    with SerialPort(path, BAUD) as port:
        port.send(everything)
        assert os.read(master, 512) == everything
        os.write(master, everything)
        assert port.receive(256, 1.0) == everything
        assert port.receive(1, 0.01) == b""
        os.write(master, b"old")
        port.receive(1, 1.0)
        port.drain()
        assert port.receive(1, 0.01) == b""


def test_port_is_used_by_one(terminal: tuple[int, str]) -> None:
    _, path = terminal
    with SerialPort(path, BAUD), pytest.raises(WireError, match="is used by another program"):
        SerialPort(path, BAUD)
    SerialPort(path, BAUD).close()


def test_ports_that_cannot_be() -> None:
    with pytest.raises(WireError, match="/dev/no-such-port: there is no such port"):
        SerialPort("/dev/no-such-port", BAUD)
    with pytest.raises(WireError, match="/dev/null: is not a serial port"):
        SerialPort("/dev/null", BAUD)
    with pytest.raises(WireError, match="this system has no rate of 1234567 baud"):
        SerialPort("/dev/null", 1_234_567)
