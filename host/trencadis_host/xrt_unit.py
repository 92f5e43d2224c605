"""A compute unit with its network: buffers that are kept, and runs that queue behind each other."""

import contextlib
import time
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trencadis_host.door import Buffer, RunState, Unit
from trencadis_host.faults import DeviceLostError, WrongBitstreamError
from trencadis_hw import abi
from trencadis_hw.container import Overlay

__all__ = ["ARGUMENTS", "KERNEL_NAME", "LoadedUnit", "Record", "Slot", "Work"]

Words = npt.NDArray[np.uint8]
Record = dict[str, int]

KERNEL_NAME = "trencadis"

ARGUMENTS = (
    abi.Register.IMAGE,
    abi.Register.INPUT,
    abi.Register.OUTPUT,
    abi.Register.STATISTICS,
    abi.Register.IMAGE_BEATS,
    abi.Register.INPUT_BEATS,
    abi.Register.WORDS,
    abi.Register.COMMAND,
)
"""The kernel's arguments in order: a register's number as an argument is its position here."""

_NUMBER = {register: number for number, register in enumerate(ARGUMENTS)}

SLOTS = 2
"""Runs of a compute unit that are under way: while one is computed, the other's words travel."""

STATISTICS_BYTES = abi.STATISTICS.bits // 8


class Work(Protocol):
    """Words to compute, and where the results go."""

    words: Words
    results: Words


class Slot:
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
        self, unit: Unit, overlay: Overlay, image: Buffer, groups: dict[abi.Register, int]
    ) -> None:
        self._unit = unit
        self._overlay = overlay
        self._groups = groups
        self._buffers: dict[abi.Register, Buffer] = {}
        self._run = unit.run()
        try:
            self._run.set_buffer(_NUMBER[abi.Register.IMAGE], image)
            self._statistics = self._grown(abi.Register.STATISTICS, STATISTICS_BYTES)
            beats = -(-len(overlay.image) // overlay.kernel.bus_bytes)
            self._run.set_scalar(_NUMBER[abi.Register.IMAGE_BEATS], beats)
        except BaseException:
            self.close()
            raise
        self.work: Work | None = None
        self.loads = False

    def start(self, work: Work, *, load: bool) -> None:
        """Copy words to the card, and queue their computation.

        Raises
        ------
        DeviceError
            If the card fails, or has no memory for them.
        """
        words, results = work.words, work.results
        inputs = self._grown(abi.Register.INPUT, words.nbytes)
        self._grown(abi.Register.OUTPUT, results.nbytes)
        inputs.host[: words.nbytes] = words.reshape(-1)
        inputs.to_card(words.nbytes)
        command = abi.Command.LOAD | abi.Command.RUN if load else abi.Command.RUN
        beats = words.nbytes // self._overlay.kernel.bus_bytes
        for register, value in (
            (abi.Register.INPUT_BEATS, beats),
            (abi.Register.WORDS, len(words)),
            (abi.Register.COMMAND, command),
        ):
            self._run.set_scalar(_NUMBER[register], value)
        # What is left of an earlier run must not pass for this one's.
        self._statistics.host[:] = 0
        self._statistics.to_card(STATISTICS_BYTES)
        self._run.start()
        self.work, self.loads = work, load

    def state(self) -> RunState:
        """How far the run is."""
        return self._run.state()

    def record(self) -> Record:
        """What the kernel reported, as `abi.STATISTICS`.

        Raises
        ------
        DeviceLostError
            If it did not.
        WrongBitstreamError
            If it did in another version of the formats.
        """
        self._statistics.to_host(STATISTICS_BYTES)
        packed = int.from_bytes(self._statistics.host[:STATISTICS_BYTES].tobytes(), "little")
        record = abi.STATISTICS.unpack(packed)
        if not record["version"]:
            raise DeviceLostError("a run ended without a report; was the card reset?")
        if record["version"] != abi.ABI_VERSION:
            raise WrongBitstreamError(
                f"the kernel reported version {record['version']} of the formats, not "
                f"{abi.ABI_VERSION}; build its bitstream with this release"
            )
        return record

    def fetch(self) -> None:
        """Copy the results to where they belong."""
        assert self.work is not None
        results, outputs = self.work.results, self._buffers[abi.Register.OUTPUT]
        outputs.to_host(results.nbytes)
        results.reshape(-1)[:] = outputs.host[: results.nbytes]

    def close(self) -> None:
        """Give everything back."""
        with contextlib.ExitStack() as parts:
            for buffer in self._buffers.values():
                parts.callback(buffer.close)
            parts.callback(self._run.close)

    def _grown(self, register: abi.Register, size: int) -> Buffer:
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
    """A compute unit with the network's image and its slots.

    Parameters
    ----------
    unit : Unit
        The compute unit; it is closed with this, or if this cannot be made.
    overlay : Overlay
        The network.

    Attributes
    ----------
    free, running : list of Slot
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
                if register <= abi.Register.STATISTICS
            }
            data = np.frombuffer(overlay.image, np.uint8)
            image = unit.buffer(data.nbytes, groups[abi.Register.IMAGE])
            parts.callback(image.close)
            image.host[: data.nbytes] = data
            image.to_card(data.nbytes)
            self.free: list[Slot] = []
            for _ in range(SLOTS):
                self.free.append(Slot(unit, overlay, image, groups))
                parts.callback(self.free[-1].close)
            self._parts = parts.pop_all()
        self.running: list[Slot] = []
        self.loaded = self.aborted = False
        self.since = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes more words."""
        return bool(self.free) and not self.aborted

    def start(self, work: Work) -> None:
        """Queue words on a free slot.

        Raises
        ------
        DeviceError
            If the card fails, or has no memory for them; the slot stays free.
        """
        slot = self.free.pop()
        try:
            slot.start(work, load=not self.loaded)
        except BaseException:
            self.free.append(slot)
            raise
        if not self.running:
            self.since = time.monotonic()
        self.running.append(slot)
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
        return self._unit.write_register(abi.Register.ABORT, 1)

    def close(self) -> None:
        """Give everything back."""
        self._parts.close()
