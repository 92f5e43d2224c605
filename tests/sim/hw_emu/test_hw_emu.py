"""The simulator's side of XRT's emulation protocol, with a driver of the tests' own."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trencadis_host.devices.xrt.xclbin import Bank
from trencadis_sim.hw_emu.card import Card, CardError
from trencadis_sim.hw_emu.environment import settings, variables, write_environment
from trencadis_sim.hw_emu.memory import DeviceMemory
from trencadis_sim.hw_emu.messages import (
    CALL_HEADER_BYTES,
    LAYOUTS,
    Call,
    call_header,
    parse_call,
    parse_call_header,
    response,
)
from trencadis_sim.hw_emu.server import connect, serve
from trencadis_sim.hw_emu.unit import DONE, IDLE, READY, START, ComputeUnit
from trencadis_sim.hw_emu.wire import WireError, decode, encode, fixed32, fixed64

BASE = 0x1800000


class Counter:
    """A kernel that is busy for as many cycles as register 0x10 says."""

    def __init__(self) -> None:
        self.registers: dict[int, int] = {}
        self.left = 0
        self.done = False
        self.cycles = 0

    def write(self, register: int, value: int) -> None:
        if register == 0 and value & START:
            self.left = self.registers.get(0x10, 0)
            if self.left == 13:
                raise RuntimeError("an unlucky number")
        else:
            self.registers[register] = value

    def read(self, register: int) -> int:
        if register:
            return self.registers.get(register, 0)
        value = (DONE | READY if self.done else 0) | (0 if self.left else IDLE)
        self.done = False
        return value

    def advance(self, cycles: int) -> int:
        passed = min(cycles, self.left)
        self.cycles += passed
        if self.left and passed == self.left:
            self.done = True
        self.left -= passed
        time.sleep(0.0002)
        return cycles


@pytest.fixture
def kernel() -> Counter:
    return Counter()


@pytest.fixture
def card(kernel: Counter) -> Iterator[Card]:
    made = Card(DeviceMemory(1 << 20), {BASE: ComputeUnit("unit", kernel)}, 0x10000)
    yield made
    made.stop()


def ask(card: Card, call: Call, fields: dict[int, int | bytes]) -> dict[int, int | bytes]:
    answer = card.answer(call, memoryview(encode(fields)))
    size = dict(decode(answer[:9]))[1]
    assert size == len(answer) - 9
    return {n: v if isinstance(v, int) else bytes(v) for n, v in decode(answer[9:])}


@given(
    st.dictionaries(
        st.integers(1, 1000),
        st.integers(0, (1 << 64) - 1)
        | st.binary(max_size=300)
        | st.integers(0, (1 << 64) - 1).map(fixed64)
        | st.integers(0, (1 << 32) - 1).map(fixed32),
    )
)
def test_what_is_encoded_is_decoded(fields: dict[int, int | bytes]) -> None:
    assert dict(decode(encode(fields))) == fields


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        # Examples of the public description of the encoding.
        (b"\x08\x96\x01", {1: 150}),
        (b"\x12\x07testing", {2: b"testing"}),
        (b"\x09" + bytes(range(8)), {1: int.from_bytes(bytes(range(8)), "little")}),
        (b"\x15\x01\x02\x03\x04", {2: 0x04030201}),
    ],
)
def test_known_messages(message: bytes, fields: dict[int, int | bytes]) -> None:
    assert dict(decode(message)) == fields


@given(st.binary(max_size=60))
def test_damaged_messages_are_refused(message: bytes) -> None:
    with contextlib.suppress(WireError):
        assert all(number >= 0 for number, _ in decode(message))


def test_headers_are_always_of_the_same_length() -> None:
    for size in (0, 1, 1 << 31):
        header = call_header(Call.COPY_TO_DEVICE, size)
        assert len(header) == CALL_HEADER_BYTES
        assert parse_call_header(header) == (Call.COPY_TO_DEVICE, size)
    assert response(Call.CLOSE, valid=1) == b"\x09\x02" + bytes(7) + b"\x08\x01"


def test_missing_fields_are_named() -> None:
    with pytest.raises(WireError, match="COPY_TO_DEVICE has no data, size"):
        parse_call(Call.COPY_TO_DEVICE, encode({3: 5}))


def test_copies(card: Card) -> None:
    sent = ask(card, Call.COPY_TO_DEVICE, {2: b"x", 3: 4096, 4: b"abcdef", 5: 6, 6: 0, 7: 1})
    assert sent == {1: 6}
    got = ask(card, Call.COPY_TO_HOST, {2: b"x", 3: b"", 4: 4098, 5: 6, 6: 0})
    assert got == {1: 6, 2: b"cdef\0\0"}
    assert ask(card, Call.WRITE_MEMORY, {2: 0, 3: 2, 4: b"hi!"}) == {1: 1}
    assert ask(card, Call.READ_MEMORY, {2: 0, 3: 3}) == {1: 1, 2: b"hi\0"}


@pytest.mark.parametrize(("address", "size"), [((1 << 20) - 3, 4), (1 << 63, 1), (0, 1 << 21)])
def test_accesses_outside_memory_are_refused(card: Card, address: int, size: int) -> None:
    with pytest.raises(ValueError, match="an access must lie in 1048576 bytes"):
        ask(card, Call.COPY_TO_HOST, {2: b"", 3: b"", 4: address, 5: size, 6: 0})


def test_registers(card: Card) -> None:
    ask(card, Call.WRITE_KERNEL, {2: BASE + 0x10, 3: 8, 4: bytes(range(8))})
    got = ask(card, Call.READ_KERNEL, {2: BASE + 0x14, 3: 4})
    assert got == {1: 1, 2: bytes([4, 5, 6, 7])}
    ask(card, Call.WRITE_REGISTER, {1: BASE, 2: 0x20, 3: b"\x07\0\0\0"})
    assert ask(card, Call.READ_REGISTER, {1: BASE, 2: 0x20, 3: 4})[2] == b"\x07\0\0\0"
    with pytest.raises(CardError, match="0x1900000, where there are none"):
        ask(card, Call.READ_KERNEL, {2: 0x1900000, 3: 4})


def control(card: Card) -> int:
    answer = ask(card, Call.READ_KERNEL, {2: BASE, 3: 4})[2]
    assert isinstance(answer, bytes)
    return int.from_bytes(answer, "little")


def test_a_run_is_done_once(card: Card, kernel: Counter) -> None:
    for run in range(1, 4):
        ask(card, Call.WRITE_KERNEL, {2: BASE + 0x10, 3: 4, 4: (5000).to_bytes(4, "little")})
        ask(card, Call.WRITE_KERNEL, {2: BASE, 3: 4, 4: b"\x01\0\0\0"})
        states = [control(card)]
        while not states[-1] & DONE:
            assert len(states) < 10_000
            states.append(control(card))
        assert all(state == 0 for state in states[:-1])
        assert states[-1] == DONE | READY | IDLE
        assert control(card) == IDLE
        assert kernel.cycles == run * 5000


def test_the_clock_stands_still_between_runs(card: Card, kernel: Counter) -> None:
    time.sleep(0.02)
    assert kernel.cycles == 0


def test_a_simulation_that_fails_tells_the_driver(card: Card, kernel: Counter) -> None:
    def fail(cycles: int) -> int:
        raise ZeroDivisionError("a fault of the simulation")

    kernel.advance = fail  # type: ignore[method-assign]
    ask(card, Call.WRITE_KERNEL, {2: BASE + 0x10, 3: 4, 4: b"\x05\0\0\0"})
    ask(card, Call.WRITE_KERNEL, {2: BASE, 3: 4, 4: b"\x01\0\0\0"})

    def poll() -> None:
        for _ in range(1000):
            control(card)

    with pytest.raises(ZeroDivisionError):
        poll()


def test_unknown_calls_are_refused(card: Card) -> None:
    with pytest.raises(CardError, match="call 43, which a card"):
        card.answer(43, memoryview(b""))


def test_every_call_has_a_layout_and_an_answer(card: Card) -> None:
    assert set(LAYOUTS) == set(Call)
    for call in (Call.ENVIRONMENT, Call.DEBUG_MESSAGES, Call.TIMESTAMP, Call.READ_TRACE):
        ask(card, call, {})
    assert ask(card, Call.SETUP_INSTANCE, {1: 3}) == {1: 1}
    assert ask(card, Call.ALLOCATE, {1: 0, 2: 4096}) == {1: 1}
    assert ask(card, Call.FREE, {1: 0}) == {1: 1}


def test_a_conversation_over_a_socket(card: Card) -> None:
    driver, simulator = socket.socketpair()
    listener, host_memory = socket.socketpair()
    results = []
    server = threading.Thread(target=lambda: results.append(serve(card, simulator, host_memory)))
    server.start()
    message = encode({2: 0, 3: 4, 4: b"wxyz"})
    packet = call_header(Call.WRITE_MEMORY, len(message)) + message
    for part in (packet[:3], packet[3:20], packet[20:]):
        driver.sendall(part)
    assert driver.recv(100) == response(Call.WRITE_MEMORY, valid=1)
    driver.sendall(call_header(Call.CLOSE, 0))
    assert driver.recv(100) == response(Call.CLOSE, valid=1)
    # The driver's other thread is told first, or the driver would wait for it.
    assert parse_call_header(listener.recv(100)) == (Call.CLOSE, 0)
    server.join(10)
    assert results == [True]
    for connection in (driver, simulator, listener, host_memory):
        connection.close()


@pytest.mark.parametrize("sent", [b"", call_header(Call.FREE, 10), call_header(Call.FREE, 10)[:5]])
def test_a_driver_that_goes_away_ends_the_server(card: Card, sent: bytes) -> None:
    driver, simulator = socket.socketpair()
    driver.sendall(sent)
    driver.close()
    assert serve(card, simulator) is False
    simulator.close()


def test_a_socket_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:

        def listen() -> None:
            time.sleep(0.1)
            listener.bind(str(path))
            listener.listen()

        thread = threading.Thread(target=listen)
        thread.start()
        connect(path, 10).close()
        thread.join()
    with pytest.raises(TimeoutError, match="no driver listens"):
        connect(tmp_path / "none", 0.05)


def test_the_first_message_is_longer_than_all_that_follow() -> None:
    """XRT 2.13's driver corrupts its message buffer when that has to grow."""
    packet = next(line for line in settings().split("\n") if line.startswith("packet_size="))
    padding = next(line for line in settings().split("\n") if line.startswith("padding="))
    assert len(padding) > 2 * int(packet.partition("=")[2])


