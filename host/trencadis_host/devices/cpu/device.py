"""The device `cpu`: blocks of samples on the cores of this machine's processor."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.closing import Closing
from trencadis_format.models.feed_lists import unpack_entries
from trencadis_format.overlay import Overlay
from trencadis_host.devices.cpu.calibrate import machine_costs
from trencadis_host.devices.cpu.costs import DEFAULT_COSTS, Costs
from trencadis_host.devices.cpu.layer import LayerChoice
from trencadis_host.devices.cpu.network import Network, SampleForm
from trencadis_host.devices.cpu.paths import Path, choose_path
from trencadis_host.devices.cpu.programs import UnsuitableError, lower_layers
from trencadis_host.devices.cpu.source import CpuProgram, overlay_program
from trencadis_host.devices.cpu.store import CodeStore, UnkeptCode, open_store
from trencadis_host.devices.emulator.decode import DecodedInput
from trencadis_host.devices.emulator.device import Emulator
from trencadis_host.devices.maps.device import MapEmulator
from trencadis_host.devices.protocol import DeviceError, DeviceOptions, Statistics
from trencadis_host.errors import DeviceMemoryError

__all__ = ["CpuDevice", "open_device"]

PackedBatch = npt.NDArray[np.uint8]
_Array = npt.NDArray[Any]

BLOCK_BYTES = 1 << 18
"""Bytes of maps that a block of samples may take: they stay in the second-level cache."""

MAX_BLOCK = 16

TASKS_PER_THREAD = 4
"""Parts that a batch is cut into for every thread, so that none waits long for another."""

SPARSE_PART = 1024
"""Sparse samples that are unpacked at a time."""


class CpuDevice(Closing):
    """A device that computes on the processor what the hardware computes, bit for bit.

    Parameters
    ----------
    program : CpuProgram
        The network.
    path : Path
        Instructions to use.
    threads : int
        Threads that share a batch.
    store : CodeStore, optional
        Where compiled kernels are kept.
    costs : Costs
        What chooses the kernels.

    Raises
    ------
    UnsuitableError
        If the kernels do not compute the layers, and nothing else does.
    """

    def __init__(
        self,
        program: CpuProgram,
        path: Path,
        threads: int,
        store: CodeStore | None = None,
        costs: Costs = DEFAULT_COSTS,
    ) -> None:
        self._program, self._path, self._threads = program, path, threads
        self._input = program.source
        self._dtype = np.dtype(program.input.dtype)
        self._result_dtype = np.dtype(program.output.dtype)
        self._network: Network | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._free: list[_Workspace] = []
        self._last = Statistics(samples=0)
        self._input_shape = _sizes(program.input.shape)
        self._output_shape = _sizes(program.output.shape)
        self._fallback: Emulator | None = None
        try:
            programs = lower_layers(program.source, program.layers)
        except UnsuitableError:
            if program.emulate is None:
                raise
            self._fallback = program.emulate()
            return
        largest = max(layer.target.stride + layer.source.stride for layer in programs)
        block = max(1, min(MAX_BLOCK, BLOCK_BYTES // largest))
        form = SampleForm(
            input_bytes=self._dense_bytes,
            output_bytes=program.output_bytes,
            places=program.output.places,
            input=program.input,
            output=program.output,
        )
        self._network = Network(programs, form, path, block, store or UnkeptCode(), costs)

    @property
    def name(self) -> str:
        """Name of the device, with its instructions."""
        return f"cpu:{self._path.name}"

    @property
    def program(self) -> CpuProgram:
        """Layers that are computed, and their tensors."""
        return self._program

    @property
    def choices(self) -> list[LayerChoice]:
        """Kernel that every layer took; empty if the emulator computes."""
        return [] if self._network is None else self._network.choices

    @property
    def _dense_bytes(self) -> int:
        """Bytes of a packed input with all its keys."""
        if not self._input.sparse:
            return self._program.input_bytes
        return self._input.rows * self._input.columns * self._input.channels

    def memory_bytes(self, count: int) -> int:
        """Memory that a run of `count` samples takes, without the batch that goes in."""
        results = count * self._program.output_bytes
        if self._network is None:
            return results
        threads = min(self._threads, max(1, count // self._network.block))
        unpacked = min(count, SPARSE_PART) * self._dense_bytes * 20 if self._input.sparse else 0
        return results + unpacked + threads * self._network.workspace_bytes

    def run(self, samples: PackedBatch) -> tuple[PackedBatch, Statistics]:
        """Compute samples; see `Device.run`.

        Raises
        ------
        DeviceError
            If sparse samples are not in their format.
        DeviceMemoryError
            If there is not enough memory.
        """
        if self._fallback is not None:
            return self._fallback.run(samples)
        self._check_memory(len(samples))
        try:
            results = np.zeros((len(samples), self._program.output_bytes), np.uint8)
            if self._input.sparse:
                for start in range(0, len(samples), SPARSE_PART):
                    part = slice(start, start + SPARSE_PART)
                    self._share(_unpacked(self._input, samples[part]), results[part])
            else:
                self._share(np.ascontiguousarray(samples), results)
        except MemoryError as error:
            raise self._too_little(len(samples)) from error
        return results, Statistics(samples=len(samples))

    def infer(self, array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Statistics] | None:
        """Compute the model's own array; see `TensorDevice.infer`."""
        network = self._network
        if (
            network is None
            or not network.takes_tensors
            or array.dtype != self._dtype
            or array.shape[1:] != self._input_shape
            or not len(array)
        ):
            return None
        array = np.ascontiguousarray(array)
        if array.nbytes > BLOCK_BYTES:
            self._check_memory(len(array))
        outputs = np.empty((len(array), *self._output_shape), self._result_dtype)
        finite = self._share(array, outputs, tensors=True)
        if self._last.samples != len(array):
            self._last = Statistics(samples=len(array))
        return (outputs, self._last) if finite else None

    @property
    def held_bytes(self) -> int:
        """Memory of the tables of all kernels, and of workspaces that wait to be used again."""
        if self._network is None:
            assert self._fallback is not None
            return self._fallback.held_bytes
        return self._network.table_bytes + len(self._free) * self._network.workspace_bytes

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Kernel that every layer took, as JSON."""
        return [asdict(choice) for choice in self.choices]

    def reopen(self) -> "CpuDevice":
        """The same device: what it has is memory; threads are started again after a fork.

        Another thread of the parent's may have held the lock at that moment: here nobody does.
        """
        self._lock = threading.Lock()
        return self

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown()
        self._pool = None
        self._free.clear()

    def _check_memory(self, count: int) -> None:
        needed = self.memory_bytes(count)
        if needed > 1 << 26 and needed > _available_bytes():
            raise self._too_little(count)

    def _too_little(self, count: int) -> DeviceMemoryError:
        needed = self.memory_bytes(count) / 2**20
        return DeviceMemoryError(
            f"device cpu: {count} samples need {needed:.0f} MiB of memory, which is not there; "
            "run fewer at a time, or with fewer threads"
        )

    def _share(self, inputs: _Array, outputs: _Array, *, tensors: bool = False) -> bool:
        """Compute a batch, on several threads if it is large; whether all numbers are finite."""
        network = self._network
        assert network is not None
        count = len(inputs)
        if self._threads == 1 or count <= network.block:
            return self._part(inputs, outputs, tensors)
        blocks = -(-count // network.block)
        parts = min(blocks, self._threads * TASKS_PER_THREAD)
        size = -(-blocks // parts) * network.block
        pool = self._workers()
        pending = [
            pool.submit(self._part, inputs[i : i + size], outputs[i : i + size], tensors)
            for i in range(0, count, size)
        ]
        finite = [future.result() for future in pending]  # all are waited for
        return all(finite)

    def _workers(self) -> ThreadPoolExecutor:
        """The threads; after a fork there are none, and new ones are started."""
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._process = os.getpid()
                self._pool = ThreadPoolExecutor(self._threads, "cpu")
            return self._pool

    def _part(self, inputs: _Array, outputs: _Array, tensors: bool) -> bool:
        """Compute what one thread does; whether all numbers are finite."""
        network = self._network
        assert network is not None
        try:
            place = self._free.pop()  # one step of the interpreter: no lock that a fork would keep
        except IndexError:
            place = _Workspace(network.workspace())
        try:
            addresses = _address(inputs), _address(outputs)
            if not tensors:
                network.run(*addresses, len(inputs), place.address)
                return True
            network.infer(*addresses, len(inputs), place.address, place.flag_address)
            return not place.flag[0]
        finally:
            self._free.append(place)


class _Workspace:
    """Memory of one thread."""

    def __init__(self, memory: npt.NDArray[np.uint8]) -> None:
        self.memory, self.flag = memory, np.zeros(1, np.int64)
        self.address, self.flag_address = memory.ctypes.data, self.flag.ctypes.data


def _address(array: _Array) -> int:
    """Address of an array's data; in half the time that `array.ctypes.data` takes."""
    return array.__array_interface__["data"][0]


