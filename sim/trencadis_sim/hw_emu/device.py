"""The kernel's RTL behind the real XRT, as a device: `hw_emu`.

XRT reads its environment when it is loaded, exits or hangs when its simulator goes away, and writes
to standard output. It is therefore loaded in a process of its own, which is watched: whatever
happens there is an exception here, and the next run gets a new process.
"""

import contextlib
import os
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_boards import Board
from trencadis_host import faults
from trencadis_host.device import DeviceError, DeviceOptions, MissingToolError, Statistics
from trencadis_host.faults import DeviceAbortedError, DeviceLostError, DeviceTimeoutError
from trencadis_hw.closing import Closing
from trencadis_hw.container import Overlay
from trencadis_sim.hw_emu.environment import variables
from trencadis_sim.hw_emu.frames import receive_frame, send_frame
from trencadis_sim.verilator import MissingSimulatorError, SimulatorError
from trencadis_sim.xclbin import write_emulation

__all__ = ["EmulatedCard", "open_device"]

Words = npt.NDArray[np.uint8]
Result = tuple[Words, Statistics]

START_S = 120.0
"""Seconds in which XRT and the simulator must have started, on a busy machine."""

CLOSE_S = 15.0
MARGIN_S = 20.0
"""Seconds beyond a run's time after which the process itself is taken to hang."""

LAST_LINES = 3


