"""Single elements in rational arithmetic, for what float64 cannot decide.

Each rule computes one element of a node's output from elements of its inputs. Functions that have
no rational value are given to 50 digits: where such a number is not itself rational it is no tie,
and 50 digits tell on which side of one it lies.
"""

from collections.abc import Callable
from decimal import Context as DecimalContext
from decimal import Decimal
from fractions import Fraction
from itertools import product
from math import isqrt
from typing import Protocol

import numpy as np

from trencadis_judge.errors import UnsupportedOperatorError
from trencadis_judge.node import Node
from trencadis_judge.values import Value
from trencadis_judge.windows import windows_of

__all__ = ["exact_element"]

Index = tuple[int, ...]


class Elements(Protocol):
    """Tensors of an evaluation under way, and single elements of them."""

    def value(self, name: str) -> Value:
        """A tensor that is known."""
        ...

    def exact(self, name: str, index: Index) -> Fraction:
        """The exact number of an element."""
        ...


Rule = Callable[[Elements, Node, Index], Fraction]

DECIMALS = DecimalContext(prec=60)

ROOT_BITS = 200
"""Bits after the point of a square root that is not rational."""


def exact_element(evaluation: Elements, node: Node, index: Index) -> Fraction:
    """The exact number of an element of a node's first output.

    Raises
    ------
    UnsupportedOperatorError
        If the operator has no rule.
    """
    rule = _RULES.get(node.op_type)
    if rule is None:
        raise UnsupportedOperatorError(f"{node}: elements have no exact rule")
    return rule(evaluation, node, index)


def _at(evaluation: Elements, node: Node, position: int, index: Index) -> Fraction:
    """An element of an input that is broadcast against the output."""
    name = node.inputs[position]
    shape = evaluation.value(name).shape
    tail = index[len(index) - len(shape) :]
    own = tuple(0 if size == 1 else i for size, i in zip(shape, tail, strict=True))
    return evaluation.exact(name, own)


def _has(node: Node, position: int) -> bool:
    return position < len(node.inputs) and bool(node.inputs[position])


def _elementwise(function: Callable[..., Fraction]) -> Rule:
    def rule(evaluation: Elements, node: Node, index: Index) -> Fraction:
        return function(*(_at(evaluation, node, i, index) for i in range(len(node.inputs))))

    return rule


def _divide(a: Fraction, b: Fraction) -> Fraction:
    if not b:
        raise UnsupportedOperatorError("a division by zero has no exact value")
    return a / b


def _total(*numbers: Fraction) -> Fraction:
    return sum(numbers, Fraction(0))


def _along(evaluation: Elements, node: Node, position: int, index: Index) -> Fraction:
    """A scale or zero point of an element: of all, or of an index of an axis."""
    name = node.inputs[position]
    value = evaluation.value(name)
    if value.array.size == 1:
        return evaluation.exact(name, (0,) * value.array.ndim)
    if value.array.ndim != 1 or node.attributes.get("block_size", 0):
        raise UnsupportedOperatorError(f"{node}: scales of blocks have no exact rule")
    return evaluation.exact(name, (index[int(node.attributes.get("axis", 1))],))


def _dequantise(evaluation: Elements, node: Node, index: Index) -> Fraction:
    number = evaluation.exact(node.inputs[0], index)
    zero = _along(evaluation, node, 2, index) if _has(node, 2) else Fraction(0)
    return (number - zero) * _along(evaluation, node, 1, index)


def _relu(evaluation: Elements, node: Node, index: Index) -> Fraction:
    return max(evaluation.exact(node.inputs[0], index), Fraction(0))


def _leaky(evaluation: Elements, node: Node, index: Index) -> Fraction:
    number = evaluation.exact(node.inputs[0], index)
    alpha = Fraction(float(np.float32(node.attributes.get("alpha", 0.01))))
    return number * alpha if number < 0 else number


def _clip(evaluation: Elements, node: Node, index: Index) -> Fraction:
    number = evaluation.exact(node.inputs[0], index)
    for position, name, choose in ((1, "min", max), (2, "max", min)):
        if _has(node, position):
            bound = float(evaluation.value(node.inputs[position]).array.reshape(()))
        elif name in node.attributes:
            bound = float(np.float32(node.attributes[name]))
        else:
            continue
        if np.isfinite(bound):
            number = choose(number, Fraction(bound))
    return number


