"""Inference from Python, with the call shape of onnxruntime's `InferenceSession`."""

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_format.closing import Closing
from trencadis_format.compiled import CompiledNetwork, CutSegment, OverlaySegment
from trencadis_format.errors import ContainerError, InputError
from trencadis_format.map_check import check_map_program
from trencadis_format.overlay import Overlay
from trencadis_format.program_check import MapShape, check_program
from trencadis_format.tensor_formats import TensorFormat
from trencadis_format.tensors import pack_inputs, unpack_outputs
from trencadis_host.devices.protocol import (
    ChoosingDevice,
    Device,
    DeviceOptions,
    QueueingDevice,
    ReopeningDevice,
    SegmentDevice,
    Statistics,
    TensorDevice,
    open_device,
    open_segment,
)
from trencadis_host.errors import DeviceAbortedError
from trencadis_host.forks import notice_forks
from trencadis_host.segments import IN_FLIGHT, SegmentExecutor

__all__ = ["NodeArg", "Session"]

MAX_THREADS = 8
"""More do not pack faster: memory is what limits them."""


@dataclass(frozen=True)
class NodeArg:
    """An input or output, as onnxruntime describes it.

    `shape` has a name where any size is taken; `type` is like `tensor(float)`.
    """

    name: str
    shape: tuple[int | str, ...]
    type: str

    @classmethod
    def of(cls, form: TensorFormat) -> Self:
        """Make it from a format. The batch is open even where the model fixes it."""
        names = {"float32": "float", "float64": "double"}
        shape = tuple("N" if i == 0 or size is None else size for i, size in enumerate(form.shape))
        return cls(form.name, shape, f"tensor({names.get(form.dtype, form.dtype)})")


