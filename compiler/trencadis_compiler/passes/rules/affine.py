"""BatchNormalization, and Add, Sub, Mul, Div with constants: folded into weights and biases."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.passes.base.constants import aligned
from trencadis_compiler.passes.base.context import Context, fraction
from trencadis_compiler.passes.base.operator import Operator, integer, real
from trencadis_compiler.passes.base.state import (
    ActivationMap,
    Array,
    QuantisedConstant,
    State,
    Unsupported,
)

__all__ = ["OPERATORS", "scaled"]

ROOT_BITS = 96
"""Bits of a square root that is not rational: no sum is as near to a tie as the last of them."""


def _normalise(context: Context, node: Node) -> State:
    source = _sums(context, node, 0)
    numbers = [context.constant(node, position) for position in range(1, 5)]
    if "C" not in source.sizes or any(
        array is None or array.size != source.sizes["C"] for array in numbers
    ):
        raise Unsupported(
            node, f"it needs four numbers for each of {source.sizes.get('C', 1)} channels"
        )
    if source.axes[0] != "C":
        raise Unsupported(node, f"its input has axes {source.axes}; it needs channels first")
    arrays = [np.asarray(array, np.float64).ravel() for array in numbers]
    if not np.all(np.isfinite(arrays)):
        raise Unsupported(node, "its parameters must be finite, variances not negative")
    gain, offset, mean, variance = ([Fraction(n) for n in array.tolist()] for array in arrays)
    epsilon = Fraction(float(np.float32(node.attributes.get("epsilon", 1e-5))))
    if min(variance, default=epsilon) + epsilon <= 0:
        raise Unsupported(node, "its parameters must be finite, variances not negative")
    factors = [up / _root(of + epsilon) for up, of in zip(gain, variance, strict=True)]
    shifts = [up - factor * down for up, factor, down in zip(offset, factors, mean, strict=True)]
    return _shifted(scaled(node, source, factors), shifts)


def _root(number: Fraction) -> Fraction:
    """A square root: exact if it is rational, else to `ROOT_BITS` bits."""
    top, bottom = math.isqrt(number.numerator), math.isqrt(number.denominator)
    if (top * top, bottom * bottom) == (number.numerator, number.denominator):
        return Fraction(top, bottom)
    shift = max(
        0, ROOT_BITS - (number.numerator.bit_length() - number.denominator.bit_length()) // 2
    )
    return Fraction(math.isqrt((number.numerator << 2 * shift) // number.denominator), 1 << shift)


def _arithmetic(context: Context, node: Node) -> State:
    maps = [
        i
        for i in range(2)
        if not isinstance(context.state(node, i), (np.ndarray, QuantisedConstant))
    ]
    if not maps:
        return _of_constants(context, node)
    if len(maps) == 2:
        raise Unsupported(node, "combines two maps, which the overlay cannot do yet")
    position = maps[0]
    if position and node.op_type in ("Sub", "Div"):
        raise Unsupported(node, "its first input is a constant; exchange the two")
    source = _sums(context, node, position)
    numbers = _per_channel(context, node, 1 - position, source)
    if node.op_type in ("Add", "Sub"):
        sign = 1 if node.op_type == "Add" else -1
        return _shifted(source, [sign * number for number in numbers])
    if node.op_type == "Div" and 0 in numbers:
        raise Unsupported(node, "divides by zero")
    return scaled(node, source, numbers if node.op_type == "Mul" else [1 / n for n in numbers])


def _of_constants(context: Context, node: Node) -> State:
    """A dequantised constant times one number, as biases of QLinearConv are."""
    values = [context.state(node, position) for position in range(2)]
    quantised = [value for value in values if isinstance(value, QuantisedConstant)]
    numbers = [value for value in values if isinstance(value, np.ndarray)]
    if node.op_type == "Mul" and len(quantised) == len(numbers) == 1:
        (value,), (number,) = quantised, numbers
        if number.size == 1 and number.ndim <= value.integers.ndim and number.item() > 0:
            return replace(value, factor=value.factor * fraction(number.item()))
    raise Unsupported(node, "computes with constants; export them as one constant")


def _sums(context: Context, node: Node, position: int) -> ActivationMap:
    """The map a node reads, which must be a layer's sums as they are."""
    source = context.map(node, position)
    if source.draft is None:
        raise Unsupported(node, "on a tensor that no layer before it makes")
    if source.quantisation is not None or source.functions:
        raise Unsupported(
            node,
            "on activations that are quantised already, or after a function; merge it with the "
            "layer before, as onnxruntime's quant_pre_process does, and quantise again",
        )
    return source


