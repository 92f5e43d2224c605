"""XRT through its Python binding: the only module that imports `pyxrt`."""

import contextlib
import importlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.xrt.binding import MAX_CARDS, Buffer, RunState, run_state, whole_pages
from trencadis_host.errors import (
    DeviceBusyError,
    DeviceError,
    DeviceLostError,
    DeviceMemoryError,
    DeviceNotFoundError,
    WrongBitstreamError,
    XrtMissingError,
)

__all__ = ["PyxrtBinding", "open_pyxrt"]

TEXTS = {
    DeviceBusyError: ("busy", "in use", "permission", "not permitted"),
    DeviceLostError: ("no such device", "input/output error"),
}
"""Beginnings or ends of XRT's messages, which are all that the binding tells."""


class BindingBuffer:
    """A buffer."""

    def __init__(self, binding: Any, buffer: Any, size: int) -> None:
        self._directions = binding.xclBOSyncDirection
        self._buffer: Any = buffer
        self._size = whole_pages(size)
        with _named(DeviceLostError, "a buffer's memory cannot be reached"):
            memory = np.frombuffer(buffer.map(), np.uint8)
        self._host: npt.NDArray[np.uint8] = memory[:size]

    @property
    def bo(self) -> Any:
        """XRT's name of it."""
        return self._buffer

    @property
    def host(self) -> npt.NDArray[np.uint8]:
        """The host's side."""
        return self._host

    def to_card(self, size: int) -> None:
        """Copy the first bytes to the card."""
        self._sync(self._directions.XCL_BO_SYNC_BO_TO_DEVICE, size)

    def to_host(self, size: int) -> None:
        """Copy the first bytes to the host."""
        self._sync(self._directions.XCL_BO_SYNC_BO_FROM_DEVICE, size)

    def _sync(self, direction: Any, size: int) -> None:
        with _named(DeviceLostError, "a copy between host and card failed"):
            self._buffer.sync(direction, min(whole_pages(size), self._size), 0)

    def close(self) -> None:
        """Free it."""
        self._host = np.zeros(0, np.uint8)
        self._buffer = None


class BindingRun:
    """A run."""

    def __init__(self, run: Any) -> None:
        self._run: Any = run

    def set_buffer(self, argument: int, buffer: Buffer) -> None:
        """Pass a buffer."""
        assert isinstance(buffer, BindingBuffer)
        self._set(argument, buffer.bo)

    def set_scalar(self, argument: int, value: int) -> None:
        """Pass a number."""
        # The binding takes signed 32-bit numbers.
        self._set(argument, value - (1 << 32) if value >= 1 << 31 else value)

    def _set(self, argument: int, value: Any) -> None:
        with _named(DeviceLostError, f"argument {argument} of a run cannot be set"):
            self._run.set_arg(argument, value)

    def start(self) -> None:
        """Queue the run."""
        with _named(DeviceLostError, "a run could not be started"):
            self._run.start()

    def state(self) -> RunState:
        """State of the run."""
        # Not `wait`, which keeps all other threads of Python waiting too.
        with _named(DeviceLostError, "a run's state is not known"):
            # The binding has no name for the state of a run that has begun, only its number.
            return run_state(int(self._run.state()))

    def close(self) -> None:
        """Give it back."""
        self._run = None


class BindingUnit:
    """A compute unit."""

    def __init__(self, binding: Any, device: Any, kernel: Any, what: str) -> None:
        self._binding = binding
        self._device: Any = device
        self._kernel: Any = kernel
        self._what = what

    def group(self, argument: int) -> int:
        """The memory group of an argument."""
        with _named(WrongBitstreamError, f"{self._what} has no memory for argument {argument}"):
            return int(self._kernel.group_id(argument))

    def buffer(self, size: int, group: int) -> BindingBuffer:
        """Memory."""
        kind = self._binding.bo
        flags = getattr(kind, "normal", None)
        if flags is None:
            flags = kind.flags.normal
        with _named(
            DeviceMemoryError,
            f"{self._what}: the card has no {size:,} bytes left in memory group {group}",
            "run fewer words at once, or close other sessions",
        ):
            # Not all releases that have contexts allocate from them.
            buffer = kind(self._device, whole_pages(size), flags, group)
        return BindingBuffer(self._binding, buffer, size)

    def run(self) -> BindingRun:
        """A run."""
        with _named(DeviceLostError, f"{self._what} cannot be run"):
            return BindingRun(self._binding.run(self._kernel))

    def write_register(self, offset: int, value: int) -> bool:
        """The binding has no access to registers."""
        return False

    def close(self) -> None:
        """Give it back."""
        self._kernel = self._device = None


