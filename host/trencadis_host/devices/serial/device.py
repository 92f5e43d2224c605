"""A board at the other end of a serial link, as a device."""

import math
import time
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_format import link
from trencadis_format.closing import Closing
from trencadis_format.image import ABI_VERSION
from trencadis_format.link import Answer, Operation
from trencadis_format.overlay import Overlay
from trencadis_format.registers import STATISTICS, Command, Register, Status
from trencadis_host.devices.protocol import DeviceError, DeviceOptions, Statistics, raise_for_status
from trencadis_host.devices.serial.wire import (
    BusyPortError,
    MissingPortError,
    SerialPort,
    Wire,
    WireError,
    serial_ports,
)
from trencadis_host.errors import (
    DeviceAbortedError,
    DeviceBusyError,
    DeviceLostError,
    DeviceMemoryError,
    DeviceNameError,
    DeviceNotFoundError,
    DeviceTimeoutError,
    WrongBitstreamError,
    WrongImageError,
)

__all__ = ["BAUD", "LinkStatistics", "SerialBoard", "SerialLink", "open_device"]

PackedBatch = npt.NDArray[np.uint8]

BAUD = 1_000_000
"""Bits per second, unless the device's name says otherwise; that of the ULX3S."""

TRIES = 8
"""Number of times that a request is sent before the link counts as broken."""

REPLY_TIMEOUT_S = 1.0
"""Until the first byte of a reply has come. Hubs and busy hosts hold bytes back for a while."""

POLL_S = 0.002
BEAT_ALIGNMENT = 64
"""Buffers begin at multiples of this: the longest beat."""


@dataclass
class LinkStatistics:
    """Traffic of a link.

    Attributes
    ----------
    requests : int
        Requests answered.
    repeats : int
        Requests sent again, since no usable reply came.
    """

    requests: int = 0
    repeats: int = 0


