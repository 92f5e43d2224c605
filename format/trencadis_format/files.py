"""Files of users, read and written: the one place that opens them.

What is read comes from anywhere: only regular files of a stated size are read, and nothing in them
is executed. What is written appears complete or not at all, and replaces nothing but a file.
"""

import errno
import io
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from trencadis_format.errors import FileError, InputError

__all__ = [
    "ARCHIVE",
    "ARRAY",
    "IMAGE",
    "MODEL",
    "array_header",
    "check_file",
    "check_output",
    "file_kind",
    "load_array",
    "make_folder",
    "open_file",
    "read_file",
    "read_text",
    "save_array",
    "sync_folder",
    "write_atomically",
]

ARRAY = "a NumPy array"
ARCHIVE = "a zip archive, as .npz files are"
IMAGE = "an overlay image"
MODEL = "an ONNX model"

PIECE_BYTES = 1 << 24
"""Bytes that are read at a time."""

KIND_BYTES = 128
"""Bytes that are looked at to tell a file's kind."""

LATEST_IR = 32
"""Versions of ONNX are below this for long."""

NEXT_ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""Tags of what may follow the version in an ONNX file."""

MAX_ARRAY_BYTES = 16 << 30
"""Bytes of an array file."""

MAX_TEXT_BYTES = 16 << 20
"""Bytes of a file that people write, such as a board or a recipe."""

DESCRIPTORS = re.compile(r"/proc/(\d+|self|thread-self)(/task/\d+)?/fd")
"""Folders of a process's open files: `/dev/stdout` is a link into one."""


def open_file(path: Path, largest: int) -> IO[bytes]:
    """Open a regular file to read it.

    The file is looked at after it is opened, so nobody can put another in its place in between;
    a FIFO without a writer is not waited for.

    Parameters
    ----------
    path : Path
        The file; symlinks are followed.
    largest : int
        Most bytes that it may have.

    Raises
    ------
    FileError
        If it is missing, not a regular file, or larger.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read: {_reason(error)}") from error
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
        os.close(number)
        raise FileError(
            f"{path}: cannot be read: {_kind(status.st_mode)}, not a regular file; save the data "
            "in a file first"
        )
    if status.st_size > largest:
        os.close(number)
        raise FileError(
            f"{path}: {status.st_size} bytes, more than the {largest} that are read; "
            "is it the right file?"
        )
    return os.fdopen(number, "rb")


def check_file(path: Path, largest: int) -> None:
    """Check that a file is worth reading at all.

    Raises
    ------
    FileError
        If it is missing, not a regular file, or larger than `largest` bytes.
    """
    open_file(path, largest).close()


def read_file(path: Path, largest: int) -> bytes:
    """Read a whole regular file.

    Raises
    ------
    FileError
        If it is missing, not a regular file, larger than `largest` bytes, or cannot be read.
    """
    try:
        with open_file(path, largest) as file:
            # Piece by piece: a read of `largest` bytes would ask for as much memory at once.
            pieces, left = [], largest + 1
            while left and (piece := file.read(min(left, PIECE_BYTES))):
                pieces.append(piece)
                left -= len(piece)
            data = b"".join(pieces)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {_reason(error)}") from error
    if len(data) > largest:  # it grows, or is one of /proc, whose size is said to be 0
        raise FileError(f"{path}: more than the {largest} bytes that are read; right file?")
    return data


def read_text(path: Path, largest: int = MAX_TEXT_BYTES) -> str:
    """Read a whole regular file of UTF-8 text.

    Raises
    ------
    FileError
        As `read_file`, and if the bytes are not UTF-8.
    """
    try:
        return read_file(path, largest).decode()
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path}: not text: byte {error.start} is not UTF-8; is it the right file?"
        ) from error


def file_kind(path: Path) -> str | None:
    """Tell what a file of one of the kinds of this project begins like; None if like none.

    A file that cannot be read is of no kind: whoever reads it says why.
    """
    try:
        with open_file(path, MAX_ARRAY_BYTES) as file:
            head = file.read(KIND_BYTES)
    except (OSError, FileError):
        return None
    if head.startswith(b"\x93NUMPY"):
        return ARRAY
    if head.startswith(b"PK\x03\x04"):
        return ARCHIVE
    if head[8:10] == b'{"' and b'"trencadis-overlay"' in head:
        return IMAGE
    begins = len(head) > 2 and head[0] == 8 and head[1] < LATEST_IR
    return MODEL if begins and head[2:3] in NEXT_ONNX_FIELDS else None


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first index runs fastest, and type of the array in an .npy file.

    On bytes that are no such file, whatever NumPy raises.
    """
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(file)


def load_array(path: Path) -> npt.NDArray[Any]:
    """Load the array in an .npy file.

    Returns
    -------
    array
        Numbers or booleans, in the order and the byte order of the machine.

    Raises
    ------
    InputError
        If the file does not hold one array of numbers.
    """
    kind = file_kind(path)
    if kind != ARRAY and path.is_file():
        what = f" (it is {kind})" if kind else ""
        raise InputError(
            f"{path}: not an array of numbers{what}; give an .npy file, as numpy.save writes it"
        )
    try:
        with open_file(path, MAX_ARRAY_BYTES) as file:
            loaded = _array(file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileError as error:
        raise InputError(str(error)) from error
    except Exception as error:  # NumPy raises whatever it comes across in a damaged file
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not an array of numbers ({reason}); write it with numpy.save"
        ) from error
    if loaded.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: an array of {loaded.dtype}, not of numbers; convert it with .astype"
        )
    return loaded


