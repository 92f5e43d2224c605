"""Resize and Upsample: nearest, linear and cubic interpolation along axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, integers_of, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.values import Value

__all__ = ["OPERATORS"]

Reals = npt.NDArray[np.float64]


def _positions(node: Node, size: int, out: int, scale: float) -> Reals:
    """Origins of the elements of an axis, as real positions."""
    x = np.arange(out, dtype=np.float64)
    default = "half_pixel" if node.version >= 11 else "asymmetric"
    mode = node.attributes.get("coordinate_transformation_mode", default)
    match mode:
        case "half_pixel":
            return (x + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (x + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
        case "align_corners":
            return x * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
        case "asymmetric":
            return x / scale
        case "half_pixel_symmetric":
            adjustment = out / (scale * size)
            return size / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5
    raise refuse(node, f"coordinate_transformation_mode {mode!r}")


def _nearest(node: Node, positions: Reals) -> npt.NDArray[np.int64]:
    mode = node.attributes.get(
        "nearest_mode", "round_prefer_floor" if node.version >= 11 else "floor"
    )
    match mode:
        case "round_prefer_floor":
            chosen = np.ceil(positions - 0.5)
        case "round_prefer_ceil":
            chosen = np.floor(positions + 0.5)
        case "floor":
            chosen = np.floor(positions)
        case "ceil":
            chosen = np.ceil(positions)
        case _:
            raise refuse(node, f"nearest_mode {mode!r}")
    return chosen.astype(np.int64)


def _weights(node: Node, size: int, out: int, scale: float) -> Reals:
    """Matrix of an axis: what each element of the output takes of each of the input."""
    positions = _positions(node, size, out, scale)
    matrix = np.zeros((out, size))
    rows = np.arange(out)
    mode = node.attributes.get("mode", "nearest")
    if node.attributes.get("antialias", 0) and scale < 1:
        raise refuse(node, "antialias")
    if mode == "nearest":
        matrix[rows, np.clip(_nearest(node, positions), 0, size - 1)] = 1
    elif mode == "linear":
        positions = np.clip(positions, 0, size - 1)
        low = np.floor(positions).astype(np.int64)
        part = positions - low
        np.add.at(matrix, (rows, low), 1 - part)
        np.add.at(matrix, (rows, np.minimum(low + 1, size - 1)), part)
    elif mode == "cubic":
        a = float(node.attributes.get("cubic_coeff_a", -0.75))
        low = np.floor(positions).astype(np.int64)
        t = positions - low
        taps = {
            -1: ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
            0: ((a + 2) * t - (a + 3)) * t * t + 1,
            1: ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1,
            2: ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a,
        }
        if node.attributes.get("exclude_outside", 0):
            raise refuse(node, "exclude_outside")
        for offset, weight in taps.items():
            np.add.at(matrix, (rows, np.clip(low + offset, 0, size - 1)), weight)
    else:
        raise refuse(node, f"mode {mode!r}")
    return matrix


def _target(node: Node, inputs: Inputs, shape: Sequence[int]) -> tuple[list[int], list[float]]:
    """Sizes of the output, and the scale of every axis."""
    rank = len(shape)
    axes = [int(a) % rank for a in node.attributes.get("axes") or range(rank)]
    position = 1 if node.op_type == "Upsample" or node.version < 11 else 2
    given = inputs[position] if position < len(inputs) else None
    scales = [1.0] * rank
    if given is not None and given.array.size:
        numbers: list[Any] = np.ravel(given.array).tolist()
    elif node.op_type == "Upsample" and "scales" in node.attributes:
        numbers = list(node.attributes["scales"])
    else:
        sizes = integers_of(node, required(node, inputs, 3))
        if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise refuse(node, "keep_aspect_ratio_policy")
        out = list(shape)
        for axis, size in zip(axes, sizes, strict=True):
            out[axis], scales[axis] = size, size / shape[axis]
        return out, scales
    for axis, scale in zip(axes, numbers, strict=True):
        scales[axis] = float(scale)
    return [int(np.floor(size * scale)) for size, scale in zip(shape, scales, strict=True)], scales


def _resize(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    out, scales = _target(node, inputs, value.shape)
    array, error = value.array, value.error
    nearest = node.attributes.get("mode", "nearest") == "nearest"
    terms, count = np.abs(array).astype(np.float64), 1
    for axis, (size, target, scale) in enumerate(zip(value.shape, out, scales, strict=True)):
        if size == target and scale == 1:
            continue
        matrix = _weights(node, size, target, scale)
        if nearest:
            source = matrix.argmax(1)
            array = np.take(array, source, axis)
            error = None if error is None else np.take(error, source, axis)
            continue
        array = np.moveaxis(np.tensordot(matrix, array, (1, axis)), 0, axis)
        terms = np.moveaxis(np.tensordot(np.abs(matrix), terms, (1, axis)), 0, axis)
        if error is not None:
            error = np.moveaxis(np.tensordot(np.abs(matrix), error, (1, axis)), 0, axis)
        count += 4
    if nearest:
        return Value(array, value.dtype, error, value.grid)
    # Weights follow from positions that a runtime rounds: as many units as the map is long.
    roundings = float(count * 4 + 8 * max(*value.shape, *out))
    return context.precision.result(
        array, value.dtype, error, None, roundings=roundings, terms=terms
    )


OPERATORS: dict[str, Operator] = {"Resize": _resize, "Upsample": _resize}
