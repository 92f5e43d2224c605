"""The kernel's RTL, simulated by Verilator, as a device."""

import ctypes
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from trencadis_host.device import DeviceError, DeviceOptions, Statistics, raise_for_status
from trencadis_hw import abi
from trencadis_hw.container import Overlay
from trencadis_sim.verilator import SimulatorError, build_kernel

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
        What `build_kernel` made.
    memory_bytes : int
        Size of device memory.
    latency_cycles, stall, seed
        Cycles until memory answers; probability, in 1/256, that a channel of the memory port is
        not ready in a cycle; seed of these stalls.
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
        signatures = {
            "open": (ctypes.c_void_p, []),
            "close": (None, [ctypes.c_void_p]),
            "reset": (None, [ctypes.c_void_p]),
            "set_memory": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]),
            "set_timing": (
                None,
                [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint64],
            ),
            "write": (None, [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32]),
            "read": (ctypes.c_uint32, [ctypes.c_void_p, ctypes.c_uint32]),
            "run": (ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_uint64]),
            "interrupt": (ctypes.c_int, [ctypes.c_void_p]),
            "cycles": (ctypes.c_uint64, [ctypes.c_void_p]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._library, f"trencadis_{name}")
            function.restype, function.argtypes = result, arguments
        self._handle = self._library.trencadis_open()
        self.memory = np.zeros(memory_bytes, np.uint8)
        self._library.trencadis_set_memory(self._handle, self.memory.ctypes.data, memory_bytes)
        self._library.trencadis_set_timing(self._handle, latency_cycles, stall, seed)

    def grow(self, memory_bytes: int) -> None:
        """Make device memory at least that large; it keeps its contents."""
        if memory_bytes > len(self.memory):
            memory = np.zeros(memory_bytes, np.uint8)
            memory[: len(self.memory)] = self.memory
            self.memory = memory
            self._library.trencadis_set_memory(self._handle, memory.ctypes.data, memory_bytes)

    def use_memory(self, memory: Words) -> None:
        """Work on memory that others have access to, instead of memory of its own."""
        self.memory = memory
        self._library.trencadis_set_memory(self._handle, memory.ctypes.data, len(memory))

    def write(self, register: int, value: int) -> None:
        """Write a 32-bit register."""
        self._library.trencadis_write(self._handle, register, value & 0xFFFFFFFF)

    def read(self, register: int) -> int:
        """Read a 32-bit register."""
        return int(self._library.trencadis_read(self._handle, register))

    def advance(self, cycles: int) -> int:
        """Run until the interrupt or for that many cycles; the cycles that passed."""
        return int(self._library.trencadis_run(self._handle, cycles))

    @property
    def interrupt(self) -> bool:
        """The interrupt line."""
        return bool(self._library.trencadis_interrupt(self._handle))

    @property
    def cycles(self) -> int:
        """Cycles since the simulation began."""
        return int(self._library.trencadis_cycles(self._handle))

    def reset(self) -> None:
        """Hold the reset line for some cycles."""
        self._library.trencadis_reset(self._handle)

    def close(self) -> None:
        """End the simulation."""
        if self._handle:
            self._library.trencadis_close(self._handle)
            self._handle = None


class Simulator:
    """A device that simulates the kernel's RTL, transfers included.

    Parameters
    ----------
    overlay : Overlay
        The network.
    options : DeviceOptions
        Where simulators are kept, how long a run may take, whom to tell.

    Raises
    ------
    DeviceError
        If the simulator cannot be built.
    """

    def __init__(self, overlay: Overlay, options: DeviceOptions) -> None:
        self._overlay = overlay
        self._options = options
        try:
            library = build_kernel(overlay.kernel, options.build_dir, options.progress)
        except SimulatorError as error:
            raise DeviceError(f"device sim: {error}") from error
        self._image_bytes = _pages(len(overlay.image))
        self._kernel = SimulatedKernel(library, self._image_bytes + 3 * PAGE)
        self._loaded = False

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return "sim"

    def run(self, words: Words) -> tuple[Words, Statistics]:
        """Compute words; see `Device.run`."""
        overlay, kernel = self._overlay, self._kernel
        beat = overlay.kernel.bus_bytes
        count = len(words)
        image_at = 0
        statistics_at = self._image_bytes
        input_at = statistics_at + PAGE
        output_at = input_at + _pages(words.nbytes)
        output_bytes = count * overlay.output_bytes
        kernel.grow(output_at + _pages(output_bytes))

        if not self._loaded:
            kernel.memory[image_at : image_at + len(overlay.image)] = np.frombuffer(
                overlay.image, np.uint8
            )
        kernel.memory[input_at : input_at + words.nbytes] = words.reshape(-1)
        for register, address in (
            (abi.Register.IMAGE, image_at),
            (abi.Register.INPUT, input_at),
            (abi.Register.OUTPUT, output_at),
            (abi.Register.STATISTICS, statistics_at),
        ):
            kernel.write(register, address)
            kernel.write(register + 4, address >> 32)
        command = abi.Command.RUN if self._loaded else abi.Command.LOAD | abi.Command.RUN
        for register, value in (
            (abi.Register.IMAGE_BEATS, math.ceil(len(overlay.image) / beat)),
            (abi.Register.INPUT_BEATS, words.nbytes // beat),
            (abi.Register.WORDS, count),
            (abi.Register.COMMAND, command),
            (abi.Register.GLOBAL_INTERRUPT_ENABLE, 1),
            (abi.Register.INTERRUPT_ENABLE, 1),
            (abi.Register.CONTROL, 1),
        ):
            kernel.write(register, value)
        self._wait()
        record = abi.STATISTICS.unpack(
            int.from_bytes(
                kernel.memory[statistics_at : statistics_at + abi.STATISTICS.bits // 8].tobytes(),
                "little",
            )
        )
        raise_for_status(self.name, abi.Status(record["status"]))
        self._loaded = True
        outputs = kernel.memory[output_at : output_at + output_bytes].copy()
        return outputs.reshape(count, overlay.output_bytes), Statistics.from_record(record)

    def close(self) -> None:
        """End the simulation."""
        self._kernel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self) -> None:
        """Let the clock run until the kernel is done."""
        kernel = self._kernel
        deadline = time.monotonic() + self._options.timeout_s
        while not kernel.interrupt:
            kernel.advance(SLICE_CYCLES)
            if time.monotonic() > deadline and not kernel.interrupt:
                kernel.reset()
                self._loaded = False
                raise DeviceError(
                    f"device sim: no result after {self._options.timeout_s:g} s; give it more time, "
                    "or fewer words"
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
        raise DeviceError(f"device sim takes nothing behind a colon, not {argument!r}")
    return Simulator(overlay, options)
