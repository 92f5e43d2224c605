"""Sums over a tensor's numbers, from which its row in a trace follows."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PairSums", "ValueSums"]

Array = npt.NDArray[Any]

NOISE = 1e-12
"""Share of the sum of squares that is taken for rounding."""


class ValueSums:
    """Range, zeros and saturation of a tensor, part by part."""

    def __init__(self) -> None:
        self._numbers = 0
        self._strange = 0
        self._nonzeros = 0
        self._ends: int | None = None
        self._low, self._high = np.inf, -np.inf

    def add(self, values: Array, ends: int | None = None) -> None:
        """Add numbers, and how many of them are at an end of what the tensor can hold."""
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        self._numbers += values.size
        self._strange += values.size - finite.size
        self._nonzeros += int(np.count_nonzero(finite))
        if finite.size:
            self._low = min(self._low, float(finite.min()))
            self._high = max(self._high, float(finite.max()))
        if ends is not None:
            self._ends = (self._ends or 0) + ends

    def row(self) -> dict[str, Any]:
        """Figures, None where there is none: of finite numbers, and how many are not finite."""
        count = self._numbers
        seen = self._low <= self._high
        return {
            "low": self._low if seen else None,
            "high": self._high if seen else None,
            "nonzero": self._nonzeros / count if count else None,
            "saturated": None if self._ends is None or not count else self._ends / count,
            "not_finite": self._strange,
        }


class PairSums:
    """Likeness of a tensor and the one that it stands for, part by part.

    Each element's mean over the samples is subtracted: what ignores its input does not correlate,
    however large its biases. Pairs of which one is not finite are left out.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._pairs = 0
        self._left_out = 0
        self._square = 0.0
        self._low, self._high = np.inf, -np.inf
        self._counts: Array | None = None
        self._first: Array | None = None
        self._second: Array | None = None
        self._products = np.zeros(3)

    def add(self, original: Array, ours: Array) -> bool:
        """Add samples of both; False, and nothing is added, if their shapes differ."""
        if original.shape != ours.shape or not original.ndim:
            return False
        a = np.asarray(original, np.float64).reshape(len(original), -1)
        b = np.asarray(ours, np.float64).reshape(len(ours), -1)
        if self._first is not None and self._first.shape != a.shape[1:]:
            return False
        good = np.isfinite(a) & np.isfinite(b)
        a, b = np.where(good, a, 0.0), np.where(good, b, 0.0)
        self._samples += len(a)
        self._pairs += int(np.count_nonzero(good))
        self._left_out += int(np.count_nonzero(~good))
        with np.errstate(over="ignore"):
            self._square += float(np.square(a - b).sum())
            self._products += (np.vdot(a, b), np.vdot(a, a), np.vdot(b, b))
        self._low = min(self._low, float(a.min(where=good, initial=np.inf)))
        self._high = max(self._high, float(a.max(where=good, initial=-np.inf)))
        sums = [good.sum(axis=0), a.sum(axis=0), b.sum(axis=0)]
        if self._counts is None or self._first is None or self._second is None:
            self._counts, self._first, self._second = sums
        else:
            self._counts, self._first, self._second = (
                self._counts + sums[0], self._first + sums[1], self._second + sums[2]
            )  # fmt: skip
        return True

    def row(self) -> dict[str, Any]:
        """Correlation, and the root mean square difference as a share of the original's range.

        None where a quotient is of nothing: one sample, or what does not depend on the samples.
        `not_compared` are pairs that were left out.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            found = {"correlation": self._correlation(), "error": self._error()}
        shown = {name: _finite(value) for name, value in found.items()}
        return {**shown, "not_compared": self._left_out}

    def _error(self) -> float | None:
        if not self._pairs:
            return None
        error, spread = np.sqrt(self._square / self._pairs), self._high - self._low
        if spread > 0:
            return float(error / spread)
        return 0.0 if error == 0 else None

    def _correlation(self) -> float | None:
        if self._samples < 2 or self._counts is None:
            return None
        assert self._first is not None
        assert self._second is not None
        counts = np.maximum(self._counts, 1)
        means = np.array(
            [
                (self._first * self._second / counts).sum(),
                (self._first * self._first / counts).sum(),
                (self._second * self._second / counts).sum(),
            ]
        )
        both, one, other = self._products - means
        noise = NOISE * self._products[1:].max()
        if not one > noise:
            return None
        return float(both / np.sqrt(one) / np.sqrt(other)) if other > noise else 0.0


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
