"""Sums of products: Conv, ConvTranspose, MatMul, Gemm and their integer forms."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.operators.arithmetic import add, integer_value, multiply
from trencadis_judge.values import Value
from trencadis_judge.windows import Windows, pad_map, windows_of

__all__ = ["OPERATORS", "convolve", "sum_products"]

Reals = npt.NDArray[np.float64]
Product = Callable[[Any, Any], Any]


def sum_products(
    context: Context, first: Value, second: Value, product: Product, terms: int
) -> Value:
    """Evaluate an operator that sums products of two tensors.

    Parameters
    ----------
    context : Context
        Arithmetic.
    first, second : Value
        Tensors of real numbers.
    product : callable
        The operator on arrays.
    terms : int
        Products in a sum.
    """
    array = product(first.array, second.array)
    precision = context.precision
    grid = None
    if first.grid is not None and second.grid is not None:
        grid = first.grid + second.grid
        largest = np.abs(first.array).max(initial=0) * np.abs(second.array).max(initial=0)
        if precision.fits(float(largest) * terms, grid, first.dtype):
            return Value(array, first.dtype, None, grid)
    sizes = np.abs(first.array), np.abs(second.array)
    magnitudes = product(*sizes)
    error = None
    if first.error is not None or second.error is not None:
        error = np.zeros(array.shape)
        if second.error is not None:
            error = error + product(sizes[0] + first.errors, second.error)
        if first.error is not None:
            error = error + product(first.error, sizes[1])
    return precision.result(
        array, first.dtype, error, grid, roundings=float(terms), terms=magnitudes
    )


def _with_bias(
    context: Context, sums: Value, bias: Value, magnitudes: Callable[[], Reals], terms: int
) -> Value:
    """Add a bias to sums of products; `magnitudes`: the sums of the products' absolute values."""
    total = add(context, sums, bias)
    precision = context.precision
    if precision.float64:
        return total
    # A runtime may begin with the bias: then every product that it adds is rounded.
    sizes = magnitudes() + np.abs(bias.array)
    largest = float(sizes.max(initial=0.0))
    if total.error is None and precision.fits(largest, total.grid, total.dtype):
        return total
    more = terms * precision.unit(total.dtype) * sizes
    return Value(total.array, total.dtype, total.errors + more)


