"""Held tensors in parts that the model takes at a time."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy.typing as npt

from trencadis_judge.errors import JudgeError
from trencadis_judge.graph import JudgedModel

__all__ = ["Chunks"]

Array = npt.NDArray[Any]

MAX_ELEMENTS = 1 << 22
"""Elements of the largest held tensor in a part, where the number of samples is open."""


class Chunks:
    """Values of held tensors, split along axis 0 into what the model takes at a time.

    Parameters
    ----------
    model : JudgedModel
        The model; a fixed first size of its first input is the size of a part.
    values : mapping of str to array
        All samples.

    Raises
    ------
    JudgeError
        If the samples are no multiple of the model's own first size.
    """

    def __init__(self, model: JudgedModel, values: Mapping[str, Array]) -> None:
        self._values = values
        self.count = _parts(model, values)

    def part(self, number: int, names: Iterable[str]) -> dict[str, Array]:
        """Values of one part."""
        found = {}
        for name in names:
            array = self._values[name]
            if self.count == 1:
                found[name] = array
                continue
            share = len(array) // self.count
            found[name] = array[number * share : (number + 1) * share]
        return found


def _parts(model: JudgedModel, values: Mapping[str, Array]) -> int:
    if not model.inputs:
        return 1
    info = model.inputs[0]
    first = values[info.name]
    if not info.shape or not first.ndim:
        return 1
    size = info.shape[0]
    if size:
        if len(first) % size:
            raise JudgeError(
                f"input {info.name!r} takes {size} samples at a time; {len(first)} are no multiple"
            )
        count = len(first) // size
    else:
        largest = max(array.size for array in values.values()) // max(1, len(first))
        wanted = max(1, MAX_ELEMENTS // max(1, largest))
        count = (
            next(
                (n for n in range(-(-len(first) // wanted), len(first) + 1) if len(first) % n == 0),
                1,
            )
            if len(first) > wanted
            else 1
        )
    whole = all(array.ndim and len(array) % count == 0 for array in values.values())
    if count > 1 and not whole:
        if size:
            raise JudgeError("values have no samples along axis 0; give those of one run alone")
        return 1
    return count
