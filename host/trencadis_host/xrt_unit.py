"""A compute unit with its network: buffers that are kept, and runs that queue behind each other."""

import time
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trencadis_host.door import Buffer, RunState, Unit
from trencadis_host.faults import DeviceLostError
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
        self._inputs: Buffer | None = None
        self._outputs: Buffer | None = None
        self._statistics = unit.buffer(STATISTICS_BYTES, groups[abi.Register.STATISTICS])
        self._run = unit.run()
        self._run.set_buffer(_NUMBER[abi.Register.IMAGE], image)
        self._run.set_buffer(_NUMBER[abi.Register.STATISTICS], self._statistics)
        beats = -(-len(overlay.image) // overlay.kernel.bus_bytes)
        self._run.set_scalar(_NUMBER[abi.Register.IMAGE_BEATS], beats)
        self.work: Work | None = None

    def start(self, work: Work, *, load: bool) -> None:
        """Copy words to the card, and queue their computation.

        Raises
        ------
        DeviceError
            If the card fails, or has no memory for them.
        """
        words, results = work.words, work.results
        self._inputs = self._grown(self._inputs, abi.Register.INPUT, words.nbytes)
        self._outputs = self._grown(self._outputs, abi.Register.OUTPUT, results.nbytes)
        self._inputs.host[: words.nbytes] = words.reshape(-1)
        self._inputs.to_card(words.nbytes)
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
        self.work = work

    def state(self) -> RunState:
        """How far the run is."""
        return self._run.state()

    def record(self) -> Record:
        """What the kernel reported, as `abi.STATISTICS`.

        Raises
        ------
        DeviceLostError
            If it did not.
        """
        self._statistics.to_host(STATISTICS_BYTES)
        packed = int.from_bytes(self._statistics.host[:STATISTICS_BYTES].tobytes(), "little")
        record = abi.STATISTICS.unpack(packed)
        if record["version"] != abi.ABI_VERSION:
            raise DeviceLostError(
                f"the kernel reported version {record['version']} of the formats, not "
                f"{abi.ABI_VERSION}; is the card's bitstream of this release?"
            )
        return record

    def fetch(self) -> None:
        """Copy the results to where they belong."""
        assert self.work is not None
        assert self._outputs is not None
        results = self.work.results
        self._outputs.to_host(results.nbytes)
        results.reshape(-1)[:] = self._outputs.host[: results.nbytes]

    def close(self) -> None:
        """Give everything back."""
        self._run.close()
        for buffer in (self._inputs, self._outputs, self._statistics):
            if buffer is not None:
                buffer.close()

    def _grown(self, buffer: Buffer | None, register: abi.Register, size: int) -> Buffer:
        """A buffer of at least that size, passed to the run."""
        if buffer is not None and len(buffer.host) >= size:
            return buffer
        if buffer is not None:
            if register == abi.Register.INPUT:
                self._inputs = None
            else:
                self._outputs = None
            buffer.close()
        grown = self._unit.buffer(1 << (size - 1).bit_length(), self._groups[register])
        self._run.set_buffer(_NUMBER[register], grown)
        return grown


class LoadedUnit:
    """A compute unit with the network's image and its slots.

    Parameters
    ----------
    unit : Unit
        The compute unit.
    overlay : Overlay
        The network.
    """

    def __init__(self, unit: Unit, overlay: Overlay) -> None:
        self._unit = unit
        groups = {
            register: unit.group(_NUMBER[register])
            for register in ARGUMENTS
            if register <= abi.Register.STATISTICS
        }
        image = np.frombuffer(overlay.image, np.uint8)
        self._image = unit.buffer(image.nbytes, groups[abi.Register.IMAGE])
        self._image.host[: image.nbytes] = image
        self._image.to_card(image.nbytes)
        self.free = [Slot(unit, overlay, self._image, groups) for _ in range(SLOTS)]
        self.running: list[Slot] = []
        self.loaded = False
        self.since = 0.0

    def start(self, work: Work) -> None:
        """Queue words on a free slot."""
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
        self.since = time.monotonic()

    def abort(self) -> bool:
        """Ask the kernel to end its run at once; whether it could be asked."""
        return self._unit.write_register(abi.Register.ABORT, 1)

    def close(self) -> None:
        """Give everything back."""
        for slot in self.free + self.running:
            slot.close()
        self._image.close()
        self._unit.close()
