"""A compute unit with its network: buffers that are kept, and runs that queue after each other."""

import contextlib
import time
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trencadis_format.image import ABI_VERSION
from trencadis_format.overlay import Overlay
from trencadis_format.registers import STATISTICS, Command, Register
from trencadis_host.devices.xrt.binding import Buffer, RunState, Unit
from trencadis_host.errors import DeviceLostError, WrongBitstreamError

__all__ = ["ARGUMENTS", "KERNEL_NAME", "LoadedUnit", "Record", "RunBuffers", "Work"]

PackedBatch = npt.NDArray[np.uint8]
Record = dict[str, int]

KERNEL_NAME = "trencadis"

ARGUMENTS = (
    Register.IMAGE,
    Register.INPUT,
    Register.OUTPUT,
    Register.STATISTICS,
    Register.IMAGE_BEATS,
    Register.INPUT_BEATS,
    Register.SAMPLES,
    Register.COMMAND,
)
"""The kernel's arguments in order: a register's number as an argument is its position here."""

_NUMBER = {register: number for number, register in enumerate(ARGUMENTS)}

SLOTS = 2
"""Runs of a compute unit that are under way: while one is computed, the other's samples travel."""

STATISTICS_BYTES = STATISTICS.bits // 8


class Work(Protocol):
    """Samples to compute, and where the results go."""

    samples: PackedBatch
    results: PackedBatch