class Session(Closing):
    """A compiled network on a device.

    A session that was used before `fork` works in the child too, on a device of the child's own;
    devices that only one process can have, such as cards, say so there.

    Parameters
    ----------
    path : path
        An overlay image, made by `sparse-compile`.
    device : str
        `auto`, `cpu`, `emulator`, `sim` or another installed kind; what is after a colon is the
        kind's business. `auto` takes cards that are ready for the image, else the processor, else
        the emulator; `device_name` says which.
    build_dir : path, optional
        Where simulators are kept that a device needs to build: a folder that belongs to the caller
        and is open to nobody else.  [default: `sim` in the user's cache, `user_folder`]
    timeout_s : float
        Seconds without a result after which a run has failed.
    progress : callable, optional
        Called with a short message before each long step.
    threads : int, optional
        Threads that turn large batches into samples, at most 8, and that the device `cpu` computes
        with.  [default: the processors]

    Raises
    ------
    ContainerError
        If the image cannot be used.
    UnknownDeviceError, DeviceError
        If the device is unknown, or cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "auto",
        *,
        build_dir: str | os.PathLike[str] | None = None,
        timeout_s: float = DeviceOptions.timeout_s,
        progress: Callable[[str], None] | None = None,
        threads: int | None = None,
    ) -> None:
        network = _load(Path(path))
        options = DeviceOptions(
            build_dir=None if build_dir is None else Path(build_dir),
            timeout_s=timeout_s,
            progress=progress or DeviceOptions.progress,
            threads=threads,
        )
        threads = min(MAX_THREADS, threads or os.cpu_count() or 1)
        self._open(network, device, options, threads)

    @classmethod
    def _of_overlay(
        cls, overlay: Overlay, device: str, options: DeviceOptions, threads: int
    ) -> Self:
        """A session of one overlay segment, for a network of several."""
        session = cls.__new__(cls)
        session._open(CompiledNetwork.of_overlay(overlay), device, options, threads)
        return session

    def _open(
        self, network: CompiledNetwork, device: str, options: DeviceOptions, threads: int
    ) -> None:
        self._network = network
        self._threads = threads
        self._segments: SegmentExecutor | None = None
        self._direct: TensorDevice | None = None
        if network.only_overlay is None:

            def open_overlay(overlay: Overlay) -> Session:
                return Session._of_overlay(overlay, device, options, threads)

            def open_whole(segment: CutSegment) -> SegmentDevice | None:
                return open_segment(device, segment, options)

            in_flight = min(IN_FLIGHT, options.threads or IN_FLIGHT)
            self._segments = SegmentExecutor(
                network, open_overlay, open_whole, options.timeout_s, in_flight
            )
        else:
            self._overlay = network.only_overlay
            self._device = open_device(device, self._overlay, options)
            if isinstance(self._device, TensorDevice):
                self._direct = self._device
            self._input, self._outputs = self._overlay.input.name, [self._overlay.output.name]
        self._inherited: Device | None = None
        self._parents: list[Device] = []
        self._statistics: Statistics | None = None
        self._closed = False
        self._start_threads()
        notice_forks(self)

    def _start_threads(self) -> None:
        """Make executors, whose threads start when there is something to do, and locks."""
        self._runner = ThreadPoolExecutor(1, "session")
        self._results = ThreadPoolExecutor(1, "results")
        self._packers = ThreadPoolExecutor(self._threads, "packing") if self._threads > 1 else None
        self._turn = threading.Lock()
        self._state = threading.Lock()

    def after_fork(self) -> None:
        """Prepare a child process: have its own threads, and open the device again when used.

        What the parent's device holds is the parent's: it is neither used nor let go of here.
        """
        self._start_threads()
        if self._segments is not None:
            self._segments.after_fork()
        else:
            self._inherited = self._device

    def _own_device(self) -> None:
        """Open the device again if this process has it from its parent.

        Raises
        ------
        DeviceError
            If it can only be in one process.
        """
        with self._state:
            if self._inherited is None or self._closed:
                return
            if not isinstance(self._inherited, ReopeningDevice):
                raise DeviceAbortedError(
                    f"device {self._device.name}: was opened by the process that this one was "
                    "forked off, and works there only; open a session after fork, in each process"
                )
            self._device = self._inherited.reopen()
            self._direct = self._device if isinstance(self._device, TensorDevice) else None
            # Kept: its end would let go of what the parent uses.
            self._parents.append(self._inherited)
            self._inherited = None

    @property
    def network(self) -> CompiledNetwork:
        """The network."""
        return self._network

    @property
    def overlay(self) -> Overlay:
        """The program of a network that is one overlay segment.

        Raises
        ------
        InputError
            If it has several segments.
        """
        if self._segments is not None:
            raise InputError(
                f"{self._network.name!r} has {len(self._network.segments)} segments; this needs a "
                "network that is one overlay segment: compile with --strict"
            )
        return self._overlay

    @property
    def device_name(self) -> str:
        """Name of the device, such as `cpu:avx2`; `onnxruntime` if none is needed."""
        if self._segments is not None:
            return self._segments.device_name
        return self._device.name

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Choices of the device, layer by layer, where it has them, as `cpu` does; JSON-ready."""
        if self._segments is not None:
            return self._segments.kernels
        return self._device.kernels if isinstance(self._device, ChoosingDevice) else []

    @property
    def held_bytes(self) -> int | None:
        """Memory that the device holds between runs; None if it is more than memory."""
        if self._segments is not None or not isinstance(self._device, ReopeningDevice):
            return None
        return self._device.held_bytes

    @property
    def statistics(self) -> Statistics | None:
        """Statistics of the last run; None before the first."""
        return self._statistics

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs."""
        return [NodeArg.of(form) for form in self._network.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The model's outputs."""
        return [NodeArg.of(form) for form in self._network.outputs]

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.ArrayLike]
    ) -> list[npt.NDArray[Any]]:
        """Infer a batch of any size.

        Parameters
        ----------
        output_names : sequence of str, or None
            Outputs to return; None, or an empty list, for all.
        input_feed : mapping of str to array
            The model's inputs by name, shape (samples, ...).

        Returns
        -------
        list of array
            The outputs, shape (samples, ...).

        Raises
        ------
        InputError
            If names, shapes or types are not the model's.
        DeviceError
            If the device fails.
        """
        if self._segments is not None:
            feed, names = self._check_names(output_names, input_feed)
            return self._run_segments(feed, names)
        direct = self._direct if self._inherited is None else None
        if direct is not None and (not output_names or output_names == self._outputs):
            array = input_feed.get(self._input) if type(input_feed) is dict else None
            if type(array) is np.ndarray and len(input_feed) == 1 and not self._closed:
                computed = direct.infer(array)
                if computed is not None:
                    outputs, self._statistics = computed
                    return [outputs]
        samples, copies = self._take(output_names, input_feed)
        results, self._statistics = self._run(samples)
        return [unpack_outputs(self._overlay, results)] * copies

    def submit(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.ArrayLike]
    ) -> Future[list[npt.NDArray[Any]]]:
        """Infer a batch later, while others are under way.

        Cards transfer the next batch while they compute the last one; on other devices a thread
        takes batches one after the other. From a coroutine:
        `await asyncio.wrap_future(session.submit(None, feed))`. A batch that is cancelled before it
        has begun is not computed, if the device can still drop it.

        Results are unpacked, and callbacks of the future called, in a thread of the session's; a
        callback may use the session, and close it.

        Parameters
        ----------
        output_names, input_feed : as in `run`

        Returns
        -------
        Future
            Of what `run` returns, or raises of the device's errors.

        Raises
        ------
        InputError
            If names, shapes or types are not the model's.
        DeviceError
            If the device takes no more.
        """
        if self._segments is not None:
            feed, names = self._check_names(output_names, input_feed)
            with self._state:
                self._check_open()
                return self._runner.submit(self._run_segments, feed, names)
        samples, copies = self._take(output_names, input_feed)
        promised: Future[list[npt.NDArray[Any]]] = Future()
        with self._state:
            self._check_open()
            if isinstance(self._device, QueueingDevice):
                pending = self._device.submit(samples)
            else:
                pending = self._runner.submit(self._run, samples)

        def finish() -> None:
            if not promised.set_running_or_notify_cancel():
                return
            try:
                results, self._statistics = pending.result()
                promised.set_result([unpack_outputs(self._overlay, results)] * copies)
            except BaseException as error:
                promised.set_exception(error)

        def hand_over(done: Future[Any]) -> None:
            try:
                self._results.submit(finish)
            except RuntimeError:
                finish()  # the session has been closed meanwhile

        def drop(done: Future[Any]) -> None:
            if done.cancelled():
                pending.cancel()

        promised.add_done_callback(drop)
        pending.add_done_callback(hand_over)
        return promised

    def _run_segments(
        self, feed: Mapping[str, npt.NDArray[Any]], names: Sequence[str]
    ) -> list[npt.NDArray[Any]]:
        """Compute a batch segment by segment."""
        assert self._segments is not None
        outputs, self._statistics = self._segments.run(feed)
        return [outputs[name] for name in names]

    def _run(self, samples: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], Statistics]:
        """Compute samples; one batch at a time, if the device does not queue them itself."""
        if isinstance(self._device, QueueingDevice):
            return self._device.run(samples)
        with self._turn:
            if self._closed:
                raise DeviceAbortedError(f"device {self._device.name}: closed before a run began")
            return self._device.run(samples)

    def _take(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.ArrayLike]
    ) -> tuple[npt.NDArray[np.uint8], int]:
        """Samples of a call, and how many times their output is wanted."""
        feed, names = self._check_names(output_names, input_feed)
        if self._inherited is not None:
            self._own_device()
        try:
            samples = pack_inputs(self._overlay, feed[self._overlay.input.name], self._packers)
        except RuntimeError:
            self._check_open()  # closed meanwhile: the packers take no more
            raise
        return samples, len(names)

    def _check_names(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.ArrayLike]
    ) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
        """Inputs, and the names of the outputs that are wanted."""
        self._check_open()
        inputs = [form.name for form in self._network.inputs]
        if not isinstance(input_feed, Mapping):
            kind = type(input_feed).__name__
            shown = ", ".join(f"{name!r}: array" for name in inputs)
            raise InputError(f"inputs must be {{{shown}}}, not of type {kind}")
        if sorted(input_feed) != sorted(inputs):
            raise InputError(f"inputs must be {inputs}, not {list(input_feed)}")
        known = [form.name for form in self._network.outputs]
        for name in output_names or []:
            if name not in known:
                raise InputError(f"outputs must be among {known}, not {name!r}")
        feed = {name: np.asarray(array) for name, array in input_feed.items()}
        return feed, list(output_names) if output_names else known

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("the session is closed; open another one")

    def close(self) -> None:
        """Let go of the device; runs that have begun are waited for, the others given up."""
        with self._state:
            if self._closed:
                return
            self._closed = True
        self._runner.shutdown()
        if self._segments is not None:
            self._segments.close()
        elif self._inherited is not None:
            pass  # it is open in the parent, which closes it
        elif isinstance(self._device, QueueingDevice):
            self._device.close()
        else:
            with self._turn:
                self._device.close()
        if self._packers is not None:
            self._packers.shutdown()
        # Not waited for: it may be a callback of its own that closes the session.
        self._results.shutdown(wait=False)


