"""Weights of a layer by those that are not zero: what is sparse stays so."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir.occupancy import Occupancy

__all__ = ["MAX_FILLED", "Kernels", "Shape"]

Array = npt.NDArray[Any]

Shape = tuple[int, int, int, int]
"""Kernels, channels, rows and columns."""

SPARSE = 1 / 64
"""Density below which products are summed non-zero by non-zero."""

MAX_FILLED = 1 << 27
"""Weights up to which it is tried what a layer would take without its zeros."""

MAX_DENSE = 1 << 22
"""Elements that are expanded at a time."""


@dataclass(frozen=True, eq=False)
class Kernels:
    """Kernels of a layer: integers of eight bits, most of which may be zero.

    Attributes
    ----------
    shape : (kernels, channels, rows, columns)
        Shape of the array that they stand for.
    starts : int64 array, shape (kernels + 1,)
        The non-zeros of kernel i are those from `starts[i]` to `starts[i + 1]`.
    places : int64 array, shape (non-zeros,)
        Where each is in its kernel, in C order over (channels, rows, columns); ascending.
    values : int8 array, shape (non-zeros,)
        The non-zeros.
    groups : int
        Number of groups of the convolution: kernels of a group have weights for its channels alone.
    """

    shape: Shape
    starts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    values: npt.NDArray[np.int8]
    groups: int = 1

    @classmethod
    def of(cls, weights: Array) -> Self:
        """Kernels that are written out, shape (kernels, channels, rows, columns)."""
        flat = weights.reshape(len(weights), -1)
        kernel, place = np.nonzero(flat)
        shape: Any = weights.shape
        return cls._sorted(shape, kernel, place, flat[kernel, place])

    @classmethod
    def from_coordinates(
        cls,
        shape: Shape,
        kernel: npt.NDArray[np.int64],
        place: npt.NDArray[np.int64],
        values: Array,
    ) -> Self:
        """Kernels of weights given by kernel and place, in any order, none twice; some may be 0."""
        kept = values != 0
        kernel, place, values = kernel[kept], place[kept], values[kept]
        order = np.lexsort((place, kernel))
        return cls._sorted(shape, kernel[order], place[order], values[order])

    @classmethod
    def diagonal(cls, channels: int, window: tuple[int, int]) -> Self:
        """A kernel for each channel, with ones there and zeros elsewhere."""
        size = math.prod(window)
        kernel = np.repeat(np.arange(channels), size)
        place = kernel * size + np.tile(np.arange(size), channels)
        made = cls._sorted((channels, channels, *window), kernel, place, np.ones(len(place)))
        return replace(made, groups=channels)

    @classmethod
    def _sorted(cls, shape: Shape, kernel: Array, place: Array, values: Array) -> Self:
        starts = np.zeros(shape[0] + 1, np.int64)
        np.cumsum(np.bincount(kernel, minlength=shape[0]), out=starts[1:])
        return cls(shape, starts, place.astype(np.int64, copy=False), values.astype(np.int8))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.dense().astype(dtype or np.int8, copy=False)

    @property
    def size(self) -> int:
        """Weights, zeros included, but for those between groups."""
        return math.prod(self.shape) // self.groups

    @property
    def window(self) -> int:
        """Positions of a kernel's window."""
        return self.shape[2] * self.shape[3]

    @property
    def length(self) -> int:
        """Weights of a kernel, zeros included."""
        return self.shape[1] * self.window

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero."""
        return len(self.values)

    @cached_property
    def kernel(self) -> npt.NDArray[np.int64]:
        """The kernel of each non-zero."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @cached_property
    def occupancy(self) -> Occupancy:
        """Places of the non-zeros."""
        return Occupancy(len(self), self.length, self.starts, self.places)

    @cached_property
    def digest(self) -> bytes:
        """Digest of the places of non-zeros, by which kernels are packed."""
        digest = hashlib.sha256(repr((len(self), self.length)).encode())
        digest.update(self.starts.tobytes())
        digest.update(self.places.tobytes())
        return digest.digest()

    def dense(self) -> npt.NDArray[np.int8]:
        """The array, zeros written out; only for kernels that are known to be few."""
        array = np.zeros((len(self), self.length), np.int8)
        array[self.kernel, self.places] = self.values
        return array.reshape(self.shape)

    def with_values(self, values: Array) -> "Kernels":
        """Other values in the same places, shape (non-zeros,), none of them zero."""
        return replace(self, values=values.astype(np.int8))

    def filled(self) -> "Kernels":
        """Kernels without zeros, but for those between groups: ones."""
        outputs, channels, rows, columns = self.shape
        shape = (outputs, channels // self.groups, rows, columns)
        return Kernels.of(np.ones(shape, np.int8)).ungrouped(self.groups)

    def ungrouped(self, groups: int) -> "Kernels":
        """Kernels for the channels of their group, as kernels for those of all groups.

        Kernels of different groups never collide, so tiles take them as one.
        """
        outputs, channels, rows, columns = self.shape
        first = self.kernel // (outputs // groups) * channels * self.window
        shape = (outputs, channels * groups, rows, columns)
        return Kernels(shape, self.starts, self.places + first, self.values, groups)

    def times(self, signs: Array) -> "Kernels":
        """The kernels times -1, 0 or 1, shape (kernels,).

        Raises
        ------
        ValueError
            If a weight of -128 is to be negated.
        """
        values = self.values.astype(np.int64) * signs[self.kernel]
        if values.max(initial=0) > np.iinfo(np.int8).max:
            raise ValueError("negates a weight of -128")
        made = Kernels.from_coordinates(self.shape, self.kernel, self.places, values)
        return replace(made, groups=self.groups)

    def part(self, kernels: tuple[int, int], channels: tuple[int, int]) -> "Kernels":
        """The weights of some kernels for some channels, both from first to last but one."""
        if (kernels, channels) == ((0, len(self)), (0, self.shape[1])):
            return self
        mine = slice(self.starts[kernels[0]], self.starts[kernels[1]])
        places, values = self.places[mine], self.values[mine]
        kernel = self.kernel[mine] - kernels[0]
        low, high = (channel * self.window for channel in channels)
        inside = (places >= low) & (places < high)
        shape = (kernels[1] - kernels[0], channels[1] - channels[0], *self.shape[2:])
        return Kernels._sorted(shape, kernel[inside], places[inside] - low, values[inside])

    def chosen(self, kernels: Sequence[int]) -> "Kernels":
        """Some of the kernels, in another order or several times."""
        which = np.asarray(kernels, np.int64)
        counts = np.diff(self.starts)[which]
        starts = np.zeros(len(which) + 1, np.int64)
        np.cumsum(counts, out=starts[1:])
        taken = np.arange(starts[-1]) + np.repeat(self.starts[which] - starts[:-1], counts)
        shape = (len(which), *self.shape[1:])
        return Kernels(shape, starts, self.places[taken], self.values[taken])

    def spread(self, channels: Sequence[int], size: int) -> "Kernels":
        """The kernels over so many channels, of which theirs are the given ones.

        Raises
        ------
        ValueError
            If a channel is given twice, and the sum of its weights has more than eight bits.
        """
        channel, position = np.divmod(self.places, self.window)
        places = np.asarray(channels, np.int64)[channel] * self.window + position
        keys, where = np.unique(self.kernel * size * self.window + places, return_inverse=True)
        sums = np.zeros(len(keys), np.int64)
        np.add.at(sums, where, self.values)
        limits = np.iinfo(np.int8)
        if sums.min(initial=0) < limits.min or sums.max(initial=0) > limits.max:
            raise ValueError("sums of weights have more than eight bits")
        kernel, place = np.divmod(keys, size * self.window)
        shape = (len(self), size, *self.shape[2:])
        return Kernels.from_coordinates(shape, kernel, place, sums)

    def of_map(self, letters: str, sizes: Sequence[int]) -> "Kernels":
        """Kernels over a vector as kernels over the map that it was before it was flattened.

        Parameters
        ----------
        letters : str
            The map's axes, of channels C, rows H and columns W, the outermost first.
        sizes : sequence of int
            Theirs.
        """
        axes = dict(zip(letters, np.unravel_index(self.places, sizes), strict=True))
        known = dict(zip(letters, sizes, strict=True))
        nothing = np.zeros_like(self.places)
        channels, rows, columns = (known.get(letter, 1) for letter in "CHW")
        where = tuple(axes.get(letter, nothing) for letter in "CHW")
        places = np.ravel_multi_index(where, (channels, rows, columns))
        shape = (len(self), channels, rows, columns)
        return Kernels.from_coordinates(shape, self.kernel, places, self.values)

    def totals(self, numbers: Array) -> npt.NDArray[np.int64]:
        """Sum numbers of the non-zeros, shape (non-zeros,), by kernel."""
        before = np.zeros(self.nonzeros + 1, np.int64)
        np.cumsum(numbers, out=before[1:])
        return before[self.starts[1:]] - before[self.starts[:-1]]

    def products(self, windows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sums of products with vectors, exact as long as they are below 2**53.

        Parameters
        ----------
        windows : float64 array, shape (vectors, weights of a kernel)
            The vectors.

        Returns
        -------
        float64 array, shape (vectors, kernels)
        """
        if self.nonzeros < SPARSE * math.prod(self.shape):
            return self._sparse_products(windows)
        sums = np.empty((len(windows), len(self)))
        step = max(1, MAX_DENSE // self.length)
        for start in range(0, len(self), step):
            some = self.part((start, min(start + step, len(self))), (0, self.shape[1]))
            kernels = some.dense().reshape(len(some), -1).astype(np.float64)
            sums[:, start : start + step] = windows @ kernels.T
        return sums

    def _sparse_products(self, windows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sums = np.zeros((len(windows), len(self)))
        used = np.flatnonzero(np.diff(self.starts))
        if used.size:
            for window, row in zip(windows, sums, strict=True):
                row[used] = np.add.reduceat(window[self.places] * self.values, self.starts[used])
        return sums
