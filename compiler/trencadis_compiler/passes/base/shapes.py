"""Shapes as ONNX's attributes give them: reshapes, paddings, window parameters."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trencadis_compiler.errors import Unsupported
from trencadis_compiler.importer.graph import Node

__all__ = ["flattened", "padding", "reshaped", "squeezed", "unsqueezed", "window"]


def flattened(node: Node, old: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a Flatten gives."""
    axis = int(node.attributes.get("axis", 1))
    axis += len(old) if axis < 0 else 0
    if not 0 <= axis <= len(old):
        raise Unsupported(node, f"axis {axis} is not one of a tensor of shape {list(old)}")
    return math.prod(old[:axis]), math.prod(old[axis:])


def reshaped(node: Node, old: tuple[int, ...], wanted: npt.NDArray[np.integer]) -> tuple[int, ...]:
    """The shape that a Reshape gives."""
    sizes = [int(size) for size in wanted.ravel()]
    if not node.attributes.get("allowzero", 0):
        sizes = [old[i] if size == 0 and i < len(old) else size for i, size in enumerate(sizes)]
    if sizes.count(-1) > 1 or min(sizes, default=-1) < -1:
        raise Unsupported(node, f"its shape {sizes} is not one; export the model again")
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(old) // known if known else 0
    if math.prod(sizes) != math.prod(old):
        raise Unsupported(
            node, f"reshapes {list(old)} to {sizes}, which has another size; export the model again"
        )
    return tuple(sizes)


def squeezed(node: Node, old: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """The shape that a Squeeze gives."""
    if not axes:
        raise Unsupported(
            node, "squeezes every axis of size 1, the batch's too where that is 1; give it axes"
        )
    gone = [_axis(node, axis, len(old)) for axis in axes]
    if any(old[i] != 1 for i in gone):
        raise Unsupported(node, f"squeezes axes {gone} of {list(old)}, which are not all 1")
    return tuple(size for i, size in enumerate(old) if i not in gone)


def unsqueezed(node: Node, old: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """The shape that an Unsqueeze gives."""
    new = list(old)
    for axis in sorted(_axis(node, axis, len(old) + len(axes)) for axis in axes):
        new.insert(axis, 1)
    return tuple(new)


def _axis(node: Node, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Unsupported(node, f"axis {axis} is not one of a tensor with {rank} axes")
    return axis % rank


def window(node: Node, name: str, one_dimensional: bool) -> tuple[int, int]:
    """An attribute that has a positive number for every axis of a window, rows then columns."""
    values = [int(value) for value in node.attributes.get(name, [1] if one_dimensional else [1, 1])]
    if len(values) != (1 if one_dimensional else 2) or min(values) < 1:
        raise Unsupported(node, f"{name} is {values}; it needs a positive number an axis")
    return (1, values[0]) if one_dimensional else (values[0], values[1])


def padding(
    node: Node,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    one_dimensional: bool,
) -> tuple[int, int, int, int]:
    """Padding at the top, left, bottom and right."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for have, want, step, spread in zip(size, kernel, stride, dilation, strict=True):
            reach = (math.ceil(have / step) - 1) * step + (want - 1) * spread + 1
            total = max(0, reach - have)
            first = total // 2 if auto == "SAME_UPPER" else total - total // 2
            before.append(first)
            after.append(total - first)
        return before[0], before[1], after[0], after[1]
    if auto == "VALID":
        return 0, 0, 0, 0
    if auto != "NOTSET":
        raise Unsupported(node, f"auto_pad {auto!r} is not one that ONNX has")
    pads = [int(pad) for pad in node.attributes.get("pads", [0, 0] if one_dimensional else [0] * 4)]
    if len(pads) != (2 if one_dimensional else 4) or min(pads) < 0:
        raise Unsupported(node, f"pads are {pads}; they must not be negative, two per axis")
    return (0, pads[0], 0, pads[1]) if one_dimensional else (pads[0], pads[1], pads[2], pads[3])
