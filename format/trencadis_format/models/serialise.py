"""NumPy model of `serialise`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["vector_groups"]


def vector_groups(
    beats: Sequence[npt.NDArray[np.int64]], layer: Mapping[str, int], requantisers: int
) -> list[dict[str, Any]]:
    """Groups of a vector, as fields of `serialise.group_layout` but for the layer.

    Parameters
    ----------
    beats : sequence of int64 arrays, shape (samples, columns)
        Pooled sums of the vector's beats.
    layer : fields of `SERIALISE`
        Its layer.
    requantisers : int
        Sums of a group.
    """
    groups = [
        beat[:, i * requantisers : (i + 1) * requantisers].tolist()
        for beat in beats
        for i in range(layer["groups"] + 1)
    ]
    return [
        {
            "sums": sums,
            "row": layer["row_base"] + number,
            "vector_end": int(number == len(groups) - 1),
        }
        for number, sums in enumerate(groups)
    ]
