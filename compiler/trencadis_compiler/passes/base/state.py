"""States of tensors: what the walk over an operator graph knows of each.

A tensor is a constant, a dequantised constant (weights, bias), an activation map that the overlay
may hold, or opaque: something that only the host can compute with. A map collects what happens to
it until the next layer:

    sums --(BatchNorm, ReLU, max-pooling)--> quantise --(functions, max-pooling, k-WTA)--> keys
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_compiler.errors import Unsupported
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.network import Pool, Quantisation, TensorInfo, Winners
from trencadis_compiler.ir.sparse_constant import SparseConstant
from trencadis_compiler.passes.base.functions import PLAIN, Function

__all__ = [
    "AXES",
    "ActivationMap",
    "Array",
    "Draft",
    "Opaque",
    "QuantisedConstant",
    "Source",
    "SparseWeights",
    "State",
    "Unsupported",
    "View",
]

Array = npt.NDArray[Any]

AXES = {1: "C", 2: "CW", 3: "CHW"}
"""Axes of a map after the batch, by their number."""


@dataclass(frozen=True)
class QuantisedConstant:
    """A dequantised constant: integers, and a scale for all or one for every index of `axis`.

    `factor` is of all: products of scales need not be numbers of float32.
    """

    integers: npt.NDArray[np.signedinteger[Any]]
    scale: npt.NDArray[np.float32]
    axis: int
    factor: Fraction = Fraction(1)

    @property
    def T(self) -> "QuantisedConstant":
        """The transposed matrix, of a matrix."""
        return replace(self, integers=self.integers.T, axis=1 - self.axis % 2)


@dataclass(frozen=True)
class SparseWeights:
    """The same of a matrix of which only the non-zeros are kept; zero is its zero point."""

    integers: SparseConstant
    scale: npt.NDArray[np.float32]
    axis: int
    factor: Fraction = Fraction(1)

    @property
    def T(self) -> "SparseWeights":
        """The transposed matrix."""
        return replace(self, integers=self.integers.T, axis=1 - self.axis % 2)


@dataclass(frozen=True)
class Opaque:
    """A tensor that no map can be made of, and why."""

    reason: str


@dataclass(frozen=True)
class Source:
    """Origin of a map: the tensor that comes from outside, and its axes as a map."""

    tensor: TensorInfo
    axes: str


@dataclass(frozen=True)
class Draft:
    """A layer under way: what is known of it so far.

    `reads` is the map it reads, as it was when its keys were complete.
    """

    name: str
    reads: "ActivationMap"
    weights: Kernels
    weight_scale: tuple[Fraction, ...]
    bias: tuple[Fraction, ...]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    in_shape: tuple[int, int, int]
    input: Quantisation
    requantised: Quantisation | None = None
    table: tuple[int, ...] = PLAIN
    pool: Pool | None = None
    winners: Winners | None = None

    @property
    def monotone(self) -> bool:
        """True if the table never decreases, so that it may be exchanged with a maximum."""
        return all(a <= b for a, b in zip(self.table, self.table[1:], strict=False))


@dataclass(frozen=True)
class View:
    """View of a map by a tensor: some of the numbers along its first axis, zeros around it.

    No device makes such a tensor: the layer that reads it reads the map.

    Attributes
    ----------
    before : ActivationMap
        The map.
    picked : tuple of int or None
        Numbers along the first axis after the batch, in the tensor's order; None for all.
    padding : tuple of (int, int)
        Zeros before and after, for every axis after the batch.
    """

    before: "ActivationMap"
    picked: tuple[int, ...] | None
    padding: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ActivationMap:
    """An activation map under way.

    `tensor` names the tensor of the file that it equals. `axes` has, for every axis of the tensor
    after the batch, the letters of the map's axes that it is made of; `sizes` has their sizes.
    `quantisation` tells how keys are read; it is None for sums and for a source that is not
    quantised yet. `integer`: between quantising and dequantising. `functions` were applied since,
    and wait for the next quantisation. `batch`: the size of the tensor's first axis, 1 where it is
    open; `draft` is None as long as no layer has begun. `held`: the map as it last was when a
    device could hold it; `integers`: the same map before it was dequantised, if that was just now;
    `unselected`: the map before its winners were selected. `view`: what the tensor shows of the
    map, if it is another one; `sizes` are then those of the tensor.
    """

    tensor: str
    source: Source
    axes: tuple[str, ...]
    sizes: dict[str, int]
    batch: int = 1
    draft: Draft | None = None
    quantisation: Quantisation | None = None
    integer: bool = False
    functions: tuple[Function, ...] = ()
    held: "ActivationMap | None" = None
    integers: "ActivationMap | None" = None
    unselected: "ActivationMap | None" = None
    view: View | None = None

    @classmethod
    def fresh(cls, tensor: TensorInfo, sizes: Sequence[int]) -> Self:
        """A map of a tensor from outside; its axes have their usual names."""
        letters = AXES[len(sizes)]
        return cls(
            tensor=tensor.name,
            source=Source(tensor, letters),
            axes=tuple(letters),
            sizes=dict(zip(letters, sizes, strict=True)),
            batch=tensor.shape[0] or 1,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the tensor's axes after the batch."""
        return tuple(math.prod(self.sizes[letter] for letter in axis) for axis in self.axes)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns."""
        return self.sizes.get("C", 1), self.sizes.get("H", 1), self.sizes.get("W", 1)

    @property
    def positions(self) -> int:
        """Positions of the map."""
        return self.sizes.get("H", 1) * self.sizes.get("W", 1)

    @property
    def is_whole(self) -> bool:
        """True if it is a source on which nothing depends yet, with all axes that the source has.

        An axis of size 1 that was dropped is still one of the source, and keeps its letter.
        """
        return self.draft is None and set(self.axes) == set(self.source.axes)

    def renamed(self, names: Sequence[str]) -> Self:
        """The map of a whole source, its axes named anew."""
        assert self.is_whole
        new = dict(zip(self.axes, names, strict=True))
        return replace(
            self,
            source=replace(self.source, axes="".join(new[a] for a in self.source.axes)),
            axes=tuple(names),
            sizes={new[axis]: size for axis, size in self.sizes.items()},
        )


State = Array | SparseConstant | QuantisedConstant | SparseWeights | ActivationMap | Opaque