class SerialLink:
    """Requests to a board and its answers; damaged or lost ones are repeated.

    Parameters
    ----------
    wire : Wire
        What carries the bytes.
    name : str
        Named in errors.
    baud : int
        Bits per second: how long replies take.

    Attributes
    ----------
    deadline : float
        Time, as `time.monotonic` has it, after which no request is sent any more.
    statistics : LinkStatistics
        What went over the link.

    Raises
    ------
    DeviceNotFoundError
        If no board answers.
    WrongBitstreamError
        If it speaks another version of the protocol.
    """

    def __init__(self, wire: Wire, name: str, baud: int) -> None:
        self._wire = wire
        self._name = name
        self._byte_s = 10 / baud
        self._sequence = 0
        self.deadline = math.inf
        self.statistics = LinkStatistics()
        try:
            identity = link.IDENTITY.unpack(int.from_bytes(self._ask(Operation.IDENTIFY), "little"))
        except DeviceError as error:
            raise DeviceNotFoundError(
                f"device {name}: no board answers at {baud} baud; is it configured, and is the "
                f"rate right? ({error})"
            ) from error
        if identity["version"] != link.LINK_VERSION:
            raise WrongBitstreamError(
                f"device {name}: the board speaks version {identity['version']} of the link, this "
                f"program {link.LINK_VERSION}; rebuild the board's bitstream"
            )
        self.memory_bytes = identity["memory_bytes"]
        self.clock_khz = identity["clock_khz"]

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of the board's memory; address and size are multiples of 4."""
        data = b""
        while len(data) < size:
            count = min((size - len(data)) // 4, link.MAX_WORDS)
            data += self._ask(Operation.READ_MEMORY, address + len(data), count)
        return data

    def write_memory(self, address: int, data: bytes) -> None:
        """Put bytes into the board's memory; address and size are multiples of 4."""
        chunk = 4 * link.MAX_WORDS
        for start in range(0, len(data), chunk):
            part = data[start : start + chunk]
            self._ask(Operation.WRITE_MEMORY, address + start, len(part) // 4, part)

    def read_register(self, register: int) -> int:
        """A register of the kernel."""
        return int.from_bytes(self._ask(Operation.READ_REGISTERS, register), "little")

    def write_registers(self, register: int, *values: int) -> None:
        """Registers of the kernel, one after the other."""
        data = b"".join((value & 0xFFFFFFFF).to_bytes(4, "little") for value in values)
        self._ask(Operation.WRITE_REGISTERS, register, len(values), data)

    def checksum(self, address: int, size: int) -> int:
        """CRC-32, as `zlib` has it, of bytes of the board's memory."""
        payload = (size // 4).to_bytes(4, "little")
        return int.from_bytes(self._ask(Operation.CHECKSUM, address, 1, payload), "little")

    def reset(self) -> None:
        """Reset the kernel."""
        self._ask(Operation.RESET)

    def close(self) -> None:
        """Let go of the port."""
        self._wire.close()

    def _ask(
        self, operation: Operation, address: int = 0, count: int = 1, payload: bytes = b""
    ) -> bytes:
        """Send a request until it is answered; the payload of the reply."""
        self._sequence = (self._sequence + 1) % 256
        request = link.pack_request(
            operation, self._sequence, address=address, count=count, payload=payload
        )
        trouble = "nothing came back"
        try:
            for attempt in range(TRIES):
                if time.monotonic() > self.deadline:
                    raise DeviceTimeoutError(
                        f"device {self._name}: the time for the run is over at {operation.name}; "
                        "give it more time, or fewer samples"
                    )
                if attempt:
                    # Wait until the board has forgotten what it has of the request.
                    self.statistics.repeats += 1
                    time.sleep(1.25 * link.IDLE_BYTES * self._byte_s)
                    self._wire.drain()
                self._wire.send(request)
                try:
                    reply = self._reply(operation, count, len(request))
                except link.FrameError as error:
                    trouble = str(error)
                    continue
                if reply.answer is Answer.DAMAGED:
                    trouble = "the board got the request damaged"
                    continue
                if reply.answer is not Answer.DONE:
                    raise DeviceError(
                        f"device {self._name}: the board refused {operation.name} at {address:#x}: "
                        f"{reply.answer.name}"
                    )
                self.statistics.requests += 1
                return reply.payload
        except WireError as error:
            raise DeviceLostError(f"device {self._name}: {error}") from error
        raise DeviceLostError(
            f"device {self._name}: the link is broken: {TRIES} times {operation.name} without a "
            f"usable reply, the last time because {trouble}; check cable and rate"
        )

    def _reply(self, operation: Operation, count: int, request_bytes: int) -> link.Reply:
        """The reply to the request just sent."""
        header_bytes = link.REPLY.bits // 8
        patience = REPLY_TIMEOUT_S + request_bytes * self._byte_s
        if operation is Operation.CHECKSUM:
            patience += 1.0
        frame = b""
        deadline = time.monotonic() + patience
        while len(frame) < header_bytes:
            left = deadline - time.monotonic()
            if left <= 0:
                raise link.FrameError(f"only {len(frame)} bytes came back")
            frame += self._wire.receive(header_bytes - len(frame), left)
            start = frame.find(link.REPLY_SYNC)
            frame = frame[start:] if start >= 0 else b""
        payload_words = link.reply_words(operation, count) if frame[1] == Answer.DONE else 0
        rest = 4 * payload_words + link.CRC_BYTES
        frame += self._wire.receive(rest, REPLY_TIMEOUT_S + rest * self._byte_s)
        reply = link.unpack_reply(frame, self._sequence)
        if len(reply.payload) != 4 * payload_words:
            # Right by its CRC: a peer that is no board of ours, or another program's reply.
            raise link.FrameError(
                f"{len(reply.payload)} bytes came for {4 * payload_words} that were asked for"
            )
        return reply


class SerialBoard(Closing):
    """A device that is a board with its memory on the chip, reached over a serial link.

    The image is sent once, unless the board has it already (the bitstream may have brought it
    along); samples are sent in batches that fit into what memory is left.

    Parameters
    ----------
    serial : SerialLink
        The board.
    name : str
        What the device calls itself.
    overlay : Overlay
        The network.
    options : DeviceOptions
        How long a run may take, whom to tell.

    Raises
    ------
    DeviceError
        If the network is for another kernel, or does not fit into the board's memory.
    """

    def __init__(
        self, serial: SerialLink, name: str, overlay: Overlay, options: DeviceOptions
    ) -> None:
        self._link = serial
        self._name = name
        self._overlay = overlay
        self._options = options
        self._check_kernel()
        self._statistics_at = _aligned(len(overlay.image))
        self._samples_at = self._statistics_at + _aligned(STATISTICS.bits // 8)
        sample = overlay.input_bytes + overlay.output_bytes
        left = serial.memory_bytes - self._samples_at - BEAT_ALIGNMENT
        self._batch = max(left, 0) // sample
        if not self._batch:
            raise DeviceMemoryError(
                f"device {name}: image and one sample need "
                f"{self._samples_at + BEAT_ALIGNMENT + sample} bytes, the board has "
                f"{serial.memory_bytes}; choose a smaller network"
            )
        self._closed = False
        self._start_afresh()

    @property
    def name(self) -> str:
        """Name of the device."""
        return self._name

    @property
    def link(self) -> SerialLink:
        """The link to the board."""
        return self._link

    def run(self, samples: PackedBatch) -> tuple[PackedBatch, Statistics]:
        """Compute samples; see `Device.run`."""
        if self._closed:
            raise DeviceAbortedError(f"device {self._name} is closed; open another session")
        if not self._sound:
            self._start_afresh()
        # Until the run is over: what an interrupted one leaves must not pass for the next one's.
        self._sound = False
        results, records = [], []
        for start in range(0, len(samples), self._batch):
            self._link.deadline = time.monotonic() + self._options.timeout_s
            outputs, record = self._run_batch(samples[start : start + self._batch])
            results.append(outputs)
            records.append(record)
        self._sound = True
        return np.concatenate(results), _total(records)

    def close(self) -> None:
        """Let go of the port."""
        self._closed = True
        self._link.close()

    def _check_kernel(self) -> None:
        """The kernel must be the one the image is for."""
        version = self._link.read_register(Register.VERSION)
        low = self._link.read_register(Register.CONFIGURATION)
        high = self._link.read_register(Register.CONFIGURATION + 4)
        expected = self._overlay.kernel.digest
        if version != ABI_VERSION:
            raise WrongBitstreamError(
                f"device {self._name}: the board's kernel is of version {version}, the image of "
                f"{ABI_VERSION}; rebuild the board's bitstream"
            )
        if high << 32 | low != expected:
            raise WrongImageError(
                f"device {self._name}: the board's kernel is {high:08x}{low:08x}, the image is for "
                f"{expected:016x}; compile the model for this board, or rebuild its bitstream"
            )

    def _start_afresh(self) -> None:
        """End whatever is under way on the board, and see that it has the image."""
        self._link.deadline = time.monotonic() + self._options.timeout_s
        self._link.reset()
        self._send_image()
        self._loaded = False
        self._sound = True

    def _send_image(self) -> None:
        image = self._overlay.image + bytes(-len(self._overlay.image) % 4)
        if self._link.checksum(0, len(image)) == zlib.crc32(image):
            return
        self._options.progress("sending the image")
        self._link.write_memory(0, image)
        if self._link.checksum(0, len(image)) != zlib.crc32(image):
            raise DeviceError(
                f"device {self._name}: the image did not arrive whole; is the memory bad?"
            )

    def _run_batch(self, samples: PackedBatch) -> tuple[PackedBatch, dict[str, int]]:
        overlay, serial = self._overlay, self._link
        count = len(samples)
        beat = overlay.kernel.bus_bytes
        output_at = _aligned(self._samples_at + samples.nbytes)
        serial.write_memory(self._samples_at, samples.tobytes())
        # What is left of an earlier run must not pass for this one's.
        serial.write_memory(self._statistics_at, bytes(STATISTICS.bits // 8))
        command = Command.RUN if self._loaded else Command.LOAD | Command.RUN
        for register, *values in (
            (Register.IMAGE, 0, 0),
            (Register.INPUT, self._samples_at, 0),
            (Register.OUTPUT, output_at, 0),
            (Register.STATISTICS, self._statistics_at, 0),
            (Register.IMAGE_BEATS, math.ceil(len(overlay.image) / beat)),
            (Register.INPUT_BEATS, samples.nbytes // beat),
            (Register.SAMPLES, count),
            (Register.COMMAND, command),
            (Register.GLOBAL_INTERRUPT_ENABLE, 1, 1),
            (Register.CONTROL, 1),
        ):
            serial.write_registers(register, *values)
        # Unlike `ap_done`, a pending interrupt is not cleared by reading: a reply may get lost.
        while not serial.read_register(Register.INTERRUPT_STATUS):
            if time.monotonic() > serial.deadline:
                raise DeviceTimeoutError(
                    f"device {self._name}: no result after {self._options.timeout_s:g} s; give it "
                    "more time, or fewer samples"
                )
            time.sleep(POLL_S)
        serial.write_registers(Register.INTERRUPT_STATUS, 1)
        record = STATISTICS.unpack(
            int.from_bytes(serial.read_memory(self._statistics_at, STATISTICS.bits // 8), "little")
        )
        raise_for_status(self._name, Status(record["status"]))
        if record["version"] != ABI_VERSION or record["samples"] != count:
            raise DeviceLostError(
                f"device {self._name}: the kernel reported version {record['version']} of the "
                f"formats and {record['samples']} samples, not {ABI_VERSION} and {count}; is the "
                "link sound?"
            )
        self._loaded = True
        size = count * overlay.output_bytes
        outputs = np.frombuffer(serial.read_memory(output_at, size), np.uint8)
        return outputs.reshape(count, overlay.output_bytes), record


def _aligned(size: int) -> int:
    return math.ceil(size / BEAT_ALIGNMENT) * BEAT_ALIGNMENT


def _total(records: list[dict[str, int]]) -> Statistics:
    """One run's statistics out of those of its batches."""
    if len(records) == 1:
        return Statistics.from_record(records[0])
    steady = [Statistics.from_record(record).output_interval for record in records]
    return Statistics(
        samples=sum(record["samples"] for record in records),
        cycles=sum(record["cycles"] for record in records),
        load_cycles=sum(record["load_cycles"] for record in records),
        output_interval=steady[0],
        busy_cycles=sum(record["busy"] for record in records),
    )


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> SerialBoard:
    """A board at a port, as `serial:/dev/ttyUSB0` or `serial:/dev/ttyUSB0@115200`.

    Raises
    ------
    DeviceError
        If there is no port, no board, or the board cannot run the network.
    """
    path, _, rate = argument.partition("@")
    if not path:
        there = ", ".join(f"serial:{port}" for port in serial_ports()) or "none was found"
        raise DeviceNameError(f"device serial needs a port after a colon: {there}")
    if rate and not rate.isdecimal():
        raise DeviceNameError(
            f"device serial:{argument}: the rate after @ must be a number of baud"
        )
    baud = int(rate) if rate else BAUD
    name = f"serial:{argument}"
    try:
        wire = SerialPort(path, baud)
    except MissingPortError as error:
        raise DeviceNotFoundError(f"device serial: {error}") from error
    except BusyPortError as error:
        raise DeviceBusyError(f"device serial: {error}") from error
    except WireError as error:
        raise DeviceError(f"device serial: {error}") from error
    try:
        return SerialBoard(SerialLink(wire, name, baud), name, overlay, options)
    except BaseException:
        wire.close()
        raise