def convolve(maps: Any, kernels: Any, windows: Windows, groups: int) -> Any:
    """Convolution of arrays, place by place of the window.

    Parameters
    ----------
    maps : array, shape (batch, channels, positions...)
        Without padding.
    kernels : array, shape (kernels, channels / groups, window...)
        Kernels.
    """
    padded = pad_map(maps, windows, 0)
    batch, count = len(maps), len(kernels)
    channels = kernels.shape[1]
    positions = int(np.prod(windows.out, dtype=np.int64))
    shape = (batch, groups, count // groups, positions)
    sums = np.zeros(shape, np.result_type(maps, kernels))
    grouped = kernels.reshape(groups, count // groups, channels, *windows.kernel)
    for place in np.ndindex(*windows.kernel):
        weights = grouped[(..., *place)]
        part = padded[(slice(None), slice(None), *windows.slices(place))]
        sums += weights[None] @ part.reshape(batch, groups, channels, positions)
    return sums.reshape(batch, count, *windows.out)


def _checked(node: Node, maps: Value, kernels: Value) -> tuple[Windows, int]:
    groups = int(node.attributes.get("group", 1))
    rank = maps.array.ndim - 2
    if rank < 1 or kernels.array.ndim != rank + 2 or groups < 1:
        raise refuse(node, f"kernels {kernels.shape} on a map {maps.shape}")
    if maps.shape[1] != kernels.shape[1] * groups or kernels.shape[0] % groups:
        raise refuse(node, f"kernels {kernels.shape} in {groups} groups on a map {maps.shape}")
    given = node.attributes.get("kernel_shape")
    if given and tuple(given) != kernels.shape[2:]:
        raise refuse(node, f"kernel_shape {given} for kernels {kernels.shape}")
    return windows_of(node.attributes, maps.shape[2:], kernels.shape[2:]), groups


def _channels(value: Value, rank: int) -> Value:
    """A number for each channel, ready to be added to a map."""
    array = value.array.reshape(1, -1, *(1,) * rank)
    error = None if value.error is None else value.error.reshape(array.shape)
    return Value(array, value.dtype, error, value.grid)


def _conv(context: Context, node: Node, inputs: Inputs) -> Value:
    maps, kernels = required(node, inputs, 0), required(node, inputs, 1)
    windows, groups = _checked(node, maps, kernels)
    terms = int(np.prod(kernels.shape[1:], dtype=np.int64))

    def product(a: Any, b: Any) -> Any:
        return convolve(a, b, windows, groups)

    sums = sum_products(context, maps, kernels, product, terms)
    if len(inputs) < 3 or inputs[2] is None:
        return sums
    bias = _channels(inputs[2], len(windows.out))
    return _with_bias(
        context, sums, bias, lambda: product(np.abs(maps.array), np.abs(kernels.array)), terms
    )


def _transposed(
    maps: Any,
    kernels: Any,
    attributes: Mapping[str, Any],
    out: Sequence[int],
    before: Sequence[int],
) -> Any:
    """Transposed convolution of arrays: every input position adds a window."""
    groups = int(attributes.get("group", 1))
    rank = len(out)
    stride = attributes.get("strides") or [1] * rank
    dilation = attributes.get("dilations") or [1] * rank
    batch, channels = maps.shape[:2]
    per_group = kernels.shape[1]
    full = [
        (size - 1) * s + (k - 1) * d + 1
        for size, s, k, d in zip(maps.shape[2:], stride, kernels.shape[2:], dilation, strict=True)
    ]
    room = [max(f, o + b) for f, o, b in zip(full, out, before, strict=True)]
    sums = np.zeros((batch, groups, per_group, *room), np.result_type(maps, kernels))
    flat = maps.reshape(batch, groups, channels // groups, -1)
    grouped = kernels.reshape(groups, channels // groups, per_group, *kernels.shape[2:])
    for place in np.ndindex(*kernels.shape[2:]):
        weights = grouped[(..., *place)].transpose(0, 2, 1)
        part = (weights[None] @ flat).reshape(batch, groups, per_group, *maps.shape[2:])
        slices = tuple(
            slice(i * d, i * d + (size - 1) * s + 1, s)
            for i, d, s, size in zip(place, dilation, stride, maps.shape[2:], strict=True)
        )
        sums[(slice(None), slice(None), slice(None), *slices)] += part
    inside = tuple(slice(b, b + o) for b, o in zip(before, out, strict=True))
    return sums[(slice(None), slice(None), slice(None), *inside)].reshape(
        batch, groups * per_group, *out
    )


def _conv_transpose(context: Context, node: Node, inputs: Inputs) -> Value:
    maps, kernels = required(node, inputs, 0), required(node, inputs, 1)
    rank = maps.array.ndim - 2
    attributes = node.attributes
    stride = attributes.get("strides") or [1] * rank
    dilation = attributes.get("dilations") or [1] * rank
    extra = attributes.get("output_padding") or [0] * rank
    pads = attributes.get("pads") or [0] * (2 * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernels.shape[2:], dilation, strict=True)]
    full = [
        (size - 1) * s + span + e
        for size, s, span, e in zip(maps.shape[2:], stride, spans, extra, strict=True)
    ]
    auto = attributes.get("auto_pad", "NOTSET")
    wanted = attributes.get("output_shape")
    if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
        out = list(wanted or [size * s for size, s in zip(maps.shape[2:], stride, strict=True)])
        out = out[-rank:]
        totals = [max(f - o, 0) for f, o in zip(full, out, strict=True)]
        if auto == "SAME_UPPER":
            before = [total // 2 for total in totals]
        else:
            before = [total - total // 2 for total in totals]
    else:
        before = pads[:rank]
        out = [f - b - a for f, b, a in zip(full, before, pads[rank:], strict=True)]
    terms = int(np.prod(kernels.shape[2:], dtype=np.int64)) * kernels.shape[0]

    def product(a: Any, b: Any) -> Any:
        return _transposed(a, b, attributes, out, before)

    sums = sum_products(context, maps, kernels, product, terms)
    if len(inputs) < 3 or inputs[2] is None:
        return sums
    return _with_bias(
        context,
        sums,
        _channels(inputs[2], rank),
        lambda: product(np.abs(maps.array), np.abs(kernels.array)),
        terms,
    )


def _matmul(context: Context, node: Node, inputs: Inputs) -> Value:
    first, second = required(node, inputs, 0), required(node, inputs, 1)
    return sum_products(context, first, second, np.matmul, first.shape[-1])


def _gemm(context: Context, node: Node, inputs: Inputs) -> Value:
    first, second = required(node, inputs, 0), required(node, inputs, 1)
    first, second = (
        Value(v.array.T, v.dtype, None if v.error is None else v.error.T, v.grid)
        if node.attributes.get(name, 0)
        else v
        for v, name in ((first, "transA"), (second, "transB"))
    )
    sums = sum_products(context, first, second, np.matmul, first.shape[-1])
    bias = inputs[2] if len(inputs) > 2 else None
    for name in ("alpha", "beta"):
        factor = float(np.float32(node.attributes.get(name, 1.0)))
        target = sums if name == "alpha" else bias
        if factor == 1.0 or target is None:
            continue
        grid = int(np.frexp(factor)[1]) - 24
        scaled = multiply(context, target, Value(np.array(factor), target.dtype, None, grid))
        sums, bias = (scaled, bias) if name == "alpha" else (sums, scaled)
    if bias is None:
        return sums
    alpha = abs(float(node.attributes.get("alpha", 1.0)))
    return _with_bias(
        context,
        sums,
        bias,
        lambda: alpha * np.matmul(np.abs(first.array), np.abs(second.array)),
        first.shape[-1],
    )


def _einsum(context: Context, node: Node, inputs: Inputs) -> Value:
    equation = str(node.attributes["equation"])
    if len(inputs) != 2:
        raise refuse(node, f"Einsum of {len(inputs)} tensors")
    first, second = required(node, inputs, 0), required(node, inputs, 1)
    array = np.einsum(equation, first.array, second.array)
    terms = max(1, int(first.array.size * second.array.size // max(array.size, 1)))
    return sum_products(context, first, second, lambda a, b: np.einsum(equation, a, b), terms)


def _centred(node: Node, inputs: Inputs, position: int, zero: int, axis: int) -> Value:
    """Integers less their zero point, which is one number or one for each index of an axis."""
    value = required(node, inputs, position)
    offset = inputs[zero] if zero < len(inputs) else None
    array = value.array
    if offset is not None:
        numbers = offset.array
        if numbers.size > 1 and numbers.ndim == 1:
            shape = [1] * array.ndim
            shape[axis] = -1
            numbers = numbers.reshape(shape)
        array = array - numbers
    error = value.error
    if offset is not None and offset.error is not None:
        error = value.errors + offset.errors.max(initial=0)
    return Value(array, np.dtype(np.int32), error)


def _exact_integers(first: Value, second: Value, product: Callable[[Any, Any], Any]) -> Value:
    """Sums of products of small integers: exact in float64, which multiplies faster."""
    numbers = [value.array.astype(np.float64) for value in (first, second)]
    sums = integer_value(np.rint(product(*numbers)).astype(np.int64), np.dtype(np.int32))
    if first.error is None and second.error is None:
        return sums
    sizes = [np.abs(array) for array in numbers]
    error = product(first.errors, sizes[1] + second.errors) + product(sizes[0], second.errors)
    return Value(sums.array, sums.dtype, error)


def _matmul_integer(context: Context, node: Node, inputs: Inputs) -> Value:
    first, second = _centred(node, inputs, 0, 2, -2), _centred(node, inputs, 1, 3, -1)
    return _exact_integers(first, second, np.matmul)


def _conv_integer(context: Context, node: Node, inputs: Inputs) -> Value:
    maps, kernels = _centred(node, inputs, 0, 2, 1), _centred(node, inputs, 1, 3, 0)
    windows, groups = _checked(node, maps, kernels)
    return _exact_integers(maps, kernels, lambda a, b: convolve(a, b, windows, groups))


OPERATORS: dict[str, Operator] = {
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
}