@dataclass(eq=False)
class _Process:
    """A process with XRT in it."""

    child: subprocess.Popen[bytes]
    connection: socket.socket
    folder: Path
    simulators: dict[int, int] = field(default_factory=dict)
    units: int = 0
    door: str = ""

    def kill(self) -> None:
        """End it and its simulators."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def clean(self) -> None:
        """Remove what it leaves."""
        self.connection.close()
        for descriptor in self.simulators.values():
            os.close(descriptor)
        self.simulators = {}
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait_for_simulators(self, seconds: float) -> None:
        """Wait for the end of the simulators."""
        deadline = time.monotonic() + seconds
        for descriptor in self.simulators.values():
            select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))

    def log(self) -> str:
        """The last lines that XRT wrote."""
        try:
            lines = (self.folder / "xrt.log").read_text(errors="replace").split("\n")
        except OSError:
            return ""
        return " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:])


class EmulatedCard(Closing):
    """A network on emulated cards.

    Parameters
    ----------
    overlay : Overlay
        The network.
    xclbin : Path
        What `write_emulation` wrote; its folder has XRT's settings.
    cards : int
        Cards to use.
    timeout_s : float
        Seconds that a run may take on a compute unit.

    Raises
    ------
    DeviceError
        If XRT cannot emulate the cards; its subclasses in `faults` say why.
    """

    def __init__(self, overlay: Overlay, xclbin: Path, *, cards: int, timeout_s: float) -> None:
        self._overlay = overlay
        self._xclbin = xclbin.resolve()
        self._cards = cards
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._jobs: dict[int, tuple[Future[Result], float]] = {}
        self._next = 0
        self._closed = False
        self._process: _Process | None = self._start()

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return "hw_emu"

    @property
    def units(self) -> int:
        """Compute units in use."""
        process = self._process
        return process.units if process else 0

    @property
    def door(self) -> str:
        """The way into XRT that is used."""
        process = self._process
        return process.door if process else ""

    @property
    def simulators(self) -> list[int]:
        """Process IDs of the simulators that XRT started."""
        process = self._process
        return list(process.simulators) if process else []

    @property
    def process(self) -> int | None:
        """ID of the process that XRT is in."""
        return self._process.child.pid if self._process else None

    def run(self, words: Words) -> Result:
        """Compute words; see `Device.run`."""
        future = self.submit(words)
        try:
            return future.result()
        except BaseException as error:
            if not isinstance(error, Exception):
                # Ctrl-C: whatever is under way there is not wanted any more.
                self._end(DeviceAbortedError("device hw_emu: the run was interrupted"))
            raise

    def submit(self, words: Words) -> Future[Result]:
        """Compute words later; what `run` returns, or raises, is in the future.

        Raises
        ------
        DeviceError
            If the device is closed, or XRT has to be started again and cannot.
        """
        with self._lock:
            if self._closed:
                raise DeviceAbortedError("device hw_emu is closed; open another session")
            if self._process is None:
                self._process = self._start()
            process = self._process
            future: Future[Result] = Future()
            future.set_running_or_notify_cancel()
            self._next += 1
            self._jobs[self._next] = (future, time.monotonic())
            frame = {"job": self._next}
            try:
                send_frame(process.connection, frame, np.ascontiguousarray(words).data.cast("B"))
            except OSError:
                self._end(_lost(process, "the process with XRT in it is gone"), process)
        return future

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                send_frame(process.connection, {})
                process.wait_for_simulators(CLOSE_S)
        # With the simulators gone all that is left is a thread of XRT's that sleeps for 10 s.
        self._end(DeviceAbortedError("device hw_emu was closed before a run was over"))

    def _start(self) -> _Process:
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._xclbin.parent))
        self._overlay.save(folder / "network.tcd")
        ours, theirs = socket.socketpair()
        values = variables(self._xclbin.parent, f"trencadis-{os.getuid()}")
        values["SDACCEL_EM_RUN_DIR"] = str(folder)
        command = ["env", *(f"{name}={value}" for name, value in values.items())]
        command += [sys.executable, "-P", "-m", "trencadis_sim.hw_emu.worker", str(theirs.fileno())]
        arguments = [str(folder), str(self._xclbin), str(self._cards), str(self._timeout_s)]
        with theirs, (folder / "xrt.log").open("wb") as log:
            child = subprocess.Popen(
                [*command, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                # XRT signals its process group when it crashes; and Ctrl-C is for us.
                start_new_session=True,
            )
        process = _Process(child, ours, folder)
        try:
            ours.settimeout(START_S)
            frame, _ = receive_frame(ours)
            ours.settimeout(None)
            if "failed" in frame:
                raise _error(frame)
            process.units, process.door = frame["units"], frame["ready"]
            process.simulators = {pid: os.pidfd_open(pid) for pid in frame["simulators"]}
        except BaseException as error:
            text = process.log()
            process.kill()
            process.clean()
            if isinstance(error, TimeoutError):
                raise DeviceTimeoutError(
                    f"device hw_emu: XRT did not start its simulator in {START_S:g} s ({text})"
                ) from None
            if isinstance(error, EOFError | OSError):
                raise DeviceLostError(f"device hw_emu: XRT ended at once ({text})") from None
            raise
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()
        return process

    def _watch(self, process: _Process) -> None:
        """Take what the process sends; see that it and its simulators live."""
        with selectors.DefaultSelector() as selector:
            selector.register(process.connection, selectors.EVENT_READ)
            for pid, descriptor in process.simulators.items():
                selector.register(descriptor, selectors.EVENT_READ, pid)
            while True:
                ready = selector.select(1.0)
                if self._process is not process or self._closed:
                    return
                try:
                    if any(key.data is None for key, _ in ready):
                        frame, data = receive_frame(process.connection)
                        self._take(process, frame, data)
                    elif ready:
                        raise EOFError
                except (EOFError, OSError):
                    what = "its simulator" if ready[0][0].data else "the process with XRT in it"
                    self._end(_lost(process, f"{what} is gone"), process)
                    return
                if self._late():
                    error = DeviceTimeoutError(
                        f"device hw_emu: XRT gave no answer for {self._timeout_s + MARGIN_S:g} s"
                    )
                    self._end(error, process)
                    return

    def _take(self, process: _Process, frame: Mapping[str, Any], data: bytearray) -> None:
        with self._lock:
            future, _ = self._jobs.pop(frame["job"], (None, 0.0))
            now = time.monotonic()
            self._jobs = {job: (later, now) for job, (later, _) in self._jobs.items()}
        error = _error(frame) if "failed" in frame else None
        if isinstance(error, DeviceLostError | DeviceTimeoutError):
            # That card cannot be trusted any more.
            self._end(error, process)
        if future is None:
            return
        if error is not None:
            future.set_exception(error)
        else:
            results = np.frombuffer(data, np.uint8).reshape(-1, self._overlay.output_bytes)
            future.set_result((results, Statistics(**frame["statistics"])))

    def _late(self) -> bool:
        with self._lock:
            since = [since for _, since in self._jobs.values()]
        return bool(since) and time.monotonic() - min(since) > self._timeout_s + MARGIN_S

    def _end(self, error: DeviceError, process: _Process | None = None) -> None:
        """End the process; jobs fail with the error, and the next one gets a new process."""
        with self._lock:
            if process is not None and self._process is not process:
                return
            process, self._process = self._process, None
            jobs, self._jobs = self._jobs, {}
            if process is not None:
                process.kill()
                process.clean()
        for future, _ in jobs.values():
            if not future.done():
                future.set_exception(error)


def _lost(process: _Process, what: str) -> DeviceLostError:
    text = process.log()
    return DeviceLostError(
        f"device hw_emu: {what}; the next run starts afresh" + (f" ({text})" if text else "")
    )


def _error(frame: Mapping[str, Any]) -> DeviceError:
    kind = getattr(faults, frame["failed"], DeviceError)
    return kind(frame["message"])


def parse_shape(argument: str) -> tuple[int, int]:
    """Cards, and compute units of each: empty, `2` cards, or `2x3`.

    Raises
    ------
    DeviceError
        If the text is none of these.
    """
    cards, _, units = (argument or "1").partition("x")
    numbers = [cards, units or "1"]
    if not all(number.isdecimal() and 1 <= int(number) <= 16 for number in numbers):
        raise DeviceError(
            f"device hw_emu takes a number of cards behind the colon, or cards x compute units "
            f"like hw_emu:1x2, up to 16 of each, not {argument!r}"
        )
    return int(numbers[0]), int(numbers[1])


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> EmulatedCard:
    """Emulated cards: `hw_emu`, or `hw_emu:CARDSxUNITS`.

    Raises
    ------
    DeviceError
        If the argument is not understood, the simulator cannot be built, or XRT is not there.
    """
    cards, units = parse_shape(argument)
    kernel = overlay.kernel
    board = Board(
        name="sim", title="simulation", clock_mhz=250, kernels=units, kernel=kernel.to_dict()
    )
    folder = options.build_dir / "hw_emu" / f"{kernel.digest:016x}-{cards}x{units}"
    report: Callable[[str], None] = options.progress
    try:
        path = write_emulation(
            folder,
            kernel,
            board,
            units=units,
            cards=cards,
            build_dir=options.build_dir,
            report=report,
        )
    except MissingSimulatorError as error:
        raise MissingToolError(f"device hw_emu: {error}") from error
    except SimulatorError as error:
        raise DeviceError(f"device hw_emu: {error}") from error
    report("starting XRT")
    return EmulatedCard(overlay, path, cards=cards, timeout_s=options.timeout_s)
