"""The kernel's RTL behind the real XRT, as a device: `hw_emu`.

XRT reads its environment when it is loaded, exits or hangs when its simulator goes away, and writes
to standard output. It is therefore loaded in a process of its own, which is watched: whatever
happens there is an exception here, and the next run gets a new process.
"""

import contextlib
import os
import queue
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_boards import Board
from trencadis_format.closing import Closing
from trencadis_format.compiled import CompiledNetwork
from trencadis_format.errors import FileError
from trencadis_format.overlay import Overlay
from trencadis_host import errors as faults
from trencadis_host.devices.protocol import DeviceError, DeviceOptions, MissingToolError, Statistics
from trencadis_host.errors import DeviceAbortedError, DeviceLostError, DeviceTimeoutError
from trencadis_sim.hw_emu.environment import PID_FILE, variables
from trencadis_sim.hw_emu.frames import receive_frame, send_frame
from trencadis_sim.hw_emu.xclbin import write_emulation
from trencadis_sim.verilated.verilator import MissingSimulatorError, SimulatorError

__all__ = ["EmulatedCard", "open_device"]

PackedBatch = npt.NDArray[np.uint8]
Result = tuple[PackedBatch, Statistics]

START_S = 120.0
"""Seconds in which XRT and the simulator must have started, on a busy machine."""

CLOSE_S = 15.0
SILENCE_S = 20
"""Seconds without a sign of life after which the process itself is taken to hang."""

LAST_LINES = 3