def _per_channel(
    context: Context, node: Node, position: int, source: ActivationMap
) -> list[Fraction]:
    """A constant as one number for every channel of a map."""
    value = context.state(node, position)
    numbers: Array
    exact = np.vectorize(fraction, otypes=[object])
    if isinstance(value, QuantisedConstant):
        scale = aligned(node, value.scale, value.integers, value.axis)
        numbers = np.array(value.integers, object) * exact(scale) * value.factor
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and np.all(np.isfinite(value)):
        numbers = exact(value) if value.size else value
    else:
        raise Unsupported(node, f"its input {node.inputs[position]!r} must be finite numbers")
    rank, channels = len(source.axes) + 1, source.sizes.get("C", 1)
    if numbers.size == 1 and numbers.ndim <= rank:
        return [numbers.item()] * channels
    shape = (1,) * (rank - numbers.ndim) + numbers.shape
    wanted = [channels if axis == "C" else 1 for axis in ("N", *source.axes)]
    if len(shape) != rank or any(
        have not in (1, want) for have, want in zip(shape, wanted, strict=True)
    ):
        raise Unsupported(
            node,
            f"its constant has shape {list(numbers.shape)}; it needs one number for each channel, "
            "or one for all",
        )
    return list(np.broadcast_to(numbers.reshape(shape), wanted).ravel())


def scaled(node: Node, source: ActivationMap, factors: Sequence[Fraction]) -> ActivationMap:
    """A map of sums multiplied by a number per channel.

    Raises
    ------
    Unsupported
        If a factor exchanges the order of what was pooled.
    """
    draft = source.draft
    assert draft is not None
    if draft.pool is not None and min(factors) < 0:
        raise Unsupported(node, "multiplies what is pooled by negative numbers; pool afterwards")
    signs = np.array([(factor > 0) - (factor < 0) for factor in factors])
    # A scale must be positive: signs, and zeros, go into the weights.
    try:
        weights = draft.weights.times(signs)
    except ValueError as error:
        raise Unsupported(node, "negates weights of -128; quantise them to -127..127") from error
    scales = tuple(
        scale * (abs(factor) or 1)
        for scale, factor in zip(draft.weight_scale, factors, strict=True)
    )
    bias = tuple(factor * number for factor, number in zip(factors, draft.bias, strict=True))
    new = replace(draft, weights=weights, weight_scale=scales, bias=bias)
    return replace(source, draft=new)


def _shifted(source: ActivationMap, numbers: Sequence[Fraction]) -> ActivationMap:
    """A map of sums with a number per channel added."""
    draft = source.draft
    assert draft is not None
    bias = tuple(a + b for a, b in zip(draft.bias, numbers, strict=True))
    return replace(source, draft=replace(draft, bias=bias))


OPERATORS = {
    "BatchNormalization": Operator(
        _normalise,
        (5, 5),
        {
            "epsilon": real(),
            # Momentum is of training alone.
            "momentum": real(),
            "spatial": integer(1, otherwise="a mean for every position"),
            "training_mode": integer(0, otherwise="it computes with the batch's own statistics"),
        },
    ),
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), Operator(_arithmetic, (2, 2))),
}
