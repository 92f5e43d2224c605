"""Inference from Python, with the call shape of onnxruntime's `InferenceSession`."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_host.device import DeviceOptions, QueueingDevice, Statistics, open_device
from trencadis_host.faults import DeviceAbortedError
from trencadis_host.packing import pack_inputs, unpack_outputs
from trencadis_hw.closing import Closing
from trencadis_hw.container import InputError, InputFormat, OutputFormat, Overlay

__all__ = ["NodeArg", "Session"]

MOST_THREADS = 8
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
    def of(cls, form: InputFormat | OutputFormat) -> Self:
        """From a format of an overlay. The batch is open even where the model fixes it."""
        names = {"float32": "float", "float64": "double"}
        shape = tuple("N" if i == 0 or size is None else size for i, size in enumerate(form.shape))
        return cls(form.name, shape, f"tensor({names.get(form.dtype, form.dtype)})")


class Session(Closing):
    """A compiled network on a device.

    Parameters
    ----------
    path : path
        An overlay image, made by `sparse-compile`.
    device : str
        `emulator`, `sim` or another installed kind; what is behind a colon is the kind's business.
    build_dir : path, optional
        Where simulators are kept that a device needs to build.
    timeout_s : float
        Seconds without a result after which a run has failed.
    progress : callable, optional
        Told, in a few words, about each step that takes time.
    threads : int, optional
        Threads that turn large batches into words.  [default: the processors, at most 8]

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
        device: str = "emulator",
        *,
        build_dir: str | os.PathLike[str] | None = None,
        timeout_s: float = DeviceOptions.timeout_s,
        progress: Callable[[str], None] | None = None,
        threads: int | None = None,
    ) -> None:
        self._overlay = Overlay.load(Path(path))
        options = DeviceOptions(
            build_dir=DeviceOptions.build_dir if build_dir is None else Path(build_dir),
            timeout_s=timeout_s,
            progress=progress or DeviceOptions.progress,
        )
        self._device = open_device(device, self._overlay, options)
        self._statistics: Statistics | None = None
        # Threads are started when there is something to do.
        self._runner = ThreadPoolExecutor(1, "session")
        self._results = ThreadPoolExecutor(1, "results")
        threads = min(MOST_THREADS, os.cpu_count() or 1) if threads is None else threads
        self._packers = ThreadPoolExecutor(threads, "packing") if threads > 1 else None
        self._turn = threading.Lock()
        self._state = threading.Lock()
        self._closed = False

    @property
    def overlay(self) -> Overlay:
        """The network."""
        return self._overlay

    @property
    def statistics(self) -> Statistics | None:
        """What the last run took; None before the first."""
        return self._statistics

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs: one."""
        return [NodeArg.of(self._overlay.input)]

    def get_outputs(self) -> list[NodeArg]:
        """The model's outputs: one."""
        return [NodeArg.of(self._overlay.output)]

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.ArrayLike]
    ) -> list[npt.NDArray[Any]]:
        """Infer a batch of any size.

        Parameters
        ----------
        output_names : sequence of str, or None
            Outputs to return; None, or an empty list, for all.
        input_feed : mapping of str to array
            The model's input by name, shape (words, ...).

        Returns
        -------
        list of array
            The outputs, shape (words, ...).

        Raises
        ------
        InputError
            If names, shapes or types are not the model's.
        DeviceError
            If the device fails.
        """
        words, copies = self._take(output_names, input_feed)
        results, self._statistics = self._run(words)
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
        words, copies = self._take(output_names, input_feed)
        promised: Future[list[npt.NDArray[Any]]] = Future()
        with self._state:
            self._check_open()
            if isinstance(self._device, QueueingDevice):
                pending = self._device.submit(words)
            else:
                pending = self._runner.submit(self._run, words)

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

    def _run(self, words: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], Statistics]:
        """Compute words; one batch at a time, if the device does not queue them itself."""
        if isinstance(self._device, QueueingDevice):
            return self._device.run(words)
        with self._turn:
            if self._closed:
                raise DeviceAbortedError(f"device {self._device.name}: closed before a run began")
            return self._device.run(words)

    def _take(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.ArrayLike]
    ) -> tuple[npt.NDArray[np.uint8], int]:
        """Words of a call, and how many times their output is wanted."""
        self._check_open()
        form = self._overlay.input
        if not isinstance(input_feed, Mapping):
            kind = type(input_feed).__name__
            raise InputError(f"inputs must be {{{form.name!r}: array}}, not of type {kind}")
        if list(input_feed) != [form.name]:
            raise InputError(f"inputs must be [{form.name!r}], not {list(input_feed)}")
        known = self._overlay.output.name
        for name in output_names or []:
            if name != known:
                raise InputError(f"outputs must be among [{known!r}], not {name!r}")
        try:
            words = pack_inputs(self._overlay, input_feed[form.name], self._packers)
        except RuntimeError:
            self._check_open()  # closed meanwhile: the packers take no more
            raise
        return words, len(output_names) if output_names else 1

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
        if isinstance(self._device, QueueingDevice):
            self._device.close()
        else:
            with self._turn:
                self._device.close()
        if self._packers is not None:
            self._packers.shutdown()
        # Not waited for: it may be a callback of its own that closes the session.
        self._results.shutdown(wait=False)
