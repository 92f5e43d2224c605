"""Segments that are computed piece by piece."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trencadis_format.cut_segment import CutSegment, piece_maps, piece_tensor
from trencadis_format.overlay import Overlay
from trencadis_format.tensors import output_tensor
from trencadis_host.devices.protocol import Statistics
from trencadis_host.joins import run_stage

__all__ = ["CutStep", "OverlayRunner"]

Array = npt.NDArray[Any]


MAX_KEPT_BYTES = 1 << 30
"""Memory of the devices of one segment that stay open."""


class OverlayRunner(Protocol):
    """A device with one program, as a `Session` of one overlay segment is."""

    @property
    def device_name(self) -> str:
        """Name of the device."""
        ...

    @property
    def statistics(self) -> Statistics | None:
        """Statistics of the last run."""
        ...

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Choices of the device, layer by layer, where it has them."""
        ...

    @property
    def held_bytes(self) -> int | None:
        """Memory that the device holds between runs; None if it is more than memory."""
        ...

    def run(self, output_names: None, input_feed: Mapping[str, Array]) -> list[Array]:
        """Compute a batch."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class CutStep:
    """A segment in pieces.

    A device is opened for one image at a time. What is nothing but memory stays open for the next
    batch, up to `MAX_KEPT_BYTES` in all: memory does not grow with the number of pieces.

    Parameters
    ----------
    segment : CutSegment
        What to compute.
    open_overlay : callable
        Opens a device for an image.
    """

    def __init__(
        self, segment: CutSegment, open_overlay: Callable[[Overlay], OverlayRunner]
    ) -> None:
        self._segment = segment
        self._open_overlay = open_overlay
        self._kept: dict[int, OverlayRunner] = {}
        self._kept_bytes = 0
        self._turn = threading.Lock()

    @property
    def device_names(self) -> set[str]:
        """Names of the devices that were opened."""
        return {runner.device_name for runner in self._kept.values()}

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Choices of the devices that are open, layer by layer."""
        return [kernel for number in sorted(self._kept) for kernel in self._kept[number].kernels]

    def close(self) -> None:
        """Let go of devices."""
        for runner in self._kept.values():
            runner.close()
        self._kept.clear()

    def after_fork(self) -> None:
        """Prepare a child process: have a lock of its own; devices are told by themselves."""
        self._turn = threading.Lock()

    def run(self, values: Mapping[str, Array]) -> tuple[dict[str, Array], Statistics | None]:
        """Compute all pieces, and join them."""
        segment = self._segment
        (name,) = segment.inputs
        taken: list[Statistics | None] = []

        def run_image(number: int, maps: Array) -> Array:
            overlay = segment.overlays[number]
            with self._runner(number) as runner:
                feed = {overlay.input.name: piece_tensor(overlay, maps)}
                (made,) = runner.run(None, feed)
                taken.append(runner.statistics)
            return piece_maps(overlay, made)

        with self._turn:
            maps: Array = np.ascontiguousarray(segment.input.keys(values[name]))
            for stage in segment.stages:
                maps = run_stage(stage, maps, run_image)
        made = output_tensor(segment.output, maps)
        return {segment.outputs[0]: made}, _statistics(taken, len(maps))

    @contextmanager
    def _runner(self, number: int) -> Iterator[OverlayRunner]:
        """A device with an image, which may have it from before."""
        if number in self._kept:
            yield self._kept[number]
            return
        runner = self._open_overlay(self._segment.overlays[number])
        held = runner.held_bytes
        if held is not None and self._kept_bytes + held <= MAX_KEPT_BYTES:
            self._kept[number] = runner
            self._kept_bytes += held
            yield runner
            return
        with closing(runner):
            yield runner


def _statistics(taken: list[Statistics | None], samples: int) -> Statistics | None:
    """Statistics of all pieces, one after the other; None if a device does not count."""
    cycles = [statistics.cycles for statistics in taken if statistics is not None]
    loads = [statistics.load_cycles for statistics in taken if statistics is not None]
    if len(cycles) < len(taken) or None in cycles:
        return None
    return Statistics(
        samples,
        sum(count for count in cycles if count is not None),
        None if None in loads else sum(count for count in loads if count is not None),
    )