def _root(number: Fraction) -> Fraction:
    """A square root: exact if it is rational, else to 200 bits."""
    top, bottom = isqrt(number.numerator), isqrt(number.denominator)
    if (top * top, bottom * bottom) == (number.numerator, number.denominator):
        return Fraction(top, bottom)
    return Fraction(
        isqrt((number.numerator << (2 * ROOT_BITS)) // number.denominator), 1 << ROOT_BITS
    )


def _batch_normalization(evaluation: Elements, node: Node, index: Index) -> Fraction:
    number = evaluation.exact(node.inputs[0], index)
    gain, offset, mean, variance = (
        evaluation.exact(node.inputs[i], (index[1],)) for i in range(1, 5)
    )
    epsilon = Fraction(float(np.float32(node.attributes.get("epsilon", 1e-5))))
    return (number - mean) / _root(variance + epsilon) * gain + offset


def _conv(evaluation: Elements, node: Node, index: Index) -> Fraction:
    maps, kernels = (evaluation.value(name) for name in node.inputs[:2])
    windows = windows_of(node.attributes, maps.shape[2:], kernels.shape[2:])
    groups = int(node.attributes.get("group", 1))
    batch, kernel, *position = index
    channels = kernels.shape[1]
    first = kernel // (kernels.shape[0] // groups) * channels
    total = Fraction(0)
    for place in product(*(range(size) for size in windows.kernel)):
        spot = tuple(
            p * s + i * d - b
            for p, s, i, d, b in zip(
                position, windows.stride, place, windows.dilation, windows.before, strict=True
            )
        )
        if not all(0 <= p < size for p, size in zip(spot, maps.shape[2:], strict=True)):
            continue
        for channel in range(channels):
            weight = evaluation.exact(node.inputs[1], (kernel, channel, *place))
            if weight:
                total += weight * evaluation.exact(node.inputs[0], (batch, first + channel, *spot))
    return total + (evaluation.exact(node.inputs[2], (kernel,)) if _has(node, 2) else 0)


def _matmul(evaluation: Elements, node: Node, index: Index) -> Fraction:
    first, second = (evaluation.value(name).shape for name in node.inputs)
    if len(first) < 2 or len(second) < 2:
        raise UnsupportedOperatorError(f"{node}: vectors have no exact rule")
    *batch, row, column = index
    total = Fraction(0)
    for i in range(first[-1]):
        a = _at(evaluation, node, 0, (*batch, row, i))
        if a:
            total += a * _at(evaluation, node, 1, (*batch, i, column))
    return total


def _gemm(evaluation: Elements, node: Node, index: Index) -> Fraction:
    row, column = index
    turned = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]
    shape = evaluation.value(node.inputs[0]).shape
    total = Fraction(0)
    for i in range(shape[0] if turned[0] else shape[1]):
        a = evaluation.exact(node.inputs[0], (i, row) if turned[0] else (row, i))
        if a:
            b = evaluation.exact(node.inputs[1], (column, i) if turned[1] else (i, column))
            total += a * b
    alpha, beta = (
        Fraction(float(np.float32(node.attributes.get(name, 1.0)))) for name in ("alpha", "beta")
    )
    total *= alpha
    return total + beta * _at(evaluation, node, 2, index) if _has(node, 2) else total


def _pool(evaluation: Elements, node: Node, index: Index) -> Fraction:
    """MaxPool, AveragePool and their global forms, without ceil_mode."""
    shape = evaluation.value(node.inputs[0]).shape[2:]
    if node.op_type.startswith("Global"):
        windows = windows_of({}, shape, shape)
    else:
        if node.attributes.get("ceil_mode", 0):
            raise UnsupportedOperatorError(f"{node}: ceil_mode has no exact rule")
        windows = windows_of(node.attributes, shape, node.attributes["kernel_shape"])
    found, padded = [], 0
    for place in product(*(range(size) for size in windows.kernel)):
        spot = tuple(
            p * s + i * d - b
            for p, s, i, d, b in zip(
                index[2:], windows.stride, place, windows.dilation, windows.before, strict=True
            )
        )
        if all(0 <= p < size for p, size in zip(spot, shape, strict=True)):
            found.append(evaluation.exact(node.inputs[0], (*index[:2], *spot)))
        else:
            padded += 1
    if node.op_type.endswith("MaxPool"):
        return max(found)
    counted = padded if node.attributes.get("count_include_pad", 0) else 0
    return _total(*found) / (len(found) + counted)


