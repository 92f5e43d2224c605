"""Arrays from files that come from anywhere."""

from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from trencadis_hw.container import ContainerError, InputError, check_file
from trencadis_hw.file_kind import ARRAY, file_kind

__all__ = ["array_header", "load_array"]

LARGEST_FILE = 16 << 30
"""Bytes of an array file."""


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first index runs fastest, and type of the array in an .npy file.

    On bytes that are no such file, whatever NumPy raises.
    """
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(file)


def load_array(path: Path) -> npt.NDArray[Any]:
    """The array in an .npy file.

    Raises
    ------
    InputError
        If the file does not hold one array of numbers.
    """
    try:
        check_file(path, LARGEST_FILE)
    except ContainerError as error:
        raise InputError(str(error)) from error
    kind = file_kind(path)
    if kind != ARRAY:
        what = f" (it is {kind})" if kind else ""
        raise InputError(
            f"{path}: not an array of numbers{what}; give an .npy file, as numpy.save writes it"
        )
    try:
        with path.open("rb") as file:
            _, _, dtype = array_header(file)
        if dtype.hasobject:
            raise InputError(f"{path}: holds Python objects, which are not loaded; save numbers")
        # Mapped, so that the size that is declared is compared with that of the file first.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # NumPy raises whatever it comes across in a damaged file
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not an array of numbers ({reason}); write it with numpy.save"
        ) from error
    if loaded.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: an array of {loaded.dtype}, not of numbers; convert it with .astype"
        )
    return np.array(loaded)
