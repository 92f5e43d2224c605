"""Pools over positions."""

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.operators.arithmetic import divide
from trencadis_judge.values import Value, limits
from trencadis_judge.windows import Windows, pad_map, windows_of

__all__ = ["OPERATORS"]

Reals = npt.NDArray[np.float64]


def _windows(node: Node, value: Value) -> Windows:
    sizes = value.shape[2:]
    if node.op_type.startswith("Global"):
        return Windows(
            sizes,
            (1,) * len(sizes),
            (1,) * len(sizes),
            (0,) * len(sizes),
            (0,) * len(sizes),
            (1,) * len(sizes),
        )
    kernel = [int(n) for n in node.attributes["kernel_shape"]]
    ceil_mode = bool(node.attributes.get("ceil_mode", 0))
    return windows_of(node.attributes, sizes, kernel, ceil_mode=ceil_mode)


def _max_pool(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    if len(node.outputs) > 1 and node.outputs[1]:
        raise refuse(node, "positions of maxima")
    windows = _windows(node, value)
    real = value.array.dtype == np.float64
    lowest = -np.inf if real else limits(value.dtype)[0]
    padded = pad_map(value.array, windows, lowest)
    result, error = None, None
    errors = None if value.error is None else pad_map(value.error, windows, 0)
    for place in np.ndindex(*windows.kernel):
        part = (slice(None), slice(None), *windows.slices(place))
        result = padded[part] if result is None else np.maximum(result, padded[part])
        if errors is not None:
            error = errors[part] if error is None else np.maximum(error, errors[part])
    assert result is not None
    return Value(np.array(result), value.dtype, error, value.grid)


def _sums(array: Reals, windows: Windows) -> Reals:
    padded = pad_map(array, windows, 0)
    total = np.zeros((*array.shape[:2], *windows.out))
    for place in np.ndindex(*windows.kernel):
        total += padded[(slice(None), slice(None), *windows.slices(place))]
    return total


def _counts(windows: Windows, sizes: tuple[int, ...], padding: list[int] | None) -> Reals:
    """Values that a window averages; padding of the file counts if it is given."""
    ones = np.ones((1, 1, *sizes))
    if padding is None:
        return _sums(ones, windows)
    rank = len(sizes)
    widths = [(0, 0), (0, 0), *zip(padding[:rank], padding[rank:], strict=True)]
    ones = np.pad(ones, widths, constant_values=1)
    beyond = [a - p for a, p in zip(windows.after, padding[rank:], strict=True)]
    inner = Windows(
        windows.kernel,
        windows.stride,
        windows.dilation,
        (0,) * rank,
        tuple(max(0, b) for b in beyond),
        windows.out,
    )
    return _sums(ones, inner)


def _average_pool(context: Context, node: Node, inputs: Inputs) -> Value:
    value = required(node, inputs, 0)
    windows = _windows(node, value)
    terms = int(np.prod(windows.kernel, dtype=np.int64))
    error = None if value.error is None else _sums(value.error, windows)
    sums = context.precision.result(
        _sums(value.array, windows),
        value.dtype,
        error,
        value.grid,
        roundings=float(terms),
        terms=_sums(np.abs(value.array), windows),
    )
    padding = None
    if node.attributes.get("count_include_pad", 0):
        padding = [*windows.before, *_stated_after(node, windows)]
    counts = _counts(windows, value.shape[2:], padding)
    return divide(context, sums, Value(counts, value.dtype, None, 0))


def _stated_after(node: Node, windows: Windows) -> list[int]:
    """Padding after the map as the file has it, without what ceil_mode adds."""
    pads = node.attributes.get("pads")
    if pads and node.attributes.get("auto_pad", "NOTSET") == "NOTSET":
        return [int(n) for n in pads[len(windows.kernel) :]]
    if not node.attributes.get("ceil_mode", 0):
        return list(windows.after)
    return [0] * len(windows.kernel)


OPERATORS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _average_pool,
    "GlobalMaxPool": _max_pool,
    "MaxPool": _max_pool,
}
