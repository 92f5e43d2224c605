"""Formats of tensors: from a model's tensors to a device's samples, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.errors import InputError
from trencadis_format.keys import integer_keys, real_keys
from trencadis_format.layer_tables import INPUT_ENTRY

__all__ = [
    "InputFormat",
    "MapFormat",
    "OutputFormat",
    "TensorFormat",
    "check_batch",
    "check_finite",
]


@dataclass(frozen=True, kw_only=True)
class TensorFormat:
    """A tensor between segments, or at the model's edge.

    Attributes
    ----------
    name : str
        Name as the model calls it.
    dtype : str
        NumPy's name of its type.
    shape : tuple of int or None
        Shape as the model declares it; None where it leaves a size open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class MapFormat:
    """A map between two layers of a program, and the tensor of the model that it equals.

    Attributes
    ----------
    name : str
        Name of the tensor; empty if it equals none.
    shape : tuple of int or None
        Shape of the tensor, its batch first.
    axes : str
        The map's axes in the order in which the tensor has them after the batch.
    scale : float
        The real number is scale * (key - zero_key).
    zero_key : int
        Key of the number zero.
    """

    name: str
    shape: tuple[int | None, ...]
    axes: str
    scale: float
    zero_key: int


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """Format in which the host packs the model's input.

    Attributes
    ----------
    name, dtype : str
        Name and dtype as the model declares them.
    shape : tuple of int or None
        Shape as the model declares it; None where it leaves a size open.
    axes : str
        The map's axes in the order in which the tensor has them after the batch.
    channels, rows, columns : int
        Channels, rows and columns of the map.
    scale : float
        Real numbers are divided by this (a float32 number).
    zero_key : int
        Key of the real number zero.
    key_offset : int
        Added to quantised integers to get keys: 0 or 128.
    nonzeros : int
        Channels of a position that may be other than zero, and are sent as `INPUT_ENTRY`; 0 if
        all are sent, as keys.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    axes: str
    channels: int
    rows: int
    columns: int
    scale: float
    zero_key: int
    key_offset: int
    nonzeros: int = 0

    @property
    def values(self) -> int:
        """Values of a sample."""
        return self.channels * self.rows * self.columns

    @property
    def entries(self) -> int:
        """Entries of a sparse sample; 0 if inputs are dense."""
        return self.nonzeros * self.rows * self.columns

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample, before it is padded to whole beats."""
        return self.entries * INPUT_ENTRY.bits // 8 if self.nonzeros else self.values

    def keys(self, array: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Keys of a batch of inputs.

        Real inputs are quantised as ONNX's QuantizeLinear does: divided by the scale, rounded half
        to even, clipped. The quotient of two float32 in float64 is exact enough for the rounding to
        be that of exact arithmetic.

        Parameters
        ----------
        array : array, shape (samples, ...)
            The batch, as the model's input is declared; any number of samples.

        Returns
        -------
        uint8 array, shape (samples, rows, columns, channels)

        Raises
        ------
        InputError
            If shape or type are not the model's, or a value is not a number.
        """
        batch = np.asarray(array)
        check_batch(batch, self.name, self.shape, self.dtype)
        if batch.dtype.kind in "iu":
            keys = integer_keys(batch, self.key_offset)
        else:
            try:
                keys = real_keys(batch, self.scale, self.zero_key)
            except ValueError:
                check_finite(batch, self.name)  # says where it is not
                raise
        sizes = {"C": self.channels, "H": self.rows, "W": self.columns}
        axes = self.axes + "".join(axis for axis in "CHW" if axis not in self.axes)
        maps = keys.reshape(len(batch), *(sizes[axis] for axis in axes))
        return maps.transpose(0, *(1 + axes.index(axis) for axis in "HWC"))


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """Format from which the host unpacks the model's output.

    Attributes
    ----------
    name, dtype, shape, axes : as in `InputFormat`
    channels, rows, columns : int
        Channels, rows and columns of the map.
    piece_bytes, pieces : int
        Bytes of a piece, pieces of a sample.
    places : int
        Keys or sums of a position, padding included.
    order : tuple of int
        The place of every channel among them.
    raw : bool
        The sample holds 32-bit sums, not keys.
    integer : bool
        The model's output is the quantised integers themselves.
    scales, offsets : tuple of float
        The real number is scale * (key - zero_key) with one scale; for sums it is scale * sum +
        offset, one of each per channel.
    numerators, addends, denominators : tuple of int
        Numerators, addends and denominators of sums, where float64 does not have a scale or an
        offset exactly: the real number is (numerator * sum + addend) / denominator, one of each per
        channel. Else empty.
    zero_key, key_offset : int
        As in `InputFormat`.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    axes: str
    channels: int
    rows: int
    columns: int
    piece_bytes: int
    pieces: int
    places: int
    order: tuple[int, ...]
    raw: bool
    integer: bool
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    zero_key: int
    key_offset: int
    numerators: tuple[int, ...] = ()
    addends: tuple[int, ...] = ()
    denominators: tuple[int, ...] = ()

    @property
    def ratios(self) -> tuple[tuple[int, int, int], ...]:
        """Numerator, addend and denominator of every channel; empty if scales are exact."""
        return tuple(zip(self.numerators, self.addends, self.denominators, strict=True))


def check_batch(
    batch: npt.NDArray[Any], name: str, shape: Sequence[int | None], dtype: str
) -> None:
    """Check that an array is a batch of a model's input.

    Parameters
    ----------
    batch : array
        The array.
    name, shape, dtype
        Name, shape and dtype of the input as the model declares it; any number of samples will do.

    Raises
    ------
    InputError
        If shape or type are others, or there are no samples.
    """
    expected = ["N" if i == 0 or size is None else size for i, size in enumerate(shape)]
    if batch.ndim != len(expected) or any(
        size not in ("N", have) for size, have in zip(expected, batch.shape, strict=True)
    ):
        raise InputError(
            f"input {name!r} must have shape {expected}, not {list(batch.shape)}; N is any number "
            "of samples"
        )
    if len(batch) == 0:
        raise InputError(f"input {name!r} has no samples; give it at least one")
    if batch.dtype != np.dtype(dtype):
        raise InputError(
            f"input {name!r} must be {dtype}, not {batch.dtype}; convert it with .astype('{dtype}')"
        )


def check_finite(batch: npt.NDArray[Any], name: str) -> None:
    """Check that every element of a model's input is a number.

    Raises
    ------
    InputError
        If one is not.
    """
    wrong = ~np.isfinite(batch)
    if wrong.any():
        index = [int(i) for i in np.argwhere(wrong)[0]]
        raise InputError(
            f"input {name!r} must be finite, but is {batch[tuple(index)]} at {index}; clean the "
            "data first"
        )