@dataclass(eq=False)
class _Process:
    """A process with XRT in it."""

    child: subprocess.Popen[bytes]
    connection: socket.socket
    folder: Path
    simulators: dict[int, int] = field(default_factory=dict)
    units: int = 0
    binding: str = ""
    heard: float = field(default_factory=time.monotonic)
    outbox: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    sender: threading.Thread | None = None

    def send(self, frame: Mapping[str, Any], data: bytes | memoryview = b"") -> None:
        """Send a frame, when those before it have gone; never waits."""
        self.outbox.put((frame, data))

    def start_sending(self) -> None:
        """Start the thread that sends; whoever submits must not wait for a process that hangs."""

        def run() -> None:
            with contextlib.suppress(OSError):
                while (item := self.outbox.get()) is not None:
                    send_frame(self.connection, *item)

        self.sender = threading.Thread(target=run, daemon=True)
        self.sender.start()

    def kill(self) -> None:
        """End it and its simulators."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def clean(self) -> None:
        """Remove what it leaves."""
        self.outbox.put(None)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        if self.sender is not None:
            self.sender.join()
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
        """The last lines that XRT and the simulators wrote."""
        lines = []
        for path in (self.folder / "xrt.log", *self.folder.glob(".run/**/simulate.log")):
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace")
                lines += [line.strip() for line in text.split("\n") if line.strip()][-LAST_LINES:]
        return " / ".join(lines)

    def simulator_failed(self) -> bool:
        """Tell whether a simulator has ended that nobody closed."""
        for path in self.folder.glob(f".run/*/hw_em/*/{PID_FILE}"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(path.read_text())
                try:
                    descriptor = os.pidfd_open(pid)
                except ProcessLookupError:
                    return path.exists()
                with os.fdopen(descriptor) as file:
                    if select.select([file], [], [], 0)[0]:
                        return path.exists()
        return False

    def first_frame(self) -> Mapping[str, Any]:
        """Read its message that it is ready, or has failed.

        Raises
        ------
        TimeoutError
            If it says nothing in START_S.
        EOFError
            If it, or a simulator of its, has ended.
        """
        deadline = time.monotonic() + START_S
        while not select.select([self.connection], [], [], 0.2)[0]:
            if self.simulator_failed():
                raise EOFError
            if time.monotonic() > deadline:
                raise TimeoutError
        return receive_frame(self.connection)[0]


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
    folder : Path, optional
        Removed when the device is closed.

    Raises
    ------
    DeviceError
        If XRT cannot emulate the cards; its subclasses in `faults` say why.
    """

    def __init__(
        self,
        overlay: Overlay,
        xclbin: Path,
        *,
        cards: int,
        timeout_s: float,
        folder: Path | None = None,
    ) -> None:
        self._overlay = overlay
        self._folder = folder
        self._xclbin = xclbin.resolve()
        self._cards = cards
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._jobs: dict[int, Future[Result]] = {}
        self._next = 0
        self._closed = False
        self._process: _Process | None = self._start()

    @property
    def name(self) -> str:
        """Name of the device."""
        return "hw_emu"

    @property
    def units(self) -> int:
        """Compute units in use."""
        process = self._process
        return process.units if process else 0

    @property
    def binding(self) -> str:
        """The way into XRT that is used."""
        process = self._process
        return process.binding if process else ""

    @property
    def simulators(self) -> list[int]:
        """Process IDs of the simulators that XRT started."""
        process = self._process
        return list(process.simulators) if process else []

    @property
    def process(self) -> int | None:
        """ID of the process that XRT is in."""
        return self._process.child.pid if self._process else None

    def run(self, samples: PackedBatch) -> Result:
        """Compute samples; see `Device.run`."""
        future = self.submit(samples)
        try:
            return future.result()
        except BaseException as error:
            if not isinstance(error, Exception):
                # Ctrl-C: whatever is under way there is not wanted any more.
                self._end(DeviceAbortedError("device hw_emu: the run was interrupted"))
            raise

    def submit(self, samples: PackedBatch) -> Future[Result]:
        """Compute samples later; what `run` returns, or raises, is in the future.

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
            self._next += 1
            number = self._next
            self._jobs[number] = future

            def drop(done: Future[Result]) -> None:
                if done.cancelled():
                    process.send({"cancel": number})

            future.add_done_callback(drop)
            process.send({"job": number}, np.ascontiguousarray(samples).data.cast("B"))
        return future

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            process = self._process
        if process is not None:
            process.send({})
            process.wait_for_simulators(CLOSE_S)
        # With the simulators gone all that is left is a thread of XRT's that sleeps for 10 s.
        self._end(DeviceAbortedError("device hw_emu was closed before a run was over"))
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> _Process:
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._xclbin.parent))
        with contextlib.ExitStack() as leftovers:
            leftovers.callback(shutil.rmtree, folder, ignore_errors=True)
            CompiledNetwork.of_overlay(self._overlay).save(folder / "network.tcd")
            ours, theirs = socket.socketpair()
            leftovers.callback(ours.close)
            values = variables(self._xclbin.parent)
            values["SDACCEL_EM_RUN_DIR"] = str(folder)
            command = ["env", *(f"{name}={value}" for name, value in values.items())]
            command += [sys.executable, "-P", "-m", "trencadis_sim.hw_emu.worker"]
            arguments = [str(folder), str(self._xclbin), str(self._cards), str(self._timeout_s)]
            with theirs, (folder / "xrt.log").open("wb") as log:
                child = subprocess.Popen(
                    [*command, str(theirs.fileno()), *arguments],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    # XRT signals its process group when it crashes; and Ctrl-C is for us.
                    start_new_session=True,
                )
            process = _Process(child, ours, folder)
            leftovers.pop_all()
        try:
            frame = process.first_frame()
            if "failed" in frame:
                raise _error(frame)
            process.units, process.binding = frame["units"], frame["ready"]
            process.simulators = {pid: os.pidfd_open(pid) for pid in frame["simulators"]}
            # Of a frame of which the rest does not come.
            limit = struct.pack("ll", SILENCE_S, 0)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            process.heard = time.monotonic()
            process.start_sending()
        except BaseException as error:
            text = process.log()
            process.kill()
            process.clean()
            if isinstance(error, TimeoutError):
                raise DeviceTimeoutError(
                    f"device hw_emu: XRT did not start its simulator in {START_S:g} s ({text})"
                ) from None
            if isinstance(error, EOFError | OSError):
                raise DeviceLostError(
                    f"device hw_emu: XRT or its simulator ended at once ({text})"
                ) from None
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
                if self._process is not process:
                    return
                sources = {key.data for key, _ in ready}
                try:
                    if None in sources:
                        frame, data = receive_frame(process.connection)
                        process.heard = time.monotonic()
                        self._take(process, frame, data)
                    elif sources and self._closed:
                        return
                    elif sources:
                        raise EOFError
                except BlockingIOError:
                    pass  # the rest of a frame does not come: it has been silent for too long
                except (EOFError, OSError):
                    what = "the process with XRT in it" if None in sources else "its simulator"
                    self._end(_lost(process, f"{what} is gone"), process)
                    return
                if time.monotonic() - process.heard > SILENCE_S:
                    error = DeviceTimeoutError(
                        f"device hw_emu: the process with XRT in it gave no sign of life for "
                        f"{SILENCE_S} s; the next run starts afresh"
                    )
                    self._end(error, process)
                    return

    def _take(self, process: _Process, frame: Mapping[str, Any], data: bytearray) -> None:
        if "job" not in frame:
            return  # a sign of life
        with self._lock:
            future = self._jobs.pop(frame["job"], None)
        error = _error(frame) if "failed" in frame else None
        if isinstance(error, DeviceLostError | DeviceTimeoutError):
            # That card cannot be trusted any more.
            self._end(error, process)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if error is not None:
            future.set_exception(error)
        else:
            results = np.frombuffer(data, np.uint8).reshape(-1, self._overlay.output_bytes)
            future.set_result((results, Statistics(**frame["statistics"])))

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
        for future in jobs.values():
            if future.set_running_or_notify_cancel():
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
    DeviceNameError
        If the text is none of these.
    """
    cards, _, units = (argument or "1").partition("x")
    numbers = [cards, units or "1"]
    if not all(number.isdecimal() and 1 <= int(number) <= 16 for number in numbers):
        raise faults.DeviceNameError(
            f"device hw_emu takes a number of cards after the colon, or cards x compute units "
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
    board = Board(name="sim", title="simulation", clock_mhz=250, compute_units=units, kernel=kernel)
    with contextlib.ExitStack() as leftovers:
        # XRT wants links to its libraries, and writes as it likes: not among what is kept.
        folder = Path(tempfile.mkdtemp(prefix="trencadis-hw_emu-"))
        leftovers.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            path = write_emulation(
                folder,
                kernel,
                board,
                units=units,
                cards=cards,
                build_dir=options.simulators,
                report=options.progress,
            )
        except MissingSimulatorError as error:
            raise MissingToolError(f"device hw_emu: {error}") from error
        except (SimulatorError, FileError) as error:
            raise DeviceError(f"device hw_emu: {error}") from error
        options.progress("starting XRT")
        card = EmulatedCard(overlay, path, cards=cards, timeout_s=options.timeout_s, folder=folder)
        leftovers.pop_all()
    return card