class RunBuffers:
    """One of a compute unit's runs, with its buffers; they grow, and are used again and again.

    Parameters
    ----------
    unit : Unit
        The compute unit.
    overlay : Overlay
        The network.
    image : Buffer
        Its device image, on the card.
    groups : mapping of register to int
        Memory groups of the pointer arguments.
    """

    def __init__(
        self, unit: Unit, overlay: Overlay, image: Buffer, groups: dict[Register, int]
    ) -> None:
        self._unit = unit
        self._overlay = overlay
        self._groups = groups
        self._buffers: dict[Register, Buffer] = {}
        self._run = unit.run()
        try:
            self._run.set_buffer(_NUMBER[Register.IMAGE], image)
            self._statistics = self._grown(Register.STATISTICS, STATISTICS_BYTES)
            beats = -(-len(overlay.image) // overlay.kernel.bus_bytes)
            self._run.set_scalar(_NUMBER[Register.IMAGE_BEATS], beats)
        except BaseException:
            self.close()
            raise
        self.work: Work | None = None
        self.loads = False

    def start(self, work: Work, *, load: bool) -> None:
        """Copy samples to the card, and queue their computation.

        Raises
        ------
        DeviceError
            If the card fails, or has no memory for them.
        """
        samples, results = work.samples, work.results
        inputs = self._grown(Register.INPUT, samples.nbytes)
        self._grown(Register.OUTPUT, results.nbytes)
        inputs.host[: samples.nbytes] = samples.reshape(-1)
        inputs.to_card(samples.nbytes)
        command = Command.LOAD | Command.RUN if load else Command.RUN
        beats = samples.nbytes // self._overlay.kernel.bus_bytes
        for register, value in (
            (Register.INPUT_BEATS, beats),
            (Register.SAMPLES, len(samples)),
            (Register.COMMAND, command),
        ):
            self._run.set_scalar(_NUMBER[register], value)
        # What is left of an earlier run must not pass for this one's.
        self._statistics.host[:] = 0
        self._statistics.to_card(STATISTICS_BYTES)
        self._run.start()
        self.work, self.loads = work, load

    def state(self) -> RunState:
        """State of the run."""
        return self._run.state()

    def record(self) -> Record:
        """Report of the kernel, as `STATISTICS`.

        Raises
        ------
        DeviceLostError
            If it did not.
        WrongBitstreamError
            If it did in another version of the formats.
        """
        self._statistics.to_host(STATISTICS_BYTES)
        packed = int.from_bytes(self._statistics.host[:STATISTICS_BYTES].tobytes(), "little")
        record = STATISTICS.unpack(packed)
        if not record["version"]:
            raise DeviceLostError("a run ended without a report; was the card reset?")
        if record["version"] != ABI_VERSION:
            raise WrongBitstreamError(
                f"the kernel reported version {record['version']} of the formats, not "
                f"{ABI_VERSION}; build its bitstream with this release"
            )
        return record

    def fetch(self) -> None:
        """Copy the results to where they belong."""
        assert self.work is not None
        results, outputs = self.work.results, self._buffers[Register.OUTPUT]
        outputs.to_host(results.nbytes)
        results.reshape(-1)[:] = outputs.host[: results.nbytes]

    def close(self) -> None:
        """Give everything back."""
        with contextlib.ExitStack() as parts:
            for buffer in self._buffers.values():
                parts.callback(buffer.close)
            parts.callback(self._run.close)

    def _grown(self, register: Register, size: int) -> Buffer:
        """A buffer of at least that size, passed to the run."""
        buffer = self._buffers.get(register)
        if buffer is not None:
            if len(buffer.host) >= size:
                return buffer
            del self._buffers[register]
            buffer.close()
        grown = self._unit.buffer(1 << (size - 1).bit_length(), self._groups[register])
        try:
            self._run.set_buffer(_NUMBER[register], grown)
        except BaseException:
            grown.close()
            raise
        self._buffers[register] = grown
        return grown


class LoadedUnit:
    """A compute unit with the network's image and buffers for its runs.

    Parameters
    ----------
    unit : Unit
        The compute unit; it is closed with this, or if this cannot be made.
    overlay : Overlay
        The network.

    Attributes
    ----------
    free, running : list of RunBuffers
        Slots without, and with a run, the oldest first.
    loaded : bool
        The image is there, or will be when what is running is over.
    aborted : bool
        The oldest run was told to end.
    since : float
        `time.monotonic` when the oldest run began, or was told to end.
    """

    def __init__(self, unit: Unit, overlay: Overlay) -> None:
        with contextlib.ExitStack() as parts:
            parts.callback(unit.close)
            self._unit = unit
            groups = {
                register: unit.group(_NUMBER[register])
                for register in ARGUMENTS
                if register <= Register.STATISTICS
            }
            data = np.frombuffer(overlay.image, np.uint8)
            image = unit.buffer(data.nbytes, groups[Register.IMAGE])
            parts.callback(image.close)
            image.host[: data.nbytes] = data
            image.to_card(data.nbytes)
            self.free: list[RunBuffers] = []
            for _ in range(SLOTS):
                self.free.append(RunBuffers(unit, overlay, image, groups))
                parts.callback(self.free[-1].close)
            self._parts = parts.pop_all()
        self.running: list[RunBuffers] = []
        self.loaded = self.aborted = False
        self.since = 0.0

    @property
    def ready(self) -> bool:
        """True if it takes more samples."""
        return bool(self.free) and not self.aborted

    def start(self, work: Work) -> None:
        """Queue samples on free buffers.

        Raises
        ------
        DeviceError
            If the card fails, or has no memory for them; the buffers stay free.
        """
        buffers = self.free.pop()
        try:
            buffers.start(work, load=not self.loaded)
        except BaseException:
            self.free.append(buffers)
            raise
        if not self.running:
            self.since = time.monotonic()
        self.running.append(buffers)
        # The next one comes after this one, whatever becomes of it.
        self.loaded = True

    def finished(self) -> None:
        """The oldest run is over."""
        self.free.append(self.running.pop(0))
        self.aborted = False
        self.since = time.monotonic()

    def abort(self) -> bool:
        """Ask the kernel to end its oldest run at once; whether it could be asked."""
        self.loaded, self.aborted = False, True
        self.since = time.monotonic()
        return self._unit.write_register(Register.ABORT, 1)

    def close(self) -> None:
        """Give everything back."""
        self._parts.close()