def test_an_environment_is_written_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "libraries").mkdir()
    for name in ("libxrt_hwemu.so.2", "libxrt_core.so.2", "libother.so"):
        (tmp_path / "libraries" / name).touch()
    folder = tmp_path / "it's here"
    banks = [Bank("D", 0, 3 << 30, True)]
    libraries = [tmp_path / "libraries"]
    write_environment(folder, "board", banks, libraries=libraries)
    values = write_environment(folder, "board", banks, cards=2, libraries=libraries)
    assert values == variables(folder)
    assert values["USER"] == f"trencadis-{os.getuid()}"
    assert sorted(entry.name for entry in (folder / "xrt" / "lib").iterdir()) == [
        "libxrt_core.so.2",
        "libxrt_hwemu.so.2",
    ]
    text = (folder / "env.sh").read_text()
    assert "export XCL_EMULATION_MODE=hw_emu\n" in text
    assert '"NumDevices": "2"' in (folder / "emconfig.json").read_text()
    assert '"Size": "4GB"' in (folder / "emconfig.json").read_text()


def test_an_environment_is_written_by_several_at_once(tmp_path: Path) -> None:
    libraries = [tmp_path / f"libraries{number}" for number in range(2)]
    for folder in libraries:
        folder.mkdir()
        for name in ("libxrt_hwemu.so.2", "libxrt_core.so.2"):
            (folder / name).touch()
    folder = tmp_path / "emulation"
    banks = [Bank("D", 0, 1 << 30, True)]
    write_environment(folder, "board", banks, libraries=libraries)
    stop = threading.Event()

    def write(number: int) -> None:
        for turn in range(40):
            cards = 1 + (number + turn) % 2
            write_environment(folder, "board", banks, cards=cards, libraries=libraries[turn % 2 :])

    def read() -> None:
        while not stop.is_set():
            json.loads((folder / "emconfig.json").read_text())
            assert (folder / "xrt.ini").read_text() == settings()
            assert (folder / "xrt" / "lib" / "libxrt_hwemu.so.2").exists()

    with ThreadPoolExecutor(4) as threads:
        reader = threads.submit(read)
        for writer in [threads.submit(write, number) for number in range(3)]:
            writer.result(60)
        stop.set()
        reader.result(10)
