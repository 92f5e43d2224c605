import os
import tty
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from trencadis_format import link
from trencadis_format.image import ABI_VERSION
from trencadis_format.link import Answer, Operation
from trencadis_format.overlay import Overlay
from trencadis_format.registers import STATISTICS, Command, Register, Status
from trencadis_host import errors as faults
from trencadis_host.devices.emulator.device import Emulator
from trencadis_host.devices.protocol import DeviceError, DeviceOptions
from trencadis_host.devices.serial import device as serial_module
from trencadis_host.devices.serial import wire
from trencadis_host.devices.serial.device import SerialBoard, SerialLink, open_device
from trencadis_host.devices.serial.wire import SerialPort, WireError

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
        if kind == "reply empty":
            reply = self.reply(Answer.DONE, reply[2])
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
    with pytest.raises(
        faults.DeviceLostError, match="device dev: the link is broken: 8 times READ"
    ):
        serial.read_memory(0, 4)


def test_no_board() -> None:
    with pytest.raises(faults.DeviceNotFoundError, match="dev: no board answers at 1000000 baud"):
        SerialLink(Board(harm=["request lost"] * 100), "dev", BAUD)


def test_board_of_another_version() -> None:
    board = Board()
    board.identity["version"] = 2
    with pytest.raises(faults.WrongBitstreamError, match="speaks version 2 of the link, this prog"):
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


@pytest.mark.parametrize(
    ("there", "remedy"),
    [
        ([], "connect the board: no USB serial adapter was found"),
        (
            ["/dev/ttyUSB3", "/dev/ttyACM0"],
            "connect the board, or use /dev/ttyUSB3 or /dev/ttyACM0",
        ),
    ],
)
def test_ports_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, there: list[str], remedy: str
) -> None:
    monkeypatch.setattr("trencadis_host.devices.serial.wire.serial_ports", lambda: there)
    with pytest.raises(WireError) as caught:
        SerialPort("/dev/no-such-port", BAUD)
    assert str(caught.value) == f"/dev/no-such-port: there is no such port; {remedy}"


def test_ports_that_cannot_be() -> None:
    with pytest.raises(WireError, match="/dev/null: is not a serial port"):
        SerialPort("/dev/null", BAUD)
    with pytest.raises(WireError, match="this system has no rate of 1234567 baud"):
        SerialPort("/dev/null", 1_234_567)


def test_port_that_takes_nothing(
    terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "STALL_S", 0.1)
    with (
        SerialPort(terminal[1], BAUD) as port,
        pytest.raises(WireError, match=r"has taken no byte for 0\.1 s"),
    ):
        port.send(bytes(1 << 20))


@pytest.mark.parametrize("busy", [True, False])
def test_ports_that_cannot_be_opened_have_names(
    terminal: tuple[int, str], overlay: Overlay, busy: bool
) -> None:
    path, error = "/dev/no-such-port", faults.DeviceNotFoundError
    if busy:
        path, error = terminal[1], faults.DeviceBusyError
    with SerialPort(terminal[1], BAUD), pytest.raises(error, match=f"^device serial: {path}: "):
        open_device(path, overlay, DeviceOptions())


