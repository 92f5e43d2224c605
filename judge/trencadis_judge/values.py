"""Numbers of the evaluator, with a bound on how far they are from the exact ones.

A tensor of real numbers is held in float64. It is exact when its error is None; then `grid` says
that every element is an integer multiple of 2**grid. Sums and products of such tensors stay exact
while they fit the mantissa, which is decided before anything is added: this is the usual case of
scales that are powers of two. Everywhere else a running error bound follows the first-order rules
of N. Higham, "Accuracy and Stability of Numerical Algorithms", chapter 3.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.errors import UnsupportedOperatorError

__all__ = [
    "Precision",
    "Value",
    "is_real",
    "limits",
    "nearest",
    "propagated",
    "real_value",
    "value_of",
]

Array = npt.NDArray[Any]
Reals = npt.NDArray[np.float64]

MANTISSA_BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
"""Significant bits of the types of real numbers, the hidden one included."""

MIN_NORMAL = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14}
"""Below these numbers a rounding error is not relative any more."""


@dataclass(frozen=True)
class Value:
    """A tensor under evaluation.

    Attributes
    ----------
    array : array
        float64 for real types, int64 for integers, bool for truth values.
    dtype : dtype
        Type that the file gives the tensor.
    error : float64 array or None
        Bound on the distance from the exact number, elementwise; None for exact tensors. For
        truth values, 1 where the other one is possible.
    grid : int or None
        Every element is an integer multiple of 2**grid; None if unknown.
    """

    array: Array
    dtype: np.dtype[Any]
    error: Reals | None = None
    grid: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.array.shape

    @property
    def errors(self) -> Reals:
        """The error bound as an array, zeros where the tensor is exact."""
        return np.zeros(self.array.shape) if self.error is None else self.error


def is_real(dtype: np.dtype[Any]) -> bool:
    """Return whether a type holds real numbers."""
    return dtype.name in MANTISSA_BITS


def limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Smallest and largest number of an integer type, 2- and 4-bit ones included."""
    match = re.fullmatch(r"(u?)int(\d+)", dtype.name)
    if match is None:
        raise UnsupportedOperatorError(f"type {dtype.name} is not of integers")
    bits = int(match[2])
    return (0, (1 << bits) - 1) if match[1] else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def value_of(array: Array) -> Value:
    """An exact tensor from an array of the file or of a device.

    Raises
    ------
    UnsupportedOperatorError
        For types that hold neither numbers nor truth values.
    """
    dtype = array.dtype
    if is_real(dtype):
        return real_value(array.astype(np.float64), dtype)
    if dtype == np.bool_:
        return Value(np.asarray(array), dtype)
    limits(dtype)
    return Value(array.astype(np.int64), dtype)


def real_value(array: Reals, dtype: np.dtype[Any]) -> Value:
    """An exact tensor of real numbers, with its grid."""
    return Value(array, dtype, None, _grid(array))


def nearest(exact: Fraction, dtype: np.dtype[Any]) -> float:
    """The number of a type nearest to a fraction, half to even; infinity beyond the largest.

    Not by way of float64, which may itself round to the middle between two numbers of the type.
    """
    if not exact:
        return 0.0
    bits = MANTISSA_BITS[dtype.name]
    lowest = math.frexp(MIN_NORMAL.get(dtype.name, 2.0**-126))[1] - 1
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (max(exponent, lowest) - bits + 1)
    rounded = round(exact / step) * step
    if abs(rounded) >= Fraction(2) ** (2 - lowest):
        return math.inf if exact > 0 else -math.inf
    return float(rounded)


def propagated(size: Array, error: Reals) -> Reals:
    """Multiply an error by a factor: nothing if it is none, unbounded if it is unbounded.

    A factor of zero does not bound what is unbounded: a runtime may have infinity there.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        product = size * error
    return np.where(error == 0, 0.0, np.where(np.isnan(product), np.inf, product))


def _grid(array: Reals) -> int | None:
    """Exponent of the lowest bit that is set in any element."""
    if not array.size:
        return 0
    if not np.all(np.isfinite(array)):
        return None
    mantissa, exponent = np.frexp(array[array != 0])
    if not mantissa.size:
        return 0
    integers = (np.abs(mantissa) * (1 << 53)).astype(np.int64)
    lowest = np.log2((integers & -integers).astype(np.float64)).astype(np.int64)
    return int((exponent - 53 + lowest).min())


def _largest(dtype: np.dtype[Any]) -> float:
    """The largest number of a type of real numbers."""
    exponent = 2 - math.frexp(MIN_NORMAL.get(dtype.name, 2.0**-126))[1]
    return math.ldexp(2 - 2.0 ** (1 - MANTISSA_BITS[dtype.name]), exponent)


class Precision:
    """Arithmetic whose rounding errors are bounded.

    Parameters
    ----------
    float64 : bool
        The evaluator's own arithmetic, whatever the types in the file; otherwise that of a
        runtime which computes every operator in its file type.
    """

    def __init__(self, *, float64: bool) -> None:
        self.float64 = float64

    def bits(self, dtype: np.dtype[Any]) -> int:
        """Significant bits of a result."""
        return 53 if self.float64 else MANTISSA_BITS[dtype.name]

    def unit(self, dtype: np.dtype[Any]) -> float:
        """Largest relative error of one rounding."""
        return 2.0 ** -self.bits(dtype)

    def tiny(self, dtype: np.dtype[Any]) -> float:
        """Largest absolute error of one rounding of a number near zero."""
        name = "float64" if self.float64 else dtype.name
        return MIN_NORMAL.get(name, 2.0**-126) * self.unit(dtype)

    def fits(self, magnitude: float, grid: int | None, dtype: np.dtype[Any]) -> bool:
        """Return whether multiples of 2**grid up to a magnitude are exact in any order."""
        if grid is None or not math.isfinite(magnitude):
            return False
        lowest = -1074 if self.float64 else {24: -149, 11: -24}.get(self.bits(dtype), -133)
        if grid < lowest:
            return False
        return magnitude == 0 or math.frexp(magnitude)[1] <= grid + self.bits(dtype)

    def result(
        self,
        array: Array,
        dtype: np.dtype[Any],
        carried: Reals | None,
        grid: int | None,
        *,
        roundings: float = 1.0,
        terms: Reals | None = None,
    ) -> Value:
        """A computed tensor of real numbers.

        Parameters
        ----------
        array : float64 array
            The result as computed in float64.
        dtype : dtype
            Type of the result in the file.
        carried : float64 array or None
            What the errors of the operands become; None if all are exact.
        grid : int or None
            Grid of the exact result if the operands are exact.
        roundings : float
            Roundings that a runtime may make, at most.
        terms : float64 array, optional
            What is rounded, if it is more than the result: the sum of |terms| of a sum.
        """
        size = np.abs(array) if terms is None else terms
        if carried is None:
            magnitude = float(size.max(initial=0.0))
            if self.fits(magnitude, grid, dtype):
                return Value(array, dtype, None, grid)
        error = size * (roundings * self.unit(dtype)) + roundings * self.tiny(dtype)
        if carried is not None:
            # Of an unbounded error times zero; see `propagated`.
            carried = np.where(np.isnan(carried), np.inf, carried)
            error = error + carried * (1 + roundings * self.unit(dtype))
        if not self.float64:
            error = error * (1 + 2.0**-20)
            # A runtime has infinity, and what comes of it, beyond the largest number of the type.
            error = np.where(size + error > _largest(dtype), np.inf, error)
        return Value(array, dtype, np.broadcast_to(error, array.shape), None)
