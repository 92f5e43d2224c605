"""Fidelity: how much of a float model is left in its quantised copy, tensor by tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.errors import JudgeError

__all__ = ["MAX_ERROR", "MIN_CORRELATION", "Fidelity", "compare_tensors"]

Array = npt.NDArray[Any]
Reals = npt.NDArray[np.float64]

MIN_CORRELATION = 0.95
"""Below this a copy is another function, unless its error is small as well."""

MAX_ERROR = 0.01
"""Root mean square of the error over the range, up to which a copy is the same function."""


@dataclass(frozen=True)
class Fidelity:
    """One tensor of a copy against that of the original.

    Attributes
    ----------
    tensor : str
        Its name.
    correlation : float
        Correlation of both, each element less its mean over the samples: a copy that ignores its
        input has 0, however well it has learnt the mean. With a single sample, less the mean of all
        elements.
    error : float
        Root mean square of the difference, over the range (largest less smallest) of the original.
    """

    tensor: str
    correlation: float
    error: float

    @property
    def faithful(self) -> bool:
        """True if the copy is still the same function."""
        return self.correlation >= MIN_CORRELATION or self.error <= MAX_ERROR


def compare_tensors(
    original: Mapping[str, Array], copy: Mapping[str, Array]
) -> tuple[Fidelity, ...]:
    """Compare tensors of a float model with those of its copy on the same samples.

    Parameters
    ----------
    original, copy : mapping of str to array, shape (samples, ...)
        Original and copy by name; what only one of them has is left out.

    Raises
    ------
    JudgeError
        If two tensors of one name have different shapes or no elements.
    """
    return tuple(
        _compare(name, np.asarray(first, np.float64), np.asarray(copy[name], np.float64))
        for name, first in original.items()
        if name in copy
    )


def _compare(name: str, original: Reals, copy: Reals) -> Fidelity:
    if original.shape != copy.shape or not original.size:
        raise JudgeError(
            f"{name!r} has shape {list(original.shape)}, but in the copy {list(copy.shape)}; "
            "compare the same samples"
        )
    range_ = float(original.max() - original.min())
    difference = float(np.sqrt(np.mean((copy - original) ** 2)))
    if not np.isfinite([range_, difference]).all():
        return Fidelity(name, 0.0, float("inf"))
    scale = range_ or float(np.abs(original).max()) or 1.0
    return Fidelity(name, _correlation(original, copy), difference / scale)


def _correlation(original: Reals, copy: Reals) -> float:
    """Correlation of what varies; 1 if nothing does in either, 0 if in one alone."""
    axis = 0 if original.ndim and len(original) > 1 else None
    first, second = (array - array.mean(axis, keepdims=True) for array in (original, copy))
    # What rounding leaves of a constant is not a signal.
    energies = [
        float(np.sum(moving**2)) if np.abs(moving).max() > 1e-9 * np.abs(whole).max() else 0.0
        for moving, whole in ((first, original), (second, copy))
    ]
    if not all(energies):
        return float(energies[0] == energies[1])
    return float(np.sum(first * second) / np.sqrt(energies[0] * energies[1]))
