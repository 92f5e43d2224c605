"""Likeness of a float model and its quantised copy: at each output, and layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.importer.quantising.tensor_runs import TensorRuns
from trencadis_compiler.importer.samples import Samples

__all__ = ["MAX_ERROR", "MIN_CORRELATION", "Likeness", "compare", "means_of"]

Array = npt.NDArray[Any]

MIN_CORRELATION = 0.95
MAX_ERROR = 0.01


@dataclass(frozen=True)
class Likeness:
    """A tensor of the copy beside the same of the float model.

    Attributes
    ----------
    tensor : str
        Its name in the float model.
    correlation : float
        Correlation of all numbers, less each element's mean over the samples: a copy that ignores
        its input has none, however large its biases. Not a number where nothing can be said: one
        sample, or an output that does not depend on the samples.
    error : float
        Root of the mean square of the differences, as a share of the float model's range.
    """

    tensor: str
    correlation: float
    error: float

    @property
    def spoilt(self) -> bool:
        """True if the copy is another function."""
        return self.error > MAX_ERROR and not self.correlation >= MIN_CORRELATION


def compare(
    float_runs: TensorRuns,
    copy_runs: TensorRuns,
    names: Mapping[str, str],
    samples: Samples,
    means: Mapping[str, tuple[Array, Array]] | None = None,
) -> tuple[Likeness, ...]:
    """Compare tensors of both models.

    Parameters
    ----------
    float_runs, copy_runs : TensorRuns
        The models.
    names : mapping of str to str
        Tensors of the float model, and those of the copy that stand for them.
    samples : Samples
        Inputs.
    means : mapping of str to pair of arrays, optional
        Means to subtract, of the float model and of the copy; those of the samples if left out.
    """
    sums = {name: _Sums() for name in names}
    for feed in samples:
        original, copy = float_runs.one(feed), copy_runs.one(feed)
        for name, other in names.items():
            sums[name].add(original[name], copy[other])
    found = means or {}
    return tuple(sums[name].likeness(name, found.get(name)) for name in names)


class _Sums:
    """Sums over samples from which all follows; elements are kept apart only for their means."""

    def __init__(self) -> None:
        self._unlike = False
        self._count = 0
        self._numbers = 0
        self._square = 0.0
        self._low, self._high = np.inf, -np.inf
        self._first: Array | None = None
        self._second: Array | None = None
        self._products = np.zeros(3)

    def add(self, original: Array, copy: Array) -> None:
        """Add one sample's tensor."""
        a = np.asarray(original, np.float64).reshape(-1)
        b = np.asarray(copy, np.float64).reshape(-1)
        if not a.size or a.shape != b.shape:
            return
        # The same infinity, or no number in both, is no difference; in one of them it is one.
        alike = ~np.isfinite(a) & ((a == b) | (np.isnan(a) & np.isnan(b)))
        a, b = (np.where(alike, 0.0, array) for array in (a, b))
        if not np.isfinite([a, b]).all():
            self._unlike = True
            return
        self._count += 1
        self._numbers += a.size
        self._square += float(np.square(a - b).sum())
        self._low, self._high = min(self._low, a.min()), max(self._high, a.max())
        self._products += (a @ b, a @ a, b @ b)
        same = self._first is not None and self._first.shape == a.shape
        if self._first is None or self._second is None:
            self._first, self._second = a.copy(), b.copy()
        elif same:
            self._first += a
            self._second += b

    def likeness(self, name: str, means: tuple[Array, Array] | None) -> Likeness:
        """The result; NaN where a quotient is of nothing."""
        if self._unlike:
            return Likeness(name, float("nan"), float("inf"))
        if not self._count or self._first is None or self._second is None:
            return Likeness(name, float("nan"), 0.0)
        spread = self._high - self._low
        error = np.sqrt(self._square / self._numbers)
        share = error / spread if spread > 0 else (0.0 if error == 0 else float("inf"))
        first, second = self._first, self._second
        n = self._count
        if means is None:
            products = (
                self._products - np.array([first @ second, first @ first, second @ second]) / n
            )
        else:
            a, b = (np.asarray(mean, np.float64).reshape(-1) for mean in means)
            products = self._products - np.array(
                [
                    a @ second + first @ b - n * (a @ b),
                    2 * (a @ first) - n * (a @ a),
                    2 * (b @ second) - n * (b @ b),
                ]
            )
        noise = 1e-12 * self._products[1:].max()
        both = products[1] * products[2]
        correlation = float("nan")
        if products[1] > noise and n > (0 if means else 1):
            correlation = products[0] / np.sqrt(both) if products[2] > noise else 0.0
        return Likeness(name, float(correlation), float(share))


def means_of(runs: TensorRuns, names: Sequence[str], samples: Samples) -> dict[str, Array]:
    """Each element's mean over samples."""
    sums: dict[str, Array] = {}
    for tensors in runs(samples):
        for name in names:
            array = np.asarray(tensors[name], np.float64)
            sums[name] = sums[name] + array if name in sums else array
    return {name: total / samples.count for name, total in sums.items()}
