"""The kernel's RTL, simulated by Verilator, as a device."""

import ctypes
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.device import (
    DeviceError,
    DeviceOptions,
    MissingToolError,
    Statistics,
    raise_for_status,
)
from trencadis_host.faults import (
    DeviceAbortedError,
    DeviceLostError,
    DeviceNameError,
    DeviceTimeoutError,
)
from trencadis_hw import abi
from trencadis_hw.closing import Closing
from trencadis_hw.container import Overlay
from trencadis_sim.verilator import MissingSimulatorError, SimulatorError, build_kernel

__all__ = ["SimulatedKernel", "Simulator", "open_device"]

Words = npt.NDArray[np.uint8]

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

    def use_memory(self, memory: Words) -> None:
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
            library = build_kernel(overlay.kernel, options.build_dir, options.progress)
        except MissingSimulatorError as error:
            raise MissingToolError(f"device sim: {error}") from error
        except SimulatorError as error:
            raise DeviceError(f"device sim: {error}") from error
        self._image_bytes = _pages(len(overlay.image))
        self.kernel = SimulatedKernel(
            library,
            self._image_bytes + 3 * PAGE,
            latency_cycles=latency_cycles,
            stall=stall,
            seed=seed,
        )
        self._loaded = self._running = self._closed = False
        self._count = 0

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return "sim"

    @property
    def image_address(self) -> int:
        """Where the image is in memory."""
        return 0

    @property
    def statistics_address(self) -> int:
        """Where the kernel writes `abi.STATISTICS`."""
        return self._image_bytes

    @property
    def input_address(self) -> int:
        """Where input words are."""
        return self._image_bytes + PAGE

    @property
    def output_address(self) -> int:
        """Where the kernel writes the output words of the run."""
        return self.input_address + _pages(self._count * self._overlay.input_bytes)

    def run(self, words: Words) -> tuple[Words, Statistics]:
        """Compute words; see `Device.run`."""
        self.start(words)
        return self.finish()

    def start(self, words: Words) -> None:
        """Begin a run; the clock stands still until `finish`, or `kernel.advance`."""
        if self._closed:
            raise DeviceAbortedError("device sim is closed; open another session")
        if self._running:
            self.reset()  # the last one was interrupted
        self._running = True
        overlay, kernel = self._overlay, self.kernel
        self._count = len(words)
        kernel.grow(self.output_address + _pages(self._count * overlay.output_bytes))
        if not self._loaded:
            self._put(self.image_address, np.frombuffer(overlay.image, np.uint8))
        self._put(self.input_address, words.reshape(-1))
        self._put(self.statistics_address, np.zeros(abi.STATISTICS.bits // 8, np.uint8))
        for register, address in (
            (abi.Register.IMAGE, self.image_address),
            (abi.Register.INPUT, self.input_address),
            (abi.Register.OUTPUT, self.output_address),
            (abi.Register.STATISTICS, self.statistics_address),
        ):
            kernel.write(register, address)
            kernel.write(register + 4, address >> 32)
        beat = overlay.kernel.bus_bytes
        command = abi.Command.RUN if self._loaded else abi.Command.LOAD | abi.Command.RUN
        for register, value in (
            (abi.Register.IMAGE_BEATS, math.ceil(len(overlay.image) / beat)),
            (abi.Register.INPUT_BEATS, words.nbytes // beat),
            (abi.Register.WORDS, self._count),
            (abi.Register.COMMAND, command),
            (abi.Register.GLOBAL_INTERRUPT_ENABLE, 1),
            (abi.Register.INTERRUPT_ENABLE, 1),
            (abi.Register.CONTROL, 1),
        ):
            kernel.write(register, value)

    def finish(self) -> tuple[Words, Statistics]:
        """Let the run end; what `run` returns and raises."""
        # Whatever goes wrong, the next run starts afresh.
        self._loaded = False
        self._wait()
        self._running = False
        pattern = self._get(self.statistics_address, abi.STATISTICS.bits // 8).tobytes()
        record = abi.STATISTICS.unpack(int.from_bytes(pattern, "little"))
        status = abi.Status(record["status"] | self.kernel.read(abi.Register.STATUS))
        raise_for_status(self.name, status)
        if record["version"] != abi.ABI_VERSION:
            raise DeviceLostError(
                f"device sim: statistics of version {record['version']}, not {abi.ABI_VERSION}; "
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

    def _put(self, address: int, data: Words) -> None:
        self.kernel.memory[address : address + len(data)] = data

    def _get(self, address: int, size: int) -> Words:
        return self.kernel.memory[address : address + size]

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
                    "time, or fewer words"
                )
        kernel.write(abi.Register.INTERRUPT_STATUS, 1)
        kernel.read(abi.Register.CONTROL)


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
        raise DeviceNameError(f"device sim takes nothing behind a colon, not {argument!r}")
    return Simulator(overlay, options)
