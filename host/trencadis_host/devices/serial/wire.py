"""Bytes over a serial port, with the timeouts that a protocol needs."""

import contextlib
import os
import select
import termios
import time
from pathlib import Path
from typing import Protocol

from trencadis_format.closing import Closing

__all__ = [
    "BusyPortError",
    "MissingPortError",
    "SerialPort",
    "Wire",
    "WireError",
    "serial_ports",
]

STALL_S = 10.0
"""Seconds in which a port must take at least a byte."""


class WireError(RuntimeError):
    """The port cannot be opened or has gone away. One line: port, what happened, what to do."""


class MissingPortError(WireError):
    """There is no such port."""


class BusyPortError(WireError):
    """Another program uses the port."""


class Wire(Protocol):
    """Somewhere bytes go to and come from."""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        ...

    def receive(self, count: int, timeout_s: float) -> bytes:
        """`count` bytes, or fewer if they do not all come within `timeout_s`."""
        ...

    def drain(self) -> None:
        """Throw away what has come."""
        ...

    def close(self) -> None:
        """Let go of the port."""
        ...


class SerialPort(Closing):
    """A serial port of the operating system, used by nobody else meanwhile.

    Parameters
    ----------
    path : str
        The port: `/dev/ttyUSB0`, or the end of a pseudo-terminal.
    baud : int
        Bits per second.

    Raises
    ------
    WireError
        If the port cannot be opened, or cannot run at this rate.
    """

    def __init__(self, path: str, baud: int) -> None:
        self._path = path
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise WireError(f"{path}: this system has no rate of {baud} baud")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise MissingPortError(f"{path}: {_opening(error)}") from error
        except OSError as error:
            raise WireError(f"{path}: {_opening(error)}") from error
        try:
            _lock(self._file, path)
            _make_raw(self._file, path, speed)
        except BaseException:
            os.close(self._file)
            raise

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises
        ------
        WireError
            If the port is gone, or takes nothing any more.
        """
        left = memoryview(data)
        deadline = time.monotonic() + STALL_S
        while left:
            patience = deadline - time.monotonic()
            if patience <= 0:
                raise WireError(
                    f"{self._path}: has taken no byte for {STALL_S:g} s; unplug the board, and "
                    "plug it in again"
                )
            try:
                if select.select([], [self._file], [], patience)[1]:
                    left = left[os.write(self._file, left) :]
                    deadline = time.monotonic() + STALL_S
            except BlockingIOError:
                continue
            except OSError as error:
                raise WireError(f"{self._path}: has gone away: {error.strerror}") from error

    def receive(self, count: int, timeout_s: float) -> bytes:
        """`count` bytes, or fewer if they do not all come within `timeout_s`.

        Raises
        ------
        WireError
            If the port is gone.
        """
        received = b""
        deadline = time.monotonic() + timeout_s
        while len(received) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                if select.select([self._file], [], [], left)[0]:
                    data = os.read(self._file, count - len(received))
                    if not data:
                        raise WireError(f"{self._path}: has gone away; is the board still there?")
                    received += data
            except BlockingIOError:
                continue
            except OSError as error:
                raise WireError(f"{self._path}: has gone away: {error.strerror}") from error
        return received

    def drain(self) -> None:
        """Throw away what has come."""
        with contextlib.suppress(termios.error):
            termios.tcflush(self._file, termios.TCIFLUSH)

    def close(self) -> None:
        """Let go of the port."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def serial_ports() -> list[str]:
    """Ports that USB serial adapters have on this machine."""
    found = [*Path("/dev").glob("ttyUSB*"), *Path("/dev").glob("ttyACM*")]
    return sorted(str(path) for path in found)


def _opening(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        there = " or ".join(serial_ports())
        others = f", or use {there}" if there else ": no USB serial adapter was found"
        return f"there is no such port; connect the board{others}"
    if isinstance(error, PermissionError):
        return "you may not use this port; join the group that owns it (often dialout)"
    return f"cannot be opened: {error.strerror}"


def _lock(file: int, path: str) -> None:
    """Make sure that nobody else talks on the port."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BusyPortError(f"{path}: is used by another program; close that first") from error


def _make_raw(file: int, path: str, speed: int) -> None:
    """Bytes as they are: no line editing, no translation, no flow control."""
    try:
        modes = termios.tcgetattr(file)
    except termios.error as error:
        raise WireError(f"{path}: is not a serial port") from error
    modes[0] = modes[1] = modes[3] = 0
    modes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
    modes[4] = modes[5] = speed
    modes[6][termios.VMIN] = modes[6][termios.VTIME] = 0
    termios.tcsetattr(file, termios.TCSANOW, modes)
    termios.tcflush(file, termios.TCIOFLUSH)
