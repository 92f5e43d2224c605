"""XRT through its Python binding: the only door to `pyxrt`."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.door import Buffer, RunState
from trencadis_host.faults import (
    DeviceBusyError,
    DeviceLostError,
    DeviceMemoryError,
    DeviceNotFoundError,
    WrongBitstreamError,
    XrtMissingError,
)

__all__ = ["BindingDoor", "open_binding"]

MOST_CARDS = 64
PAGE = 4096


class BindingBuffer:
    """A buffer."""

    def __init__(self, binding: Any, buffer: Any, size: int) -> None:
        self._directions = binding.xclBOSyncDirection
        self._buffer: Any = buffer
        self._size = _pages(size)
        self._host: npt.NDArray[np.uint8] = np.frombuffer(buffer.map(), np.uint8)[:size]

    @property
    def bo(self) -> Any:
        """What XRT calls it."""
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
        try:
            self._buffer.sync(direction, min(_pages(size), self._size), 0)
        except RuntimeError as error:
            raise DeviceLostError(f"a copy between host and card failed: {error}") from error

    def close(self) -> None:
        """Free it."""
        self._host = np.zeros(0, np.uint8)
        self._buffer = None


class BindingRun:
    """A run."""

    def __init__(self, binding: Any, run: Any) -> None:
        states = binding.ert_cmd_state
        self._done = states.ERT_CMD_STATE_COMPLETED
        self._pending = {
            getattr(states, f"ERT_CMD_STATE_{name}", None)
            for name in ("NEW", "QUEUED", "RUNNING", "SUBMITTED")
        }
        self._run: Any = run

    def set_buffer(self, argument: int, buffer: Buffer) -> None:
        """Pass a buffer."""
        assert isinstance(buffer, BindingBuffer)
        self._run.set_arg(argument, buffer.bo)

    def set_scalar(self, argument: int, value: int) -> None:
        """Pass a number."""
        # The binding takes signed 32-bit numbers.
        self._run.set_arg(argument, value - (1 << 32) if value >= 1 << 31 else value)

    def start(self) -> None:
        """Queue the run."""
        try:
            self._run.start()
        except RuntimeError as error:
            raise DeviceLostError(f"a run could not be started: {error}") from error

    def state(self) -> RunState:
        """How far it is."""
        # Not `wait`, which keeps all other threads of Python waiting too.
        try:
            state = self._run.state()
        except RuntimeError as error:
            raise DeviceLostError(f"a run's state is not known: {error}") from error
        if state == self._done:
            return RunState.DONE
        return RunState.PENDING if state in self._pending else RunState.FAILED

    def close(self) -> None:
        """Give it back."""
        self._run = None


class BindingUnit:
    """A compute unit."""

    def __init__(self, binding: Any, owner: Any, kernel: Any, what: str) -> None:
        self._binding = binding
        self._owner = owner
        self._kernel: Any = kernel
        self._what = what

    def group(self, argument: int) -> int:
        """The memory group of an argument."""
        try:
            return int(self._kernel.group_id(argument))
        except RuntimeError as error:
            raise WrongBitstreamError(
                f"{self._what} has no memory for argument {argument}: {error}"
            ) from error

    def buffer(self, size: int, group: int) -> BindingBuffer:
        """Memory."""
        kind = self._binding.bo
        flags = getattr(kind, "normal", None)
        if flags is None:
            flags = kind.flags.normal
        try:
            buffer = kind(self._owner, _pages(size), flags, group)
        except (RuntimeError, MemoryError) as error:
            raise DeviceMemoryError(
                f"{self._what}: the card has no {size:,} bytes left in memory group {group}; "
                "run fewer words at once, or close other sessions"
            ) from error
        return BindingBuffer(self._binding, buffer, size)

    def run(self) -> BindingRun:
        """A run."""
        return BindingRun(self._binding, self._binding.run(self._kernel))

    def write_register(self, offset: int, value: int) -> bool:
        """The binding has no access to registers."""
        return False

    def close(self) -> None:
        """Give it back."""
        self._kernel = None


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
        """What the card calls its platform."""
        try:
            return str(self._device.get_info(self._binding.xrt_info_device.name))
        except (AttributeError, RuntimeError):
            return ""

    def load(self, path: Path) -> None:
        """Load an xclbin: in a hardware context, or the older way."""
        binding = self._binding
        try:
            if hasattr(binding, "hw_context"):
                self._uuid = self._device.register_xclbin(binding.xclbin(str(path)))
                self._context = binding.hw_context(self._device, self._uuid)
            else:
                self._uuid = self._device.load_xclbin(str(path))
        except RuntimeError as error:
            kind = DeviceBusyError if _busy(error) else WrongBitstreamError
            raise kind(
                f"card {self._number} does not take {path} ({error}); is it for its platform?"
            ) from error

    def unit(self, name: str) -> BindingUnit:
        """A compute unit."""
        what = f"card {self._number}'s {name}"
        binding = self._binding
        try:
            if self._context is not None:
                owner, kernel = self._context, binding.kernel(self._context, name)
            else:
                owner = self._device
                kernel = binding.kernel(owner, self._uuid, name, binding.kernel.exclusive)
        except RuntimeError as error:
            kind = DeviceBusyError if _busy(error) else WrongBitstreamError
            raise kind(f"{what} cannot be opened: {error}") from error
        return BindingUnit(binding, owner, kernel, what)

    def close(self) -> None:
        """Give it back."""
        self._context = self._device = None


class BindingDoor:
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
        """What it is."""
        return "pyxrt"

    def cards(self) -> list[str]:
        """Platforms of the cards."""
        names: list[str] = []
        count = MOST_CARDS
        if hasattr(self._binding, "enumerate_devices"):
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
            return BindingCard(self._binding, self._binding.device(number), number)
        except (RuntimeError, IndexError) as error:
            raise DeviceNotFoundError(
                f"device xrt:{number}: XRT has no such card ({error}); "
                "list the cards with: python -m trencadis_host.xrt"
            ) from error


def open_binding() -> BindingDoor:
    """The door, with the binding imported.

    Raises
    ------
    XrtMissingError
        If it is not installed.
    """
    try:
        return BindingDoor(importlib.import_module("pyxrt"))
    except ImportError as error:
        raise XrtMissingError(
            f"device xrt: the Python binding pyxrt cannot be imported ({error}); it comes with "
            "XRT, whose setup.sh makes it known"
        ) from error


def _busy(error: RuntimeError) -> bool:
    text = str(error).lower()
    return "busy" in text or "in use" in text or "permission" in text


def _pages(size: int) -> int:
    return -(-max(size, 1) // PAGE) * PAGE
