"""Segments in pieces on the device `cpu`, whole."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.closing import Closing
from trencadis_format.cut_segment import CutSegment
from trencadis_format.tensors import output_tensor
from trencadis_host.devices.cpu.calibrate import machine_costs
from trencadis_host.devices.cpu.device import CpuDevice
from trencadis_host.devices.cpu.paths import choose_path
from trencadis_host.devices.cpu.programs import UnsuitableError
from trencadis_host.devices.cpu.source import segment_program
from trencadis_host.devices.cpu.store import open_store
from trencadis_host.devices.protocol import DeviceOptions, Statistics

__all__ = ["CpuSegment", "open_segment"]

Array = npt.NDArray[Any]

CHANNELS_LAST = (0, 2, 3, 1)
CHANNELS_SECOND = (0, 3, 1, 2)


class CpuSegment(Closing):
    """A segment whose layers the processor computes whole; see `SegmentDevice`.

    Tensors of integers leave it as views of memory that has channels last, which costs the next
    segment nothing.

    Parameters
    ----------
    segment : CutSegment
        The segment.
    device : CpuDevice
        What computes `segment_program` of it.
    """

    def __init__(self, segment: CutSegment, device: CpuDevice) -> None:
        self._segment, self._device = segment, device
        self._moves_input, self._moves_output = (
            form.axes != mine.axes
            for form, mine in (
                (segment.input, device.program.input),
                (segment.output, device.program.output),
            )
        )

    @property
    def name(self) -> str:
        """Name of the device."""
        return self._device.name

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Kernel that every layer took, as JSON."""
        return self._device.kernels

    def after_fork(self) -> None:
        """Prepare a child process."""
        self._device.reopen()

    def close(self) -> None:
        """Let the threads go."""
        self._device.close()

    def run(self, tensor: Array) -> tuple[Array, Statistics]:
        """Compute a batch.

        Parameters
        ----------
        tensor : array, shape (samples, ...)
            The segment's input.

        Returns
        -------
        tuple
            Its output, and what the run took.

        Raises
        ------
        InputError
            If shape or type are not the segment's, or a value is not a number.
        DeviceMemoryError
            If there is not enough memory.
        """
        moved = self._moves_input and tensor.ndim == len(CHANNELS_LAST)
        found = self._device.infer(tensor.transpose(CHANNELS_LAST) if moved else tensor)
        if found is not None:
            made, statistics = found
            return made.transpose(CHANNELS_SECOND) if self._moves_output else made, statistics
        form = self._segment.output
        keys = np.ascontiguousarray(self._segment.input.keys(tensor))
        packed, statistics = self._device.run(keys.reshape(len(keys), -1))
        maps = packed.view(np.int32) if form.raw else packed
        shape = (len(keys), form.rows, form.columns, form.channels)
        return output_tensor(form, maps.reshape(shape)), statistics


def open_segment(argument: str, segment: CutSegment, options: DeviceOptions) -> CpuSegment | None:
    """The segment whole; None if it is computed in pieces only.

    Raises
    ------
    DeviceNameError
        If there is no such path, or the processor does not run it.
    DeviceError
        If an image cannot be decoded.
    """
    path = choose_path(argument)
    threads = options.threads or len(os.sched_getaffinity(0))
    store = open_store(options.kernel_dir, options.progress)
    try:
        program = segment_program(segment)
        return CpuSegment(
            segment, CpuDevice(program, path, threads, store, machine_costs(path, store))
        )
    except UnsuitableError:
        return None
