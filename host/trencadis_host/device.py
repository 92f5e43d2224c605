"""What runs words: the protocol behind which emulator, simulator and cards are alike."""

import difflib
import importlib.metadata
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from trencadis_host.faults import (
    DeviceAbortedError,
    DeviceError,
    MissingToolError,
    WrongImageError,
)
from trencadis_hw import abi
from trencadis_hw.container import Overlay

__all__ = [
    "Device",
    "DeviceError",
    "DeviceOptions",
    "MissingToolError",
    "QueueingDevice",
    "Statistics",
    "UnknownDeviceError",
    "device_names",
    "open_device",
    "raise_for_status",
]

ENTRY_POINTS = "trencadis.devices"

Words = npt.NDArray[np.uint8]


class UnknownDeviceError(ValueError):
    """There is no such device. One line, with the names there are."""


@dataclass(frozen=True)
class Statistics:
    """What a run took.

    Attributes
    ----------
    words : int
        Words computed.
    cycles : int or None
        Cycles from start to the last output written; None if the device does not count.
    load_cycles : int or None
        Of these, cycles spent on loading the image.
    output_interval : float or None
        Cycles from the first word out to the last, a word. Of few words it is less than in steady
        state, for a run ends with words of which only late layers are left: see
        `benchmark.cycles_per_word`.
    busy_cycles : int or None
        Cycles in which the first engine of the first core issued work.
    """

    words: int
    cycles: int | None = None
    load_cycles: int | None = None
    output_interval: float | None = None
    busy_cycles: int | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, int]) -> Self:
        """From an `abi.STATISTICS` record."""
        words = record["words"]
        steady = None
        if words > 1:
            steady = (record["last_done"] - record["first_done"]) / (words - 1)
        return cls(words, record["cycles"], record["load_cycles"], steady, record["busy"])


@dataclass(frozen=True)
class DeviceOptions:
    """What a device may be told; each takes what concerns it.

    Attributes
    ----------
    build_dir : Path
        Where simulators are kept.
    xclbin_dir : Path
        Where bitstreams are looked for, named after the kernel's configuration.
    timeout_s : float
        Seconds without a result after which a run has failed.
    progress : callable
        Told, in a few words, about each step that takes time.
    """

    build_dir: Path = Path("build/sim")
    xclbin_dir: Path = Path("build/xclbin")
    timeout_s: float = 600.0
    progress: Callable[[str], None] = lambda text: None


class Device(Protocol):
    """Runs words of a network.

    A device is opened with the network's overlay. `run` may be called any number of times; after
    an error the next run starts afresh.
    """

    @property
    def name(self) -> str:
        """What the device calls itself."""
        ...

    def run(self, words: Words) -> tuple[Words, Statistics]:
        """Compute words.

        Parameters
        ----------
        words : uint8 array, shape (count, overlay.input_bytes)
            Packed input words, at least one.

        Returns
        -------
        tuple
            Packed output words, shape (count, overlay.output_bytes), and what the run took.

        Raises
        ------
        DeviceError
            If the device fails.
        """
        ...

    def close(self) -> None:
        """Let go of everything; the device cannot be used afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class QueueingDevice(Protocol):
    """A device that takes more words while it computes others."""

    def submit(self, words: Words) -> Future[tuple[Words, Statistics]]:
        """Compute words later; what `Device.run` returns, or raises, is in the future."""
        ...


def device_names() -> list[str]:
    """Names of the installed kinds of devices."""
    return sorted(point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS))


def open_device(name: str, overlay: Overlay, options: DeviceOptions) -> Device:
    """Open a device by name: a kind, and what it is to be told behind a colon.

    Kinds are entry points of the group `trencadis.devices`: callables that take what is behind the
    colon, an overlay and options.

    Raises
    ------
    UnknownDeviceError
        If no such kind is installed.
    MissingToolError
        If it needs software that is not installed.
    DeviceError
        If the device cannot be opened.
    """
    kind, _, argument = name.partition(":")
    found = importlib.metadata.entry_points(group=ENTRY_POINTS, name=kind)
    if not found:
        known = device_names()
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownDeviceError(f"device {name!r} is not one of {', '.join(known)}{hint}")
    try:
        opener: Any = next(iter(found)).load()
        device: Device = opener(argument, overlay, options)
    except ImportError as error:
        package = (error.name or str(error)).split(".")[0]
        raise MissingToolError(
            f"device {name!r} needs the package {package!r}, which is not installed; install it "
            f"with: pip install 'trencadis[{kind}]'"
        ) from error
    return device


def raise_for_status(device: str, status: abi.Status) -> None:
    """Turn the kernel's status into an error.

    Raises
    ------
    WrongImageError
        If the kernel refused the image.
    DeviceAbortedError
        If the run was aborted.
    DeviceError
        If any other flag is set.
    """
    explanations: dict[abi.Status, tuple[type[DeviceError], str]] = {
        abi.Status.READ_ERROR: (
            DeviceError,
            "reading device memory failed; are all buffers on this device?",
        ),
        abi.Status.WRITE_ERROR: (
            DeviceError,
            "writing device memory failed; are all buffers on this device?",
        ),
        abi.Status.BAD_IMAGE: (
            WrongImageError,
            "it refused the image, which is for other hardware; compile for it",
        ),
        abi.Status.OVERFLOW: (
            DeviceError,
            "a queue in the core overflowed: a fault of ours, please report it",
        ),
        abi.Status.ABORTED: (DeviceAbortedError, "the run was aborted"),
        abi.Status.NO_IMAGE: (DeviceError, "no image was loaded before the run"),
    }
    for flag, (error, explanation) in explanations.items():
        if status & flag:
            raise error(f"device {device}: {explanation}")
