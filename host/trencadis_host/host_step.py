"""A host segment that is ready to run, within bounds of time and memory."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

from trencadis_format.compiled import HostSegment
from trencadis_format.onnx_check import operators_of
from trencadis_format.onnxruntime_door import (
    LOOPS,
    exact_mode,
    is_unsized,
    new_run,
    open_session,
)
from trencadis_host.devices.protocol import Statistics
from trencadis_host.errors import DeviceError

__all__ = ["HostStep"]

Array = npt.NDArray[Any]


class HostStep:
    """A host segment on onnxruntime.

    Parameters
    ----------
    segment : HostSegment
        The segment.
    timeout_s : float
        Seconds after which a segment with loops has failed.

    Raises
    ------
    MissingOnnxruntimeError
        If onnxruntime is not installed.
    DeviceError
        If it cannot load the segment.
    """

    def __init__(self, segment: HostSegment, timeout_s: float) -> None:
        self._segment = segment
        self._timeout_s = timeout_s
        self._operators = operators_of(segment.model)
        self._turn = threading.Lock()
        self._open()

    def after_fork(self) -> None:
        """Open onnxruntime again: its threads are the parent's."""
        self._turn = threading.Lock()
        self._parents = self._session
        self._open()

    def _open(self) -> None:
        mode, bounded = exact_mode(self._operators), is_unsized(self._operators)
        try:
            self._session = open_session(self._segment.model, mode, bounded=bounded)
        except Exception as error:  # onnxruntime raises kinds of its own
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise DeviceError(f"onnxruntime cannot load a host segment: {_line(error)}") from error

    def run(self, values: Mapping[str, Array]) -> tuple[dict[str, Array], Statistics | None]:
        """Compute by onnxruntime.

        Raises
        ------
        DeviceError
            If it fails, or takes longer than loops may.
        """
        segment = self._segment
        feed = {name: values[name] for name in segment.inputs}
        with self._turn, self._timed() as (options, ended):
            try:
                made = self._session.run(list(segment.outputs), feed, options)
            except Exception as error:
                if not type(error).__module__.startswith("onnxruntime"):
                    raise
                if ended.is_set():
                    raise DeviceError(
                        f"a host segment with loops took longer than {self._timeout_s:g} s; give "
                        "the model's loops an end, or a longer timeout_s"
                    ) from error
                raise DeviceError(f"a host segment failed: {_line(error)}") from error
        return dict(zip(segment.outputs, made, strict=True)), None

    @contextmanager
    def _timed(self) -> Iterator[tuple[Any, threading.Event]]:
        """Options of a run that ends when its time is over, if it may be endless; and whether."""
        ended = threading.Event()
        if LOOPS.isdisjoint(self._operators):
            yield None, ended
            return
        options = new_run()

        def end() -> None:
            ended.set()
            options.terminate = True

        timer = threading.Timer(self._timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            yield options, ended
        finally:
            timer.cancel()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
