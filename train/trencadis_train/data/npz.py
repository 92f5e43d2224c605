"""Named arrays in one `.npz` file, read without trust and written at once. NumPy only."""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from trencadis_format.files import array_header, write_atomically
from trencadis_train.errors import TrainingError

__all__ = ["read_arrays", "write_arrays"]

MAX_RATIO = 1100
"""Deflate makes nothing smaller than a 1,032nd; what claims more is made to fill memories."""

DAMAGED = (
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions that zipfile and NumPy raise on bytes that are no such file."""


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file but those of Python objects, which are left out.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, or something else.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        with file, zipfile.ZipFile(file) as archive:
            members = {
                member.filename.removesuffix(".npy"): _read(archive, member)
                for member in archive.infolist()
                if member.filename.endswith(".npy")
            }
    except DAMAGED as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise TrainingError(
            f"{path}: not an .npz file, or damaged ({text}); make it again"
        ) from error
    return {name: array for name, array in members.items() if array is not None}


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a compressed file; it appears complete or not at all."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                npy.write_array(file, np.asarray(array), allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any] | None:
    if member.file_size > MAX_RATIO * member.compress_size:
        raise ValueError(f"{member.filename} claims {member.file_size} bytes")
    with archive.open(member) as file:
        shape, fortran, dtype = array_header(file)
        if any(size < 0 for size in shape):
            raise ValueError(f"an array of shape {list(shape)}")
        if dtype.hasobject:
            return None
        data = file.read()
    size = math.prod(shape) * dtype.itemsize
    if len(data) != size:
        raise ValueError(f"{member.filename} has {len(data)} bytes for an array of {size}")
    array = np.frombuffer(data, dtype) if size else np.zeros(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if fortran else "C")
