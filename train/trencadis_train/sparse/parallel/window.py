"""Memory and a socket that a server shares with a worker of the same machine.

Over gloo, a loopback connection copies every array four times in the system, and a header wakes
four threads: milliseconds for each batch. Shared memory is written once and read once, and a socket
of the machine wakes the other side alone. Neither has a name in a file system, so that nothing is
left of a process that is killed, which the other side notices by its socket.
"""

import mmap
import os
import secrets
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_train.memory import CACHE_LINE

__all__ = ["LostWindowError", "Offer", "Window"]

KIND = getattr(socket, "SOCK_SEQPACKET", None)
"""Sockets that keep messages apart."""


class LostWindowError(RuntimeError):
    """The other side is gone."""


@dataclass
class Window:
    """Headers, and a half of memory to write to and one to read from; sides take turns.

    Attributes
    ----------
    out, back : uint8 array
        Own half, and that of the other side.
    bell : socket
        Carries headers.
    """

    out: npt.NDArray[np.uint8]
    back: npt.NDArray[np.uint8]
    bell: socket.socket
    _written: int = field(default=0, init=False)
    _read: int = field(default=0, init=False)

    @staticmethod
    def reach(number: int, timeout_s: float) -> socket.socket | None:
        """Socket of the side that offers a window; None on another machine."""
        if KIND is None:
            return None
        bell = socket.socket(socket.AF_UNIX, KIND)
        bell.settimeout(timeout_s)
        try:
            bell.connect(_name(number))
        except OSError:
            bell.close()
            return None
        return bell

    @classmethod
    def of(cls, bell: socket.socket) -> Self | None:
        """Window of a socket that was reached; None for another user."""
        try:
            _, descriptors, _, _ = socket.recv_fds(bell, 1, 1)
        except OSError as error:
            bell.close()
            raise LostWindowError(f"the server is gone ({error})") from error
        if not descriptors:
            bell.close()
            return None
        memory = np.frombuffer(mmap.mmap(descriptors[0], 0), np.uint8)
        os.close(descriptors[0])
        half = len(memory) // 2
        return cls(memory[half:], memory[:half], bell)

    def close(self) -> None:
        """Leave, which the other side notices."""
        self.bell.close()

    def tell(self, header: bytes) -> None:
        """Send a header, by which the turn is the other side's."""
        try:
            self.bell.send(header)
        except OSError as error:
            raise LostWindowError(f"the other process is gone ({error})") from error

    def hear(self, size: int) -> bytes:
        """Wait for a header of so many bytes."""
        try:
            header = self.bell.recv(size)
        except OSError as error:
            raise LostWindowError(f"the other process is gone ({error})") from error
        if len(header) != size:
            raise LostWindowError("the other process has ended")
        self._read = 0
        return header

    def begin(self) -> None:
        """Begin to write the arrays of a turn."""
        self._written = 0

    def write(self, array: npt.NDArray[Any]) -> bool:
        """Put an array behind those of this turn; False if there is no room left."""
        start, self._written = self._written, self._written + _rounded(array.nbytes)
        if self._written > len(self.out):
            return False
        place = self.out[start : start + array.nbytes].view(array.dtype)
        place[...] = array.reshape(-1)
        return True

    def read(self, count: int, kind: Any) -> npt.NDArray[Any] | None:
        """Copy of the next array of the other side's turn; None if it had no room."""
        nbytes = count * np.dtype(kind).itemsize
        start, self._read = self._read, self._read + _rounded(nbytes)
        if self._read > len(self.back):
            return None
        return self.back[start : start + nbytes].view(kind).copy()


class Offer:
    """Memory that waits for a worker.

    Parameters
    ----------
    size : int
        Bytes of a half.
    timeout_s : float
        After which a silent worker counts as dead.

    Attributes
    ----------
    number : int
        By which the worker finds it; 0 if this machine cannot.
    """

    def __init__(self, size: int, timeout_s: float) -> None:
        self.number = 0
        self._size, self._timeout_s = size, timeout_s
        if KIND is None or not hasattr(os, "memfd_create"):
            return
        self._listener = socket.socket(socket.AF_UNIX, KIND)
        self._listener.settimeout(timeout_s)
        number = secrets.randbits(62) | 1
        try:
            self._memory = os.memfd_create("trencadis")
            # Reserved, since a page that is not there when it is written ends the process.
            os.posix_fallocate(self._memory, 0, 2 * size)
            self._listener.bind(_name(number))
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            return
        self.number = number

    def accept(self) -> Window | None:
        """Give the memory to a worker of the same user that has asked for it; None to others."""
        bell = None
        try:
            bell, _ = self._listener.accept()
            bell.settimeout(self._timeout_s)
            who = bell.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", who)[1] != os.geteuid():
                bell.close()
                return None
            socket.send_fds(bell, [b"m"], [self._memory])
            memory = np.frombuffer(mmap.mmap(self._memory, 0), np.uint8)
        except OSError as error:
            if bell is not None:
                bell.close()
            raise LostWindowError(f"the worker is gone ({error})") from error
        finally:
            self.close()
        return Window(memory[: self._size], memory[self._size :], bell)

    def close(self) -> None:
        """Withdraw it; a window that was given stays."""
        if self.number:
            self._listener.close()
            os.close(self._memory)
            self.number = 0


def _name(number: int) -> str:
    """Name of a socket that is in no file system."""
    return f"\0trencadis-{number:016x}"


def _rounded(nbytes: int) -> int:
    return -(-nbytes // CACHE_LINE) * CACHE_LINE
