"""Places of the windows of convolutions and pools."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Windows", "pad_map", "windows_of"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Windows:
    """Windows over a map, one number for each axis of positions.

    Attributes
    ----------
    kernel, stride, dilation : tuple of int
        Size, step and spacing.
    before, after : tuple of int
        Positions added at either side; after may be more than the file says with `ceil_mode`.
    out : tuple of int
        Windows along each axis.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    out: tuple[int, ...]

    def slices(self, place: Sequence[int]) -> tuple[slice, ...]:
        """Positions of a padded map that one place of all windows reads."""
        return tuple(
            slice(i * d, i * d + (count - 1) * s + 1, s)
            for i, d, s, count in zip(place, self.dilation, self.stride, self.out, strict=True)
        )


def windows_of(
    attributes: Mapping[str, Any],
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    ceil_mode: bool = False,
) -> Windows:
    """Windows that a node's attributes describe.

    Parameters
    ----------
    attributes : mapping
        strides, dilations, pads, auto_pad.
    sizes, kernel : sequence of int
        Sizes and kernel of the map and of a window.
    ceil_mode : bool
        Windows that begin inside the map or its first padding but reach over the edge count.
    """
    rank = len(sizes)
    stride = tuple(int(n) for n in attributes.get("strides") or [1] * rank)
    dilation = tuple(int(n) for n in attributes.get("dilations") or [1] * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    auto = attributes.get("auto_pad", "NOTSET")
    pads = [int(n) for n in attributes.get("pads") or [0] * (2 * rank)]
    before, after = pads[:rank], pads[rank:]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((math.ceil(size / s) - 1) * s + span - size, 0)
            for size, s, span in zip(sizes, stride, spans, strict=True)
        ]
        small = [total // 2 for total in totals]
        large = [total - total // 2 for total in totals]
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        before, after = [0] * rank, [0] * rank
    out, ends = [], []
    for size, b, a, span, s in zip(sizes, before, after, spans, stride, strict=True):
        room = size + b + a - span
        count = room // s + 1
        if ceil_mode and room % s:
            count += 1
            # A window that would begin in the padding after the map does not count.
            if (count - 1) * s >= size + b:
                count -= 1
        out.append(max(count, 0))
        ends.append(max(a, (count - 1) * s + span - size - b))
    return Windows(tuple(kernel), stride, dilation, tuple(before), tuple(ends), tuple(out))


def pad_map(array: Array, windows: Windows, value: float) -> Array:
    """A map of shape (batch, channels, positions...) with its padding."""
    widths = [(0, 0), (0, 0), *zip(windows.before, windows.after, strict=True)]
    if not any(any(pair) for pair in widths):
        return array
    return np.pad(array, widths, constant_values=value)