def _sizes(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Sizes of one sample, those that the model leaves open left out."""
    return tuple(size for size in shape[1:] if size is not None)


def _unpacked(source: DecodedInput, samples: PackedBatch) -> PackedBatch:
    """Keys of sparse samples.

    Raises
    ------
    DeviceError
        If they are not in their format.
    """
    entries = np.ascontiguousarray(samples).view("<u4")
    try:
        shape = (source.rows * source.columns, source.channels)
        values = unpack_entries(entries, shape, source.zero)
    except ValueError as error:
        raise DeviceError(f"device cpu: {error}; pack samples with pack_inputs") from error
    return (values + source.zero).astype(np.uint8).reshape(len(samples), -1)


def _available_bytes() -> int:
    """Memory that may still be used; a large number where the system does not say."""
    try:
        lines = FilePath("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1 << 62
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> CpuDevice | MapEmulator:
    """The device; `argument` may name a path, such as `avx2`.

    Raises
    ------
    DeviceNameError
        If there is no such path, or the processor does not run it.
    DeviceError
        If the image cannot be decoded.
    """
    path = choose_path(argument)
    if overlay.kernel.core.map is not None:
        return MapEmulator(overlay, f"cpu:{path.name}")
    threads = options.threads or len(os.sched_getaffinity(0))
    store = open_store(options.kernel_dir, options.progress)
    return CpuDevice(overlay_program(overlay), path, threads, store, machine_costs(path, store))
