"""Plain tables as data sets: a row of numbers per example, `X`, and its class, `y`. NumPy only.

Networks take bytes, so real numbers become bytes, feature by feature.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_train.data.npz import write_arrays
from trencadis_train.errors import TrainingError

__all__ = ["INPUTS", "Scaling", "checked_table", "named"]

INPUTS = "inputs.npz"
"""File with the scaling beside a network that was trained on real numbers."""

MIDDLE = 128
"""Byte of the mean."""

DEVIATION = 40
"""Bytes per standard deviation: more than three on both sides."""

PLAIN = (("X", "features"), ("x", "features"), ("y", "labels"))

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Scaling:
    """Map of real numbers to bytes: `128 + 40 (x - mean) / deviation`, rounded and clipped.

    Attributes
    ----------
    mean, deviation : float64 array, shape (features,)
        Of the training part; the deviation of a feature that never changes is 1.
    """

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]

    @classmethod
    def of(cls, table: npt.NDArray[Any]) -> Self:
        """Scaling by a table of training examples, shape (examples, features)."""
        deviation = table.std(axis=0, dtype=np.float64)
        return cls(table.mean(axis=0, dtype=np.float64), np.where(deviation == 0, 1, deviation))

    def images(self, table: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Bytes of a table, shape (examples, 1, features)."""
        values = MIDDLE + DEVIATION * ((table - self.mean) / self.deviation)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)[:, None]

    def save(self, folder: Path) -> None:
        """Write `inputs.npz` with the arrays `mean` and `deviation`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / INPUTS, {"mean": self.mean, "deviation": self.deviation})


def named(arrays: Arrays) -> Arrays:
    """Arrays by the names that data sets have for them: `X` and `y` are features and labels.

    Without `class_names`, classes are the different labels, in order; they may be text.
    """
    found = dict(arrays)
    for plain, name in PLAIN:
        if plain in found and name not in found:
            found[name] = found.pop(plain)
    labels = found.get("labels")
    if "class_names" not in found and labels is not None and labels.dtype.kind in "iubU":
        names, numbers = np.unique(labels, return_inverse=True)
        found["class_names"] = names.astype(str)
        found["labels"] = numbers.reshape(labels.shape)
    return found


def checked_table(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A table of finite numbers.

    Raises
    ------
    TrainingError
        If it holds something else.
    """
    if table.dtype.kind not in "iubf":
        raise TrainingError(f"features must be numbers, not {table.dtype}")
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, column = (int(place) for place in bad[0])
        raise TrainingError(
            f"features must be finite, but that of example {row}, column {column}, is "
            f"{table[row, column]}; leave such examples out"
        )
    return table