def _array(file: IO[bytes]) -> npt.NDArray[Any]:
    """Read an array; nothing is allocated before its size is known to be that of the file.

    It is not mapped into memory: a file that becomes shorter meanwhile would end the process.
    """
    shape, _, dtype = array_header(file)
    if dtype.hasobject:
        raise InputError("holds Python objects, which are not loaded; save numbers")
    size, have = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size - file.tell()
    if min(shape, default=0) < 0 or size > have:
        raise ValueError(f"{have} bytes do not hold shape {shape} of {dtype}")
    file.seek(0)
    return np.asarray(npy.read_array(file, allow_pickle=False))


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an .npy file as `write_atomically` does; equal arrays are equal files.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, order="C"), allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def check_output(path: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Check before the work that a file can be written after it.

    Parameters
    ----------
    path : Path
        The file to write.
    inputs : iterable of Path or None
        Files that are read, none of which may be overwritten; None is skipped.

    Raises
    ------
    FileError
        If it is one of the inputs, is in no folder, or cannot be written.
    """
    status = _status(path)
    if status is None or stat.S_ISREG(status.st_mode):
        for source in inputs:
            if source is not None and _is_same(path, source):
                raise FileError(
                    f"{path}: is the input {source}, which would be overwritten; give another name"
                )
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            raise FileError(f"{path}: cannot be written: there is no folder {folder}; make it")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise FileError(
                f"{path}: cannot be written: files in {folder} may not be made; give another folder"
            )
    if status is not None:
        _check_replaceable(path, status)


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file such that it is there complete or not at all.

    A symlink is followed and its target replaced whole. A character device, a FIFO and an open
    file of the process (`/dev/stdout`) are written to and stay what they are. Permissions are those
    of the file that is replaced, or those that `open` would give a new one.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    try:
        status = _status(path)
        if status is not None:
            _check_replaceable(path, status)
            if not stat.S_ISREG(status.st_mode) or _is_open_file(path):
                _write_into(path, data)
                return
        _replace(Path(os.path.realpath(path)), data, status)
    except (OSError, ValueError) as error:
        if isinstance(error, FileError | BrokenPipeError):
            raise
        raise FileError(f"{path}: cannot be written: {_reason(error)}") from error


def make_folder(path: Path) -> None:
    """Make a folder and those that it is in, unless they are there.

    Raises
    ------
    FileError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be made: {_reason(error)}") from error


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can tell."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(number)


def _replace(target: Path, data: bytes | memoryview, status: os.stat_result | None) -> None:
    """Write beside a file and rename; the permissions of the file in `status` are kept."""
    made = target.with_name(f".trencadis-{secrets.token_hex(8)}.part")
    number = _open_unnamed(target.parent)
    named = number is None
    if number is None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(made, flags, 0o666)
    try:
        with os.fdopen(number, "wb") as file:
            if status is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode) & 0o777)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if not named:
                # Of an absolute path nothing is read but that links are to be followed.
                opened = f"/proc/self/fd/{file.fileno()}"
                os.link(opened, made, src_dir_fd=file.fileno(), follow_symlinks=True)
        os.replace(made, target)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def _open_unnamed(folder: Path) -> int | None:
    """Open a file that has no name yet, so that killing the process leaves none of it behind.

    None where the file system has no such files, or links cannot be made to them.
    """
    if not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise


def _write_into(path: Path, data: bytes | memoryview) -> None:
    """Write to what is there; to an open file, at its end."""
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(number, "wb") as file:
        file.write(data)


def _check_replaceable(path: Path, status: os.stat_result) -> None:
    mode = status.st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise FileError(f"{path}: cannot be written: it is {_kind(mode)}; give the name of a file")
    if not os.access(path, os.W_OK):
        raise FileError(f"{path}: cannot be written: it is read-only; give another name")


def _is_open_file(path: Path) -> bool:
    """Tell whether a path leads, by way of links, to an open file of a process."""
    for _ in range(40):  # as many links as Linux follows
        if DESCRIPTORS.fullmatch(os.path.realpath(path.parent)):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return False


def _is_same(path: Path, other: Path) -> bool:
    """Tell whether two paths lead to one file, by links or by names."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    first, second = _status(path), _status(other)
    return first is not None and second is not None and os.path.samestat(first, second)


def _status(path: Path) -> os.stat_result | None:
    """Status of what a path leads to; None if there is nothing."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be used: {_reason(error)}") from error


def _kind(mode: int) -> str:
    """Name what is no regular file."""
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for is_kind, name in kinds if is_kind(mode)), "something else")


def _reason(error: Exception) -> str:
    """The system's words for why it refuses."""
    return getattr(error, "strerror", None) or str(error)