def _reduce(evaluation: Elements, node: Node, index: Index) -> Fraction:
    shape = evaluation.value(node.inputs[0]).shape
    axes = node.attributes.get("axes")
    if _has(node, 1):
        axes = evaluation.value(node.inputs[1]).array.tolist()
    numbers = [axis % len(shape) for axis in axes or range(len(shape))]
    keep = bool(node.attributes.get("keepdims", 1))
    kept = iter(index)
    spans = []
    for axis, size in enumerate(shape):
        if axis in numbers:
            spans.append(range(size))
            if keep:
                next(kept)
        else:
            place = next(kept)
            spans.append(range(place, place + 1))
    found = [evaluation.exact(node.inputs[0], place) for place in product(*spans)]
    if node.op_type == "ReduceMax":
        return max(found)
    if node.op_type == "ReduceMin":
        return min(found)
    total = _total(*found)
    return total / len(found) if node.op_type == "ReduceMean" else total


def _reshape(evaluation: Elements, node: Node, index: Index) -> Fraction:
    output = evaluation.value(node.outputs[0]).shape
    shape = evaluation.value(node.inputs[0]).shape
    flat = int(np.ravel_multi_index(index, output)) if output else 0
    return evaluation.exact(
        node.inputs[0], tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()
    )


def _transpose(evaluation: Elements, node: Node, index: Index) -> Fraction:
    order = node.attributes.get("perm") or range(len(index) - 1, -1, -1)
    own = [0] * len(index)
    for place, axis in zip(index, order, strict=True):
        own[axis] = place
    return evaluation.exact(node.inputs[0], tuple(own))


def _concat(evaluation: Elements, node: Node, index: Index) -> Fraction:
    axis = int(node.attributes.get("axis", 1)) % len(index)
    place = index[axis]
    for name in node.inputs:
        size = evaluation.value(name).shape[axis]
        if place < size:
            return evaluation.exact(name, (*index[:axis], place, *index[axis + 1 :]))
        place -= size
    raise IndexError(f"{node}: {index} is outside")


def _identity(evaluation: Elements, node: Node, index: Index) -> Fraction:
    return evaluation.exact(node.inputs[0], index)


def _transcendental(at_zero: Fraction, function: Callable[[Decimal], Decimal]) -> Rule:
    """A function that is rational at zero alone, among rational numbers."""

    def rule(evaluation: Elements, node: Node, index: Index) -> Fraction:
        number = evaluation.exact(node.inputs[0], index)
        if not number:
            return at_zero
        decimal = DECIMALS.divide(Decimal(number.numerator), Decimal(number.denominator))
        if abs(decimal) > 1000:
            raise UnsupportedOperatorError(f"{node}: {float(number):.3g} is too far from zero")
        return Fraction(function(decimal))

    return rule


def _sigmoid(x: Decimal) -> Decimal:
    return DECIMALS.divide(Decimal(1), DECIMALS.add(Decimal(1), DECIMALS.exp(-x)))


def _tanh(x: Decimal) -> Decimal:
    return DECIMALS.subtract(DECIMALS.multiply(Decimal(2), _sigmoid(2 * x)), Decimal(1))


def _magnitude(number: Fraction) -> Fraction:
    return abs(number)


_RULES: dict[str, Rule] = {
    "Abs": _elementwise(_magnitude),
    "Add": _elementwise(lambda a, b: a + b),
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _identity,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DequantizeLinear": _dequantise,
    "Div": _elementwise(_divide),
    "Dropout": _identity,
    "Exp": _transcendental(Fraction(1), DECIMALS.exp),
    "Flatten": _reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool,
    "GlobalMaxPool": _pool,
    "Identity": _identity,
    "LeakyRelu": _leaky,
    "MatMul": _matmul,
    "Max": _elementwise(max),
    "MaxPool": _pool,
    "Mean": _elementwise(lambda *numbers: _total(*numbers) / len(numbers)),
    "Min": _elementwise(min),
    "Mul": _elementwise(lambda a, b: a * b),
    "Neg": _elementwise(lambda a: -a),
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceSum": _reduce,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sigmoid": _transcendental(Fraction(1, 2), _sigmoid),
    "Sqrt": _elementwise(_root),
    "Squeeze": _reshape,
    "Sub": _elementwise(lambda a, b: a - b),
    "Sum": _elementwise(_total),
    "Tanh": _transcendental(Fraction(0), _tanh),
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
