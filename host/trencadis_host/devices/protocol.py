"""The protocol of devices, behind which emulator, simulator and cards are alike."""

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

from trencadis_format.cut_segment import CutSegment
from trencadis_format.errors import UserError
from trencadis_format.overlay import Overlay
from trencadis_format.registers import Status
from trencadis_format.user_cache import default_folder, kept_file
from trencadis_host.errors import (
    DeviceAbortedError,
    DeviceError,
    MissingToolError,
    WrongImageError,
)

__all__ = [
    "ChoosingDevice",
    "Device",
    "DeviceError",
    "DeviceOptions",
    "MissingToolError",
    "QueueingDevice",
    "ReopeningDevice",
    "SegmentDevice",
    "Statistics",
    "TensorDevice",
    "UnknownDeviceError",
    "device_names",
    "open_device",
    "open_segment",
    "raise_for_status",
]

ENTRY_POINTS = "trencadis.devices"
SEGMENT_ENTRY_POINTS = "trencadis.segments"

PackedBatch = npt.NDArray[np.uint8]


class UnknownDeviceError(UserError):
    """There is no such device. One line, with the names there are."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of a run.

    Attributes
    ----------
    samples : int
        Samples computed.
    cycles : int or None
        Cycles from start to the last output written; None if the device does not count.
    load_cycles : int or None
        Cycles of these spent on loading the image.
    output_interval : float or None
        Cycles per sample from the first one out to the last. Of few samples it is less than in
        steady state, for a run ends with samples of which only late layers are left: see
        `benchmark.cycles_per_inference`.
    busy_cycles : int or None
        Cycles in which the first engine of the first core issued work.
    """

    samples: int
    cycles: int | None = None
    load_cycles: int | None = None
    output_interval: float | None = None
    busy_cycles: int | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, int]) -> Self:
        """Make it from a `STATISTICS` record."""
        samples = record["samples"]
        steady = None
        if samples > 1:
            steady = (record["last_done"] - record["first_done"]) / (samples - 1)
        return cls(samples, record["cycles"], record["load_cycles"], steady, record["busy"])


@dataclass(frozen=True)
class DeviceOptions:
    """Options of devices; each takes what concerns it.

    Attributes
    ----------
    build_dir : Path, optional
        Where simulators are kept; see `simulators`.
    xclbin_dir : Path, optional
        Where bitstreams are looked for; see `xclbin`.
    timeout_s : float
        Seconds without a result after which a run has failed.
    progress : callable
        Called with a short message before each long step.
    threads : int or None
        Threads that compute; None for one per core.
    kernel_dir : Path or None
        Where compiled kernels are kept; None for the user's cache.
    """

    build_dir: Path | None = None
    xclbin_dir: Path | None = None
    timeout_s: float = 600.0
    progress: Callable[[str], None] = lambda text: None
    threads: int | None = None
    kernel_dir: Path | None = None

    def xclbin(self, digest: int) -> Path:
        """Path of the bitstream of a kernel's configuration; it need not be there.

        Parameters
        ----------
        digest : int
            Digest of the configuration.

        Raises
        ------
        CacheError
            If there is no such folder, or others may write into it.
        """
        folder = self.xclbin_dir or default_folder("xclbin")
        return kept_file(folder, f"{digest:016x}.xclbin")

    @property
    def simulators(self) -> Path:
        """Folder of simulators: as the caller says, or in the user's cache.

        Raises
        ------
        CacheError
            If the user has no home.
        """
        return default_folder("sim") if self.build_dir is None else self.build_dir


