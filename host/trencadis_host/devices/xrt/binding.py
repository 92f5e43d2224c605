"""Interface of XRT to the device class, whichever way XRT is reached.

`xrt_capi` gets there through XRT's C library, `xrt_pyxrt` through its Python binding; tests have
stub bindings. A binding raises the errors of `faults`, and nothing else; wherever nothing
else is said it is a `DeviceLostError`, for a card with which such a call fails is of no more use.
Sizes are in bytes.
"""

import enum
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "MAX_CARDS",
    "Buffer",
    "Card",
    "Run",
    "RunState",
    "Unit",
    "XrtBinding",
    "run_state",
    "whole_pages",
]

MAX_CARDS = 64

PAGE = 4096
"""Copies are of whole pages: XRT's emulation driver is slow, or wrong, with less."""


COMPLETED = 4
PENDING_STATES = (1, 2, 3, 7)
"""New, queued, running, submitted; of what XRT calls the states of a command."""


class RunState(enum.Enum):
    """State of a run."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Buffer(Protocol):
    """Memory on the card, and as much on the host."""

    @property
    def host(self) -> npt.NDArray[np.uint8]:
        """The host's side; of the size that was asked for."""
        ...

    def to_card(self, size: int) -> None:
        """Copy the first bytes of the host's side to the card.

        Raises
        ------
        DeviceLostError
            If that fails.
        """
        ...

    def to_host(self, size: int) -> None:
        """Copy the first bytes of the card's side to the host.

        Raises
        ------
        DeviceLostError
            If that fails.
        """
        ...

    def close(self) -> None:
        """Give the memory back; `host` must not be used afterwards."""
        ...


class Run(Protocol):
    """Arguments for a compute unit; may be started again and again."""

    def set_buffer(self, argument: int, buffer: Buffer) -> None:
        """Pass a buffer.

        Raises
        ------
        DeviceLostError
            If XRT does not take it.
        """
        ...

    def set_scalar(self, argument: int, value: int) -> None:
        """Pass an unsigned 32-bit number.

        Raises
        ------
        DeviceLostError
            If XRT does not take it.
        """
        ...

    def start(self) -> None:
        """Queue the run; a compute unit that is busy takes it afterwards.

        Raises
        ------
        DeviceLostError
            If that fails.
        """
        ...

    def state(self) -> RunState:
        """State of the run; after `DONE` it may be started again.

        Raises
        ------
        DeviceLostError
            If XRT does not know.
        """
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class Unit(Protocol):
    """A compute unit."""

    def group(self, argument: int) -> int:
        """The memory group that a pointer argument's buffer must be in.

        Raises
        ------
        WrongBitstreamError
            If the argument has none.
        """
        ...

    def buffer(self, size: int, group: int) -> Buffer:
        """Memory of at least `size` bytes.

        Raises
        ------
        DeviceMemoryError
            If there is not enough.
        DeviceLostError
            If the card is gone.
        """
        ...

    def run(self) -> Run:
        """A run without arguments yet.

        Raises
        ------
        DeviceLostError
            If XRT makes none.
        """
        ...

    def write_register(self, offset: int, value: int) -> bool:
        """Write a register past the queue; whether this way into XRT allows that."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class Card(Protocol):
    """A card with an xclbin on it."""

    @property
    def platform(self) -> str:
        """Name of the card's platform."""
        ...

    @property
    def loaded(self) -> bytes:
        """The identity of the xclbin on the card; empty, or zeros, if that is not known."""
        ...

    def load(self, path: Path) -> None:
        """Load an xclbin.

        Raises
        ------
        WrongBitstreamError
            If the card does not take it.
        DeviceBusyError
            If another process uses the card.
        """
        ...

    def unit(self, name: str) -> Unit:
        """A compute unit by the name `kernel:{instance}`, for this process alone.

        Raises
        ------
        DeviceBusyError
            If another process has it.
        WrongBitstreamError
            If it cannot be opened for another reason.
        """
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class XrtBinding(Protocol):
    """A way into XRT."""

    @property
    def name(self) -> str:
        """Name of the binding, for messages."""
        ...

    def cards(self) -> list[str]:
        """Platforms of the cards there are, by number."""
        ...

    def open(self, number: int) -> Card:
        """A card by number.

        Raises
        ------
        DeviceNotFoundError
            If there is none of that number.
        """
        ...


def run_state(number: int) -> RunState:
    """State that XRT's number of a command's state means."""
    if number == COMPLETED:
        return RunState.DONE
    return RunState.PENDING if number in PENDING_STATES else RunState.FAILED


def whole_pages(size: int) -> int:
    """The bytes of as many pages as `size` bytes need, at least one."""
    return -(-max(size, 1) // PAGE) * PAGE