def _load(path: Path) -> CompiledNetwork:
    """A network whose programs can be run, on whatever device.

    Raises
    ------
    ContainerError
        If the file is none, or a program would compute nonsense or never end.
    """
    network = CompiledNetwork.load(path)
    for segment in network.segments:
        overlays: tuple[Overlay, ...] = ()
        if isinstance(segment, OverlaySegment):
            overlays = (segment.overlay,)
        elif isinstance(segment, CutSegment):
            overlays = segment.overlays
        for overlay in overlays:
            try:
                _check_program(overlay)
            except ValueError as error:
                raise ContainerError(
                    f"{path}: not a usable overlay image: {error}; compile the model again"
                ) from error
    return network


def _check_program(overlay: Overlay) -> None:
    source, form = overlay.input, overlay.output
    cycles = float(overlay.report.get("cycles_per_word", math.inf))
    if overlay.kernel.core.map is not None:
        check_map_program(
            overlay.image,
            overlay.kernel,
            positions=source.rows * source.columns,
            channels=source.channels,
            output_bytes=form.pieces * form.piece_bytes,
            cycles_per_inference=cycles,
        )
        return
    check_program(
        overlay.image,
        overlay.kernel,
        MapShape(source.rows, source.columns, source.channels),
        MapShape(form.rows, form.columns, form.channels, form.raw),
        cycles,
    )
