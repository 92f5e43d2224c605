"""XRT through its C library: the only module that loads `libxrt_coreutil`."""

import ctypes
import ctypes.util
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.xrt.binding import MAX_CARDS, Buffer, RunState, run_state, whole_pages
from trencadis_host.errors import (
    DeviceBusyError,
    DeviceLostError,
    DeviceMemoryError,
    DeviceNotFoundError,
    WrongBitstreamError,
    XrtMissingError,
)

__all__ = ["CapiBinding", "open_library"]

LIBRARIES = ("libxrt_coreutil.so.2", "libxrt_coreutil.so")

POINTER, INT, UINT, SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint, ctypes.c_size_t

SIGNATURES: dict[str, tuple[Any, tuple[Any, ...] | None]] = {
    "xrtDeviceOpen": (POINTER, (UINT,)),
    "xrtDeviceClose": (INT, (POINTER,)),
    "xrtDeviceLoadXclbinFile": (INT, (POINTER, ctypes.c_char_p)),
    "xrtDeviceGetXclbinUUID": (INT, (POINTER, ctypes.c_char_p)),
    "xrtDeviceToXclDevice": (POINTER, (POINTER,)),
    "xrtPLKernelOpenExclusive": (POINTER, (POINTER, ctypes.c_char_p, ctypes.c_char_p)),
    "xrtKernelClose": (INT, (POINTER,)),
    "xrtKernelArgGroupId": (INT, (POINTER, INT)),
    "xrtKernelWriteRegister": (INT, (POINTER, ctypes.c_uint32, ctypes.c_uint32)),
    "xrtBOAlloc": (POINTER, (POINTER, SIZE, ctypes.c_uint64, ctypes.c_uint32)),
    "xrtBOFree": (INT, (POINTER,)),
    "xrtBOMap": (POINTER, (POINTER,)),
    "xrtBOSync": (INT, (POINTER, INT, SIZE, SIZE)),
    "xrtRunOpen": (POINTER, (POINTER,)),
    "xrtRunClose": (INT, (POINTER,)),
    "xrtRunSetArg": (INT, None),  # variadic
    "xrtRunStart": (INT, (POINTER,)),
    "xrtRunState": (INT, (POINTER,)),
}

DRIVER_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "xclProbe": (UINT, ()),
    "xclExecWait": (INT, (POINTER, INT)),
    "xclGetDeviceInfo2": (INT, (POINTER, POINTER)),
}
"""Functions of the driver library, which `xrtDeviceOpen` has loaded."""

TO_CARD, TO_HOST = 0, 1

GONE = (errno.ENODEV, errno.ENXIO, errno.EIO)
IN_USE = (errno.EBUSY, errno.EPERM, errno.EACCES)

UUID_BYTES = 16

INFO_BYTES = 4096
INFO_NAME = slice(4, 260)
"""Offset of the platform's name in `xclDeviceInfo2`; the rest is not looked at."""


