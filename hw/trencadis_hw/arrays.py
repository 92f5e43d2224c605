"""Arrays from files that come from anywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_hw.container import ContainerError, InputError, check_file

__all__ = ["load_array"]

LARGEST_FILE = 16 << 30
"""Bytes of an array file."""


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
    try:
        # Mapped, so that the size that is declared is compared with that of the file first.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises whatever it comes across in a damaged file
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not an array of numbers ({reason}); write it with numpy.save"
        ) from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise InputError(f"{path}: holds several arrays; give an .npy file with one")
    if loaded.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: an array of {loaded.dtype}, not of numbers; convert it with .astype"
        )
    return np.array(loaded)
