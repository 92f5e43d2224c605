"""A compute unit whose clock runs by itself from start to done."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["ComputeUnit", "SimulatedRegisters"]

CONTROL = 0x00
START, DONE, IDLE, READY = 1, 2, 4, 8

FIRST_SLICE_CYCLES = 256
SLICE_S = 0.002
"""About the time between two looks at the control register; slices are made as long as that."""

WAIT_S = 0.001
"""Time that a host that polls is kept waiting: it leaves the processor to the simulation."""


class SimulatedRegisters(Protocol):
    """Interface that is needed of a simulated kernel."""

    def write(self, register: int, value: int) -> None:
        """Write a 32-bit register."""
        ...

    def read(self, register: int) -> int:
        """Read a 32-bit register."""
        ...

    def advance(self, cycles: int) -> int:
        """Run for that many cycles, or until the interrupt; the cycles that passed."""
        ...


class ComputeUnit:
    """A simulated kernel with a thread that runs its clock while the kernel is busy.

    `ap_done` is cleared by reading it. The thread reads it too, so what it saw is kept for the
    host's next read.

    Parameters
    ----------
    name : str
        Name of the compute unit.
    kernel : SimulatedRegisters
        The kernel.
    """

    def __init__(self, name: str, kernel: SimulatedRegisters) -> None:
        self._kernel = kernel
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._running = False
        self._stopped = False
        self._seen = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def write(self, register: int, value: int) -> None:
        """Write a 32-bit register; setting `ap_start` sets the clock going."""
        with self._held():
            self._kernel.write(register, value)
            if register == CONTROL and value & START:
                self._seen = 0
                self._running = True
                self._changed.notify_all()

    def read(self, register: int) -> int:
        """Read a 32-bit register."""
        with self._held():
            if register != CONTROL:
                return self._kernel.read(register)
            if self._running:
                self._changed.wait(WAIT_S)
                self._raise()
            value = self._kernel.read(CONTROL) | self._seen
            self._seen = 0
            if value & (DONE | IDLE):
                self._running = False
            return value

    def stop(self) -> None:
        """End the thread."""
        with self._turn:
            self._changed.acquire()
        self._stopped = True
        self._changed.notify_all()
        self._changed.release()
        self._thread.join()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The kernel between two slices; who asks is let in before the next one."""
        with self._turn:
            self._changed.acquire()
        try:
            self._raise()
            yield
        finally:
            self._changed.release()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        cycles = FIRST_SLICE_CYCLES
        while True:
            with self._turn:
                self._changed.acquire()
            try:
                self._changed.wait_for(lambda: self._running or self._stopped)
                if self._stopped:
                    return
                started = time.perf_counter()
                self._kernel.advance(cycles)
                value = self._kernel.read(CONTROL)
                if value & (DONE | IDLE):
                    self._seen = value & (DONE | READY)
                    self._running = False
                    self._changed.notify_all()
                elif time.perf_counter() - started < SLICE_S:
                    cycles *= 2
                elif cycles > 1:
                    cycles //= 2
            except BaseException as error:
                # Whoever asks next is told; a thread of its own has no one to tell.
                self._error = error
                self._changed.notify_all()
                return
            finally:
                self._changed.release()