class Device(Protocol):
    """Runs samples of a network.

    A device is opened with the network's overlay. `run` may be called any number of times; after
    an error the next run starts afresh.
    """

    @property
    def name(self) -> str:
        """Name of the device."""
        ...

    def run(self, samples: PackedBatch) -> tuple[PackedBatch, Statistics]:
        """Compute samples.

        Parameters
        ----------
        samples : uint8 array, shape (count, overlay.input_bytes)
            Packed inputs, at least one.

        Returns
        -------
        tuple
            Packed outputs, shape (count, overlay.output_bytes), and what the run took.

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
        /,
    ) -> None: ...


@runtime_checkable
class QueueingDevice(Protocol):
    """A device that takes more samples while it computes others."""

    def submit(self, samples: PackedBatch) -> Future[tuple[PackedBatch, Statistics]]:
        """Compute samples later; what `Device.run` returns, or raises, is in the future."""
        ...


@runtime_checkable
class TensorDevice(Protocol):
    """A device that also takes the model's own arrays: for small batches packing takes as long."""

    def infer(self, array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Statistics] | None:
        """Compute a batch.

        Parameters
        ----------
        array : array, shape (samples, ...)
            The model's input.

        Returns
        -------
        tuple or None
            The model's output and what the run took; None for an array that has to be packed, or
            that `pack_inputs` refuses.

        Raises
        ------
        DeviceError
            If the device fails.
        """
        ...


@runtime_checkable
class ChoosingDevice(Protocol):
    """A device that chooses how it computes each layer."""

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Choices of the device, layer by layer; JSON-ready."""
        ...


@runtime_checkable
class ReopeningDevice(Protocol):
    """A device that is nothing but this process's memory, and can be made again after `fork`."""

    @property
    def held_bytes(self) -> int:
        """Memory that it holds between runs."""
        ...

    def reopen(self) -> Device:
        """Open the same device for a child process; this one, which is the parent's, is not used.

        Raises
        ------
        DeviceError
            If it cannot be opened.
        """
        ...


class SegmentDevice(Protocol):
    """A device without the limits of a core, which computes a segment in pieces whole.

    Results are those of the pieces.
    """

    @property
    def name(self) -> str:
        """Name of the device."""
        ...

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Choices of the device, layer by layer; JSON-ready."""
        ...

    def run(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Statistics]:
        """The segment's output tensor of its input, shape (samples, ...), and what it took.

        Raises
        ------
        InputError
            If shape or type are not the segment's, or a value is not a number.
        DeviceError
            If the device fails.
        """
        ...

    def after_fork(self) -> None:
        """Prepare a child process."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def device_names() -> list[str]:
    """Names of the installed kinds of devices."""
    return sorted(point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS))


def open_device(name: str, overlay: Overlay, options: DeviceOptions) -> Device:
    """Open a device by name: a kind, and what it is to be told after a colon.

    Kinds are entry points of the group `trencadis.devices`: callables that take what is after the
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


def open_segment(name: str, segment: CutSegment, options: DeviceOptions) -> SegmentDevice | None:
    """Open a device for a whole segment in pieces; None if the device takes pieces only.

    Kinds that do are entry points of the group `trencadis.segments`, like those of `open_device`.

    Raises
    ------
    DeviceError
        If the device cannot be opened.
    """
    kind, _, argument = name.partition(":")
    found = importlib.metadata.entry_points(group=SEGMENT_ENTRY_POINTS, name=kind)
    if not found:
        return None
    try:
        opener: Any = next(iter(found)).load()
    except ImportError:
        return None  # `open_device` says what is missing
    device: SegmentDevice | None = opener(argument, segment, options)
    return device


def raise_for_status(device: str, status: Status) -> None:
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
    explanations: dict[Status, tuple[type[DeviceError], str]] = {
        Status.READ_ERROR: (
            DeviceError,
            "reading device memory failed; are all buffers on this device?",
        ),
        Status.WRITE_ERROR: (
            DeviceError,
            "writing device memory failed; are all buffers on this device?",
        ),
        Status.BAD_IMAGE: (
            WrongImageError,
            "it refused the image, which is for other hardware; compile for it",
        ),
        Status.OVERFLOW: (
            DeviceError,
            "a queue in the core overflowed: a fault of ours, please report it",
        ),
        Status.ABORTED: (DeviceAbortedError, "the run was aborted"),
        Status.NO_IMAGE: (DeviceError, "no image was loaded before the run"),
    }
    for flag, (error, explanation) in explanations.items():
        if status & flag:
            raise error(f"device {device}: {explanation}")