class LibraryBuffer:
    """A buffer."""

    def __init__(self, library: "Library", handle: int, size: int) -> None:
        self._library = library
        self._handle: int | None = handle
        self._size = whole_pages(size)
        try:
            address = library.call("xrtBOMap", handle)
        except BaseException:
            library.raw("xrtBOFree", handle)
            raise
        pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8))
        self._host: npt.NDArray[np.uint8] = np.ctypeslib.as_array(pointer, (size,))

    @property
    def handle(self) -> int | None:
        """XRT's name of it."""
        return self._handle

    @property
    def host(self) -> npt.NDArray[np.uint8]:
        """The host's side."""
        return self._host

    def to_card(self, size: int) -> None:
        """Copy the first bytes to the card."""
        # XRT's emulation driver ignores offsets on the card's side, so all copies begin at 0.
        self._library.call(
            "xrtBOSync", self._handle, TO_CARD, min(whole_pages(size), self._size), 0
        )

    def to_host(self, size: int) -> None:
        """Copy the first bytes to the host."""
        self._library.call(
            "xrtBOSync", self._handle, TO_HOST, min(whole_pages(size), self._size), 0
        )

    def close(self) -> None:
        """Free it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._host = np.zeros(0, np.uint8)
            self._library.call("xrtBOFree", handle)


class LibraryRun:
    """A run."""

    def __init__(self, library: "Library", handle: int) -> None:
        self._library = library
        self._handle: int | None = handle

    def set_buffer(self, argument: int, buffer: Buffer) -> None:
        """Pass a buffer."""
        assert isinstance(buffer, LibraryBuffer)
        self._set(argument, POINTER(buffer.handle))

    def set_scalar(self, argument: int, value: int) -> None:
        """Pass a number."""
        self._set(argument, ctypes.c_uint32(value))

    def _set(self, argument: int, value: Any) -> None:
        self._library.call("xrtRunSetArg", POINTER(self._handle), INT(argument), value)

    def start(self) -> None:
        """Queue the run."""
        self._library.call("xrtRunStart", self._handle)

    def state(self) -> RunState:
        """State of the run."""
        # Not `xrtRunWaitFor`: in emulation it does not come back before the end.
        return run_state(self._library.raw("xrtRunState", self._handle))

    def close(self) -> None:
        """Give it back."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.call("xrtRunClose", handle)


class LibraryUnit:
    """A compute unit."""

    def __init__(self, library: "Library", device: int, handle: int, what: str) -> None:
        self._library = library
        self._device = device
        self._handle: int | None = handle
        self._what = what

    def group(self, argument: int) -> int:
        """The memory group of an argument."""
        group = self._library.raw("xrtKernelArgGroupId", self._handle, argument)
        if group < 0:
            raise WrongBitstreamError(f"{self._what} has no memory for argument {argument}")
        return int(group)

    def buffer(self, size: int, group: int) -> LibraryBuffer:
        """Memory."""
        ctypes.set_errno(0)
        handle = self._library.raw("xrtBOAlloc", self._device, whole_pages(size), 0, group)
        if not handle:
            number = ctypes.get_errno()
            if number in GONE:
                raise DeviceLostError(f"{self._what} gives no memory{_reason(number)}")
            raise DeviceMemoryError(
                f"{self._what}: the card has no {size:,} bytes left in memory group {group}; "
                "run fewer samples at once, or close other sessions"
            )
        return LibraryBuffer(self._library, handle, size)

    def run(self) -> LibraryRun:
        """A run."""
        return LibraryRun(self._library, self._library.call("xrtRunOpen", self._handle))

    def write_register(self, offset: int, value: int) -> bool:
        """Write a register."""
        return self._library.raw("xrtKernelWriteRegister", self._handle, offset, value) == 0

    def close(self) -> None:
        """Give it back."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.call("xrtKernelClose", handle)


class LibraryCard:
    """A card."""

    def __init__(self, library: "Library", handle: int, number: int) -> None:
        self._library = library
        self._handle: int | None = handle
        self._number = number
        self._uuid = b""

    @property
    def platform(self) -> str:
        """Name of the card's platform."""
        driver = self._library.driver("xclGetDeviceInfo2")
        if driver is None:
            return ""
        info = ctypes.create_string_buffer(INFO_BYTES)
        if driver(self._library.raw("xrtDeviceToXclDevice", self._handle), info):
            return ""
        return info.raw[INFO_NAME].split(b"\0", 1)[0].decode("ascii", "replace")

    @property
    def loaded(self) -> bytes:
        """The identity of the xclbin on the card."""
        identity = ctypes.create_string_buffer(UUID_BYTES)
        if self._library.raw("xrtDeviceGetXclbinUUID", self._handle, identity):
            return b""
        return identity.raw

    def load(self, path: Path) -> None:
        """Load an xclbin."""
        # XRT's emulation driver makes its first wait ten times as long as asked: ask for none.
        if wait := self._library.driver("xclExecWait"):
            wait(self._library.raw("xrtDeviceToXclDevice", self._handle), 0)
        ctypes.set_errno(0)
        if self._library.raw("xrtDeviceLoadXclbinFile", self._handle, os.fsencode(path)):
            number = ctypes.get_errno()
            if number in IN_USE:
                raise DeviceBusyError(
                    f"card {self._number} is in use and does not take {path}; end the other program"
                )
            raise WrongBitstreamError(
                f"card {self._number} does not take {path}{_reason(number)}; "
                "is it for its platform?"
            )
        identity = ctypes.create_string_buffer(UUID_BYTES)
        self._library.call("xrtDeviceGetXclbinUUID", self._handle, identity)
        self._uuid = identity.raw

    def unit(self, name: str) -> LibraryUnit:
        """A compute unit."""
        what = f"card {self._number}'s {name}"
        ctypes.set_errno(0)
        handle = self._library.raw(
            "xrtPLKernelOpenExclusive", self._handle, self._uuid, name.encode()
        )
        if not handle:
            number = ctypes.get_errno()
            if number in IN_USE:
                raise DeviceBusyError(f"{what} is used by another process; end that one first")
            raise WrongBitstreamError(f"{what} cannot be opened{_reason(number)}")
        assert self._handle is not None
        return LibraryUnit(self._library, self._handle, handle, what)

    def close(self) -> None:
        """Give it back."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.raw("xrtDeviceClose", handle)


class Library:
    """The library's functions."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._functions = {}
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype = result
            if arguments is not None:
                function.argtypes = arguments
            self._functions[name] = function

    def raw(self, name: str, *arguments: Any) -> Any:
        """Result of a function."""
        return self._functions[name](*arguments)

    def call(self, name: str, *arguments: Any) -> Any:
        """The handle that a function returns; or nothing, if it returns 0.

        Raises
        ------
        DeviceLostError
            If it fails: returns no handle, or anything but 0.
        """
        ctypes.set_errno(0)
        result = self._functions[name](*arguments)
        if (result is None) if self._functions[name].restype is POINTER else result:
            reason = _reason(ctypes.get_errno())
            raise DeviceLostError(f"XRT's {name} failed{reason}; see XRT's own messages")
        return result

    def driver(self, name: str) -> Callable[..., Any] | None:
        """A function of the driver library; None if that has not got it."""
        function = getattr(ctypes.CDLL(None), name, None)
        if function is not None:
            function.restype, function.argtypes = DRIVER_SIGNATURES[name]
        return function