class BindingCard:
    """A card."""

    def __init__(self, binding: Any, device: Any, number: int) -> None:
        self._binding = binding
        self._device: Any = device
        self._number = number
        self._uuid: Any = None
        self._context: Any = None

    @property
    def platform(self) -> str:
        """Name of the card's platform."""
        try:
            return str(self._device.get_info(self._binding.xrt_info_device.name))
        except Exception:
            # It is only shown, or compared if it is known.
            return ""

    @property
    def loaded(self) -> bytes:
        """The identity of the xclbin on the card."""
        try:
            return uuid.UUID(str(self._device.get_xclbin_uuid().to_string())).bytes
        except Exception:
            return b""  # older bindings do not say

    def load(self, path: Path) -> None:
        """Load an xclbin: in a hardware context, or the older way where contexts are shared."""
        binding = self._binding
        modes = getattr(getattr(binding, "hw_context", None), "access_mode", None)
        with _named(
            WrongBitstreamError,
            f"card {self._number} does not take {path}",
            "is it for its platform, and does no other program use the card?",
        ):
            if modes is not None:
                identity = self._device.register_xclbin(binding.xclbin(str(path)))
                self._context = binding.hw_context(self._device, identity, modes.exclusive)
            else:
                self._uuid = self._device.load_xclbin(str(path))

    def unit(self, name: str) -> BindingUnit:
        """A compute unit."""
        what = f"card {self._number}'s {name}"
        kind = self._binding.kernel
        with _named(WrongBitstreamError, f"{what} cannot be opened"):
            if self._context is not None:
                kernel = kind(self._context, name)
            else:
                kernel = kind(self._device, self._uuid, name, kind.exclusive)
        return BindingUnit(self._binding, self._device, kernel, what)

    def close(self) -> None:
        """Give it back."""
        self._context = self._device = None


class PyxrtBinding:
    """XRT through its Python binding.

    Parameters
    ----------
    binding : module
        `pyxrt`, or what looks like it.
    """

    def __init__(self, binding: Any) -> None:
        self._binding = binding

    @property
    def name(self) -> str:
        """Name of the binding."""
        return "pyxrt"

    def cards(self) -> list[str]:
        """Platforms of the cards."""
        names: list[str] = []
        count = MAX_CARDS
        if hasattr(self._binding, "enumerate_devices"):
            with _named(DeviceNotFoundError, "XRT cannot tell its cards"):
                count = self._binding.enumerate_devices()
        while len(names) < count:
            try:
                names.append(self.open(len(names)).platform)
            except DeviceNotFoundError:
                break
        return names

    def open(self, number: int) -> BindingCard:
        """A card by number."""
        try:
            device = self._binding.device(number)
        except Exception as error:
            raise DeviceNotFoundError(
                f"device xrt:{number}: XRT has no such card ({error}); "
                "list the cards with: python -m trencadis_host.devices.xrt.device"
            ) from error
        return BindingCard(self._binding, device, number)


def open_pyxrt() -> PyxrtBinding:
    """The binding of `pyxrt`, imported.

    Raises
    ------
    XrtMissingError
        If it is not installed.
    """
    try:
        return PyxrtBinding(importlib.import_module("pyxrt"))
    except ImportError as error:
        raise XrtMissingError(
            f"device xrt: the Python binding pyxrt cannot be imported ({error}); it comes with "
            "XRT, whose setup.sh makes it known"
        ) from error


@contextlib.contextmanager
def _named(error: type[DeviceError], what: str, remedy: str = "") -> Iterator[None]:
    """Whatever the binding raises, under a name: the one given, if its text does not tell more."""
    try:
        yield
    except Exception as reason:
        text = str(reason).lower()
        for kind, words in TEXTS.items():
            if any(word in text for word in words):
                error = kind
        raise error(f"{what}: {reason}" + (f"; {remedy}" if remedy else "")) from reason
