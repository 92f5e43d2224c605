"""Memory: index types by size, room that is asked for before it is used, and alignment."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.room import available_memory
from trencadis_train.errors import TrainingError

__all__ = ["CACHE_LINE", "aligned_empty", "aligned_zeros", "check_memory", "index_type"]

CACHE_LINE = 64
"""Bytes."""

MAX_INDEX = np.iinfo(np.int64).max


def index_type(largest: int, subject: str) -> np.dtype[Any]:
    """The smallest of int32 and int64 that holds an index.

    Raises
    ------
    TrainingError
        If neither does, naming the subject.
    """
    if largest > MAX_INDEX:
        raise TrainingError(
            f"{subject} must be numbered within 64 bits, up to {MAX_INDEX}, not {largest}; "
            "make the layer smaller"
        )
    return np.dtype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def aligned_empty(shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An array that begins with a cache line, its numbers not set.

    NumPy's own large arrays begin 16 bytes after one, so that every row of 64 bytes lies in two.
    """
    return _aligned(np.empty, shape, dtype)


def aligned_zeros(shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An array of zeros that begins with a cache line; the system takes memory as it is used."""
    return _aligned(np.zeros, shape, dtype)


def _aligned(
    allocate: Callable[..., npt.NDArray[Any]], shape: Sequence[int], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = allocate(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def check_memory(needed: int, subject: str, available: int | None = None) -> None:
    """Refuse what would not fit, before anything is allocated.

    Parameters
    ----------
    needed : int
        Bytes.
    subject : str
        What needs them.
    available : int, optional
        Bytes; those of this machine without it.

    Raises
    ------
    TrainingError
        With both figures.
    """
    left = available_memory() if available is None else available
    if needed > left:
        raise TrainingError(
            f"{subject} needs {needed / 2**30:.2f} GiB of memory, and {left / 2**30:.2f} GiB are "
            "available; use fewer neurons or connections"
        )