class FakeLink:
    """A link to a board whose kernel is the emulator; a run is over at the third look."""

    def __init__(self, overlay: Overlay, memory_bytes: int = 8192) -> None:
        self.overlay = overlay
        self.memory_bytes = memory_bytes
        self.memory = bytearray(memory_bytes)
        self.version = ABI_VERSION
        self.configuration = overlay.kernel.digest
        self.registers: dict[int, int] = {}
        self.resets = 0
        self.left: int | None = None
        self.pending = self.loaded = False
        self.status = Status(0)
        self.error: BaseException | None = None
        self.silent = self.hanging = False
        self.closed = False

    def checksum(self, address: int, size: int) -> int:
        return zlib.crc32(self.memory[address : address + size])

    def read_memory(self, address: int, size: int) -> bytes:
        return bytes(self.memory[address : address + size])

    def write_memory(self, address: int, data: bytes) -> None:
        self.memory[address : address + len(data)] = data

    def read_register(self, register: int) -> int:
        if register != Register.INTERRUPT_STATUS:
            configuration = self.configuration >> 32 * (register != Register.CONFIGURATION)
            return self.version if register == Register.VERSION else configuration & 0xFFFFFFFF
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if self.left is not None and not self.hanging:
            self.left -= 1
            if self.left <= 0:
                self.finish()
        return int(self.pending)

    def write_registers(self, register: int, *values: int) -> None:
        self.registers |= {register + 4 * i: value for i, value in enumerate(values)}
        if register == Register.CONTROL and self.left is None:
            self.left = 3
        if register == Register.INTERRUPT_STATUS:
            self.pending ^= bool(values[0])

    def finish(self) -> None:
        at, self.left, self.pending = self.registers, None, True
        if self.silent:
            return
        command = Command(at[Register.COMMAND])
        self.loaded = self.loaded or bool(command & Command.LOAD)
        status = self.status or Status.NO_IMAGE * (not self.loaded)
        count = at[Register.SAMPLES]
        packed = self.read_memory(at[Register.INPUT], count * self.overlay.input_bytes)
        results, _ = Emulator(self.overlay).run(np.frombuffer(packed, np.uint8).reshape(count, -1))
        self.write_memory(at[Register.OUTPUT], results.tobytes())
        record = dict.fromkeys(STATISTICS.unpack(0), 0) | {"samples": count, "cycles": 10}
        record |= {"version": ABI_VERSION, "status": status}
        self.write_memory(
            at[Register.STATISTICS],
            STATISTICS.pack(**record).to_bytes(STATISTICS.bits // 8, "little"),
        )

    def reset(self) -> None:
        self.resets += 1
        self.left = None
        self.pending = self.loaded = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake(overlay: Overlay) -> FakeLink:
    return FakeLink(overlay)


def opened(fake: Any, timeout_s: float = 60) -> SerialBoard:
    return SerialBoard(fake, "serial:x", fake.overlay, DeviceOptions(timeout_s=timeout_s))


def test_runs_one_after_the_other(fake: FakeLink, samples: Any, expected: Any) -> None:
    with opened(fake) as board:
        for count in (3, 1, 1000):
            results, statistics = board.run(samples(count, count))
            assert np.array_equal(results, expected(samples(count, count)))
            assert statistics.samples == count
    assert fake.closed


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("over", [True, False])
def test_ctrl_c_leaves_nothing_for_the_next_run(
    fake: FakeLink, samples: Any, expected: Any, loaded: bool, over: bool
) -> None:
    with opened(fake) as board:
        if loaded:
            board.run(samples(3))
        fake.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            board.run(samples(4, 1))
        if over:
            fake.finish()
        results, _ = board.run(samples(3, 2))
        assert np.array_equal(results, expected(samples(3, 2)))


def test_a_run_that_an_earlier_program_left_is_ended(
    fake: FakeLink, samples: Any, expected: Any
) -> None:
    with opened(fake) as board:
        fake.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            board.run(samples(4, 1))
        fake.finish()
    with opened(fake) as board:
        assert np.array_equal(board.run(samples(3))[0], expected(samples(3)))


def test_a_kernel_that_reports_nothing(fake: FakeLink, samples: Any, expected: Any) -> None:
    with opened(fake) as board:
        board.run(samples(3))
        fake.silent = True
        with pytest.raises(faults.DeviceLostError, match="reported version 0 of the formats and 0"):
            board.run(samples(3))
        fake.silent = False
        assert np.array_equal(board.run(samples(3))[0], expected(samples(3)))


def test_the_image_is_loaded_again_after_an_error(
    fake: FakeLink, samples: Any, expected: Any
) -> None:
    with opened(fake) as board:
        board.run(samples(1))
        fake.status = Status.READ_ERROR
        with pytest.raises(DeviceError, match="reading device memory failed"):
            board.run(samples(1))
        fake.status, fake.loaded = Status(0), False
        assert np.array_equal(board.run(samples(3))[0], expected(samples(3)))


def test_a_kernel_that_never_finishes(fake: FakeLink, samples: Any, expected: Any) -> None:
    with opened(fake, timeout_s=0.02) as board:
        fake.hanging = True
        with pytest.raises(faults.DeviceTimeoutError, match=r"^device serial:x: no result after "):
            board.run(samples(3))
        fake.hanging = False
        board._options = DeviceOptions(timeout_s=60)
        assert np.array_equal(board.run(samples(3))[0], expected(samples(3)))


def test_another_kernel_is_refused_by_name(fake: FakeLink) -> None:
    fake.configuration += 1
    with pytest.raises(faults.WrongImageError, match="compile the model for this board"):
        opened(fake)
    fake.version += 1
    with pytest.raises(faults.WrongBitstreamError, match="rebuild the board's bitstream"):
        opened(fake)


def test_a_network_that_is_too_large_is_refused_by_name(overlay: Overlay) -> None:
    with pytest.raises(faults.DeviceMemoryError, match="the board has 256; choose a smaller"):
        opened(FakeLink(overlay, 256))


def test_a_closed_board(fake: FakeLink, samples: Any) -> None:
    board = opened(fake)
    board.close()
    with pytest.raises(faults.DeviceAbortedError, match="is closed"):
        board.run(samples(1))


@pytest.mark.parametrize(
    "ask",
    [
        lambda serial: serial.read_memory(0, 4),
        lambda serial: serial.read_register(0),
        lambda serial: serial.checksum(0, 4),
    ],
    ids=["memory", "register", "checksum"],
)
def test_a_peer_that_answers_without_a_payload(ask: Callable[[SerialLink], object]) -> None:
    """Its frames are right; what was asked for never comes."""
    board = Board()
    serial = SerialLink(board, "x", BAUD)
    board.harm = ["reply empty"] * 100
    with pytest.raises(faults.DeviceLostError, match="because 0 bytes came for 4 that were asked"):
        ask(serial)
    assert len(board.harm) == 100 - serial_module.TRIES


def test_no_request_is_sent_when_the_time_is_over() -> None:
    board = Board()
    serial = SerialLink(board, "x", BAUD)
    serial.deadline = 0.0
    with pytest.raises(faults.DeviceTimeoutError, match="time for the run is over at READ_MEMORY"):
        serial.read_memory(0, 4096)
    assert Operation.READ_MEMORY not in board.done
