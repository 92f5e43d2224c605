"""The kernel's RTL, simulated by Verilator, as a device."""

import ctypes
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.closing import Closing
from trencadis_format.image import ABI_VERSION
from trencadis_format.overlay import Overlay
from trencadis_format.registers import STATISTICS, Command, Register, Status
from trencadis_host.devices.protocol import (
    DeviceError,
    DeviceOptions,
    MissingToolError,
    Statistics,
    raise_for_status,
)
from trencadis_host.errors import (
    DeviceAbortedError,
    DeviceLostError,
    DeviceNameError,
    DeviceTimeoutError,
)
from trencadis_sim.verilated.verilator import MissingSimulatorError, SimulatorError, build_kernel

__all__ = ["SimulatedKernel", "Simulator", "open_device"]

PackedBatch = npt.NDArray[np.uint8]

PAGE = 4096
"""Buffers begin at multiples of this, as XRT's do."""

SLICE_CYCLES = 20_000
"""Cycles between two looks at the clock."""


class SimulatedKernel:
    """A Verilated kernel: registers and memory, and a clock that runs when told to.

    Parameters
    ----------
    library : Path
        What `build_kernel` made, or another library with the functions of `simulated_kernel.h`.
    memory_bytes : int
        Size of device memory.
    latency_cycles, stall, seed
        Cycles until memory answers; probability, in 1/256, that a channel of the memory port is
        not ready in a cycle; seed of these stalls.

    Raises
    ------
    SimulatorError
        If the library lacks a function; methods, if the simulation is closed.
    """

    def __init__(
        self,
        library: Path,
        memory_bytes: int,
        *,
        latency_cycles: int = 40,
        stall: int = 0,
        seed: int = 0,
    ) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, f"trencadis_{name}", None)
            if function is None and name not in _OPTIONAL:
                raise SimulatorError(
                    f"{library} has no function trencadis_{name}; see simulated_kernel.h"
                )
            if function is not None:
                function.restype, function.argtypes = result, arguments
        self._handle: int | None = self._library.trencadis_open()
        self.memory = np.zeros(memory_bytes, np.uint8)
        self._call("set_memory", self.memory.ctypes.data, memory_bytes)
        self.set_timing(latency_cycles=latency_cycles, stall=stall, seed=seed)

    def set_timing(self, *, latency_cycles: int, stall: int, seed: int) -> None:
        """Change how memory behaves from now on; parameters are those of the class."""
        self._call("set_timing", latency_cycles, stall, seed)

    def grow(self, memory_bytes: int) -> None:
        """Make device memory at least that large; it keeps its contents."""
        if memory_bytes > len(self.memory):
            memory = np.zeros(memory_bytes, np.uint8)
            memory[: len(self.memory)] = self.memory
            self.use_memory(memory)

    def use_memory(self, memory: PackedBatch) -> None:
        """Work on memory that others have access to, instead of memory of its own."""
        self._call("set_memory", memory.ctypes.data, len(memory))
        self.memory = memory

    def fail(self, first: int, size: int) -> None:
        """Answer accesses to these bytes of memory with errors from now on; none if `size` is 0."""
        self._call("set_fault", first, size)

    def write(self, register: int, value: int) -> None:
        """Write a 32-bit register."""
        self._call("write", register, value & 0xFFFFFFFF)

    def read(self, register: int) -> int:
        """Read a 32-bit register."""
        return int(self._call("read", register))

    def advance(self, cycles: int) -> int:
        """Run until the interrupt or for that many cycles; the cycles that passed."""
        return int(self._call("run", cycles))

    @property
    def interrupt(self) -> bool:
        """The interrupt line."""
        return bool(self._call("interrupt"))

    @property
    def cycles(self) -> int:
        """Cycles since the simulation began."""
        return int(self._call("cycles"))

    def reset(self) -> None:
        """Hold the reset line for some cycles."""
        self._call("reset")

    def close(self) -> None:
        """End the simulation."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._library.trencadis_close(handle)

    def _call(self, name: str, *arguments: int) -> Any:
        if self._handle is None:
            raise SimulatorError("the simulation is closed; open another one")
        return getattr(self._library, f"trencadis_{name}")(self._handle, *arguments)


_HANDLE = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "open": (_HANDLE, []),
    "close": (None, [_HANDLE]),
    "reset": (None, [_HANDLE]),
    "set_memory": (None, [_HANDLE, ctypes.c_void_p, ctypes.c_uint64]),
    "set_timing": (None, [_HANDLE, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint64]),
    "set_fault": (None, [_HANDLE, ctypes.c_uint64, ctypes.c_uint64]),
    "write": (None, [_HANDLE, ctypes.c_uint32, ctypes.c_uint32]),
    "read": (ctypes.c_uint32, [_HANDLE, ctypes.c_uint32]),
    "run": (ctypes.c_uint64, [_HANDLE, ctypes.c_uint64]),
    "interrupt": (ctypes.c_int, [_HANDLE]),
    "cycles": (ctypes.c_uint64, [_HANDLE]),
}
"""Functions of a library by name; those of `simulated_kernel.h`."""
_OPTIONAL = {"set_fault"}


class Simulator(Closing):
    """A device that simulates the kernel's RTL, transfers included.

    Parameters
    ----------
    overlay : Overlay
        The network.
    options : DeviceOptions
        Where simulators are kept, how long a run may take, whom to tell.
    latency_cycles, stall, seed
        As in `SimulatedKernel`.

    Attributes
    ----------
    kernel : SimulatedKernel
        What is simulated.

    Raises
    ------
    DeviceError
        If the simulator cannot be built.
    """

    def __init__(
        self,
        overlay: Overlay,
        options: DeviceOptions,
        *,
        latency_cycles: int = 40,
        stall: int = 0,
        seed: int = 0,
    ) -> None:
        self._overlay = overlay
        self._options = options
        try:
            library = build_kernel(overlay.kernel, options.simulators, options.progress)
        except MissingSimulatorError as error:
            raise MissingToolError(f"device sim: {error}") from error
        except SimulatorError as error:
            raise DeviceError(f"device sim: {error}") from error
        self._image_bytes = _pages(len(overlay.image))
        self._timing = {"latency_cycles": latency_cycles, "stall": stall, "seed": seed}
        self.kernel = SimulatedKernel(library, self._image_bytes + 3 * PAGE, **self._timing)
        self._loaded = self._running = self._closed = False
        self._count = 0

    @property
    def name(self) -> str:
        """Name of the device."""
        return "sim"

    @property
    def held_bytes(self) -> int:
        """Memory of the card: the image, statistics and a batch."""
        return self.kernel.memory.nbytes

    @property
    def image_address(self) -> int:
        """Address of the image in memory."""
        return 0

    @property
    def statistics_address(self) -> int:
        """Address to which the kernel writes `STATISTICS`."""
        return self._image_bytes

    @property
    def input_address(self) -> int:
        """Address of packed inputs."""
        return self._image_bytes + PAGE

    @property
    def output_address(self) -> int:
        """Address to which the kernel writes the packed outputs of the run."""
        return self.input_address + _pages(self._count * self._overlay.input_bytes)

    def run(self, samples: PackedBatch) -> tuple[PackedBatch, Statistics]:
        """Compute samples; see `Device.run`."""
        self.start(samples)
        return self.finish()

    def start(self, samples: PackedBatch) -> None:
        """Begin a run; the clock stands still until `finish`, or `kernel.advance`."""
        if self._closed:
            raise DeviceAbortedError("device sim is closed; open another session")
        if self._running:
            self.reset()  # the last one was interrupted
        self._running = True
        overlay, kernel = self._overlay, self.kernel
        self._count = len(samples)
        kernel.grow(self.output_address + _pages(self._count * overlay.output_bytes))
        if not self._loaded:
            self._put(self.image_address, np.frombuffer(overlay.image, np.uint8))
        self._put(self.input_address, samples.reshape(-1))
        self._put(self.statistics_address, np.zeros(STATISTICS.bits // 8, np.uint8))
        for register, address in (
            (Register.IMAGE, self.image_address),
            (Register.INPUT, self.input_address),
            (Register.OUTPUT, self.output_address),
            (Register.STATISTICS, self.statistics_address),
        ):
            kernel.write(register, address)
            kernel.write(register + 4, address >> 32)
        beat = overlay.kernel.bus_bytes
        command = Command.RUN if self._loaded else Command.LOAD | Command.RUN
        for register, value in (
            (Register.IMAGE_BEATS, math.ceil(len(overlay.image) / beat)),
            (Register.INPUT_BEATS, samples.nbytes // beat),
            (Register.SAMPLES, self._count),
            (Register.COMMAND, command),
            (Register.GLOBAL_INTERRUPT_ENABLE, 1),
            (Register.INTERRUPT_ENABLE, 1),
            (Register.CONTROL, 1),
        ):
            kernel.write(register, value)

    def finish(self) -> tuple[PackedBatch, Statistics]:
        """Let the run end; what `run` returns and raises."""
        # Whatever goes wrong, the next run starts afresh.
        self._loaded = False
        self._wait()
        self._running = False
        pattern = self._get(self.statistics_address, STATISTICS.bits // 8).tobytes()
        record = STATISTICS.unpack(int.from_bytes(pattern, "little"))
        status = Status(record["status"] | self.kernel.read(Register.STATUS))
        raise_for_status(self.name, status)
        if record["version"] != ABI_VERSION:
            raise DeviceLostError(
                f"device sim: statistics of version {record['version']}, not {ABI_VERSION}; "
                "nothing, or something else, was written to their buffer"
            )
        self._loaded = True
        size = self._overlay.output_bytes
        outputs = self._get(self.output_address, self._count * size).copy()
        return outputs.reshape(self._count, size), Statistics.from_record(record)

    def reset(self) -> None:
        """Pull the reset line, whatever goes on; the next run loads the image again."""
        self.kernel.reset()
        self._loaded = self._running = False

    def _put(self, address: int, data: PackedBatch) -> None:
        self.kernel.memory[address : address + len(data)] = data

    def _get(self, address: int, size: int) -> PackedBatch:
        return self.kernel.memory[address : address + size]

    def reopen(self) -> "Simulator":
        """Another simulation of the same, for a child process; see `ReopeningDevice`."""
        return Simulator(self._overlay, self._options, **self._timing)

    def close(self) -> None:
        """End the simulation."""
        self._closed = True
        self.kernel.close()

    def _wait(self) -> None:
        """Let the clock run until the kernel is done."""
        kernel = self.kernel
        deadline = time.monotonic() + self._options.timeout_s
        while not kernel.interrupt:
            kernel.advance(SLICE_CYCLES)
            if time.monotonic() > deadline and not kernel.interrupt:
                raise DeviceTimeoutError(
                    f"device sim: no result after {self._options.timeout_s:g} s; give it more "
                    "time, or fewer samples"
                )
        kernel.write(Register.INTERRUPT_STATUS, 1)
        kernel.read(Register.CONTROL)


def _pages(size: int) -> int:
    return math.ceil(size / PAGE) * PAGE


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> Simulator:
    """The simulator; it takes no argument.

    Raises
    ------
    DeviceError
        If there is an argument, or the simulator cannot be built.
    """
    if argument:
        raise DeviceNameError(f"device sim takes nothing after a colon, not {argument!r}")
    return Simulator(overlay, options)