class CapiBinding:
    """XRT through its C library.

    Parameters
    ----------
    library : ctypes.CDLL
        `libxrt_coreutil`, loaded with `use_errno`.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = Library(library)

    @property
    def name(self) -> str:
        """Name of the binding."""
        return "XRT's C library"

    def cards(self) -> list[str]:
        """Platforms of the cards."""
        names: list[str] = []
        while len(names) < MAX_CARDS:
            try:
                card = self.open(len(names))
            except DeviceNotFoundError:
                break
            names.append(card.platform)
            card.close()
        return names

    def open(self, number: int) -> LibraryCard:
        """A card by number."""
        ctypes.set_errno(0)
        handle = self._library.raw("xrtDeviceOpen", number)
        probe = self._library.driver("xclProbe")
        if handle and probe is not None and number >= probe():
            # XRT's emulation driver makes up a card for any number.
            self._library.raw("xrtDeviceClose", handle)
            handle = None
        if not handle:
            raise DeviceNotFoundError(
                f"device xrt:{number}: XRT has no such card{_reason(ctypes.get_errno())}; "
                "list the cards with: python -m trencadis_host.devices.xrt.device"
            )
        return LibraryCard(self._library, handle, number)


def open_library() -> CapiBinding:
    """The binding of XRT's C library, loaded.

    Raises
    ------
    XrtMissingError
        If it is not installed.
    """
    for name in LIBRARIES:
        try:
            return CapiBinding(ctypes.CDLL(name, use_errno=True))
        except OSError:
            continue
    raise XrtMissingError(
        f"device xrt: {LIBRARIES[0]} cannot be loaded; install XRT (Debian: apt install libxrt1), "
        "and source its setup.sh if it has one"
    )


def _reason(number: int) -> str:
    return f" ({os.strerror(number)})" if number else ""
