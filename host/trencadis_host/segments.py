"""Networks of several segments: device images and ONNX graphs, with named tensors between them."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trencadis_format.closing import Closing
from trencadis_format.compiled import CompiledNetwork, CutSegment, OverlaySegment
from trencadis_format.errors import InputError
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import TensorFormat, check_batch
from trencadis_host.cut_step import CutStep, OverlayRunner
from trencadis_host.devices.protocol import SegmentDevice, Statistics
from trencadis_host.host_step import HostStep

__all__ = ["IN_FLIGHT", "OverlayRunner", "SegmentExecutor"]

Array = npt.NDArray[Any]

TIMEOUT_S = 600.0
"""Seconds that a host segment with loops may take, if nothing else is said."""

IN_FLIGHT = 4
"""Parts of a batch that are computed at the same time, each in another segment, at most."""


class SegmentExecutor(Closing):
    """Runs a network segment by segment.

    Parts of a batch follow each other through the segments: each segment computes one at a time.

    Parameters
    ----------
    network : CompiledNetwork
        The network.
    open_overlay : callable
        Opens a device for one of its programs.
    open_whole : callable
        Opens a device for a segment in pieces that it computes whole; None if there is none.
    timeout_s : float
        Seconds after which a host segment with loops has failed.
    in_flight : int
        Parts of a batch that are computed at the same time.

    Raises
    ------
    MissingOnnxruntimeError
        If there is a host segment and onnxruntime is not installed.
    DeviceError
        If a host segment cannot be loaded, or a device not be opened.
    """

    def __init__(
        self,
        network: CompiledNetwork,
        open_overlay: Callable[[Overlay], OverlayRunner],
        open_whole: Callable[[CutSegment], SegmentDevice | None] = lambda segment: None,
        timeout_s: float = TIMEOUT_S,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self._network = network
        self._overlays: list[OverlayRunner] = []
        self._cuts: list[CutStep] = []
        self._wholes: list[SegmentDevice] = []
        self._steps: list[_Step] = []
        self._in_flight = in_flight
        self._pool = ThreadPoolExecutor(in_flight, "segments")
        try:
            for segment in network.segments:
                if isinstance(segment, OverlaySegment):
                    runner = open_overlay(segment.overlay)
                    self._overlays.append(runner)
                    self._steps.append(_OverlayStep(segment, runner))
                elif isinstance(segment, CutSegment):
                    self._steps.append(self._cut_step(segment, open_overlay, open_whole))
                else:
                    self._steps.append(HostStep(segment, timeout_s))
        except BaseException:
            self.close()
            raise
        self._last_use = self._last_uses()

    def _cut_step(
        self,
        segment: CutSegment,
        open_overlay: Callable[[Overlay], OverlayRunner],
        open_whole: Callable[[CutSegment], SegmentDevice | None],
    ) -> "_Step":
        """Choose whether a segment in pieces is computed whole."""
        device = open_whole(segment)
        if device is None:
            self._cuts.append(CutStep(segment, open_overlay))
            return self._cuts[-1]
        self._wholes.append(device)
        return _WholeStep(segment, device)

    @property
    def device_name(self) -> str:
        """Names of the devices of overlay segments; `onnxruntime` if there are none."""
        names = {runner.device_name for runner in self._overlays}
        names |= {device.name for device in self._wholes}
        for step in self._cuts:
            names |= step.device_names
        return ", ".join(sorted(names)) or "onnxruntime"

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Choices of devices, layer by layer, where they have them."""
        parts = (*self._overlays, *self._wholes, *self._cuts)
        return [kernel for part in parts for kernel in part.kernels]

    def after_fork(self) -> None:
        """Prepare a child process: have threads and locks of its own."""
        self._pool = ThreadPoolExecutor(self._in_flight, "segments")
        for step in self._steps:
            step.after_fork()

    def run(self, feed: Mapping[str, Array]) -> tuple[dict[str, Array], Statistics]:
        """Compute a batch.

        Parameters
        ----------
        feed : mapping of str to array
            Every input by name. Where the model fixes the size of a batch, any multiple of it.

        Returns
        -------
        tuple
            Every output by name, and what the run took.

        Raises
        ------
        InputError
            If shapes or types are not the model's.
        DeviceError
            If a segment fails.
        """
        parts = self._parts(feed)
        found = (
            list(self._pool.map(self._run_part, parts))
            if len(parts) > 1
            else [self._run_part(parts[0])]
        )
        outputs = {
            form.name: np.concatenate([values[form.name] for values, _ in found])
            if len(found) > 1
            else found[0][0][form.name]
            for form in self._network.outputs
        }
        return outputs, _together([statistics for _, statistics in found])

    def held_tensors(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Every tensor between segments, for comparing: inputs and outputs as well."""
        parts = self._parts(feed)
        found = [self._values(part, keep=True)[0] for part in parts]
        return (
            {name: np.concatenate([values[name] for values in found]) for name in found[0]}
            if (len(found) > 1)
            else found[0]
        )

    def _parts(self, feed: Mapping[str, Array]) -> list[dict[str, Array]]:
        """The batch as the model takes it, in one or several parts."""
        arrays = {form.name: np.asarray(feed[form.name]) for form in self._network.inputs}
        size = self._network.fixed_batch
        if size is None or not arrays:
            for form in self._network.inputs:
                _check(arrays[form.name], form)
            return [arrays]
        counts = set()
        for form in self._network.inputs:
            check_batch(arrays[form.name], form.name, form.shape, form.dtype)
            counts.add(len(arrays[form.name]))
        if len(counts) != 1:
            raise InputError(f"inputs have {sorted(counts)} samples; give all as many")
        (count,) = counts
        if count % size:
            raise InputError(
                f"the model takes {size} samples at a time, but there are {count}; give a multiple"
            )
        return [
            {name: array[start : start + size] for name, array in arrays.items()}
            for start in range(0, count, size)
        ]

    def _run_part(self, part: Mapping[str, Array]) -> tuple[dict[str, Array], Statistics]:
        return self._values(part, keep=False)

    def _values(
        self, part: Mapping[str, Array], *, keep: bool
    ) -> tuple[dict[str, Array], Statistics]:
        values = dict(part)
        taken: list[Statistics] = []
        for number, step in enumerate(self._steps):
            made, statistics = step.run(values)
            values.update(made)
            if statistics is not None:
                taken.append(statistics)
            if not keep:
                for name in self._last_use.get(number, ()):
                    del values[name]
        first = next(iter(part.values()), None)
        samples = len(first) if first is not None and first.ndim else 1
        return values, _in_turn(taken, samples)

    def _last_uses(self) -> dict[int, list[str]]:
        """Tensors that nothing reads after a segment, by its number."""
        kept = {form.name for form in self._network.outputs}
        last: dict[str, int] = {}
        for number, segment in enumerate(self._network.segments):
            for name in (*segment.inputs, *segment.outputs):
                last[name] = number
        found: dict[int, list[str]] = {}
        for name, number in last.items():
            if name not in kept:
                found.setdefault(number, []).append(name)
        return found

    def close(self) -> None:
        """Let go of devices."""
        self._pool.shutdown()
        for part in (*self._overlays, *self._wholes, *self._cuts):
            part.close()


class _Step(Protocol):
    """A segment that is ready to run."""

    def after_fork(self) -> None:
        """Prepare a child process: be ready again."""
        ...

    def run(self, values: Mapping[str, Array]) -> tuple[dict[str, Array], Statistics | None]:
        """The tensors that it makes, and what it took, if it counts."""
        ...


class _OverlayStep:
    def __init__(self, segment: OverlaySegment, runner: OverlayRunner) -> None:
        self._segment = segment
        self._runner = runner
        self._turn = threading.Lock()

    def after_fork(self) -> None:
        """Have a lock of its own; the runner is told by itself."""
        self._turn = threading.Lock()

    def run(self, values: Mapping[str, Array]) -> tuple[dict[str, Array], Statistics | None]:
        """Compute on the device."""
        (name,) = self._segment.inputs
        with self._turn:
            (made,) = self._runner.run(None, {name: values[name]})
            return {self._segment.outputs[0]: made}, self._runner.statistics


class _WholeStep:
    def __init__(self, segment: CutSegment, device: SegmentDevice) -> None:
        self._segment, self._device = segment, device

    def after_fork(self) -> None:
        """Prepare the device."""
        self._device.after_fork()

    def run(self, values: Mapping[str, Array]) -> tuple[dict[str, Array], Statistics | None]:
        """Compute on the device."""
        made, statistics = self._device.run(values[self._segment.input.name])
        return {self._segment.output.name: made}, statistics


def _check(array: Array, form: TensorFormat) -> None:
    """Tell whether an array is an input of a model whose first axis is no batch that is split."""
    wanted = [size if size is not None else "any" for size in form.shape]
    if array.ndim != len(wanted) or any(
        size not in ("any", have) for size, have in zip(wanted, array.shape, strict=True)
    ):
        raise InputError(f"input {form.name!r} must have shape {wanted}, not {list(array.shape)}")
    if array.dtype != np.dtype(form.dtype):
        raise InputError(
            f"input {form.name!r} must be {form.dtype}, not {array.dtype}; convert it with "
            f".astype('{form.dtype}')"
        )
    if array.size == 0 and all(size != 0 for size in form.shape):
        raise InputError(f"input {form.name!r} has no samples; give it at least one")


def _in_turn(taken: list[Statistics], samples: int) -> Statistics:
    """Statistics of segments, one after the other."""
    if len(taken) == 1 and taken[0].samples == samples:
        return taken[0]
    cycles = [statistics.cycles for statistics in taken]
    known = [count for count in cycles if count is not None]
    return Statistics(samples, sum(known) if known and len(known) == len(cycles) else None)


def _together(parts: list[Statistics]) -> Statistics:
    """Statistics of the parts of a batch."""
    if len(parts) == 1:
        return parts[0]
    known = [part.cycles for part in parts if part.cycles is not None]
    samples = sum(part.samples for part in parts)
    return Statistics(samples, sum(known) if len(known) == len(parts) else None)
