"""Gemm and MatMul with constant weights, of vectors and token by token."""

import math
from dataclasses import replace
from fractions import Fraction

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.sparse_constant import SparseConstant
from trencadis_compiler.passes.base.context import Context, fraction
from trencadis_compiler.passes.base.operator import Operator, integer, real
from trencadis_compiler.passes.base.state import (
    ActivationMap,
    QuantisedConstant,
    SparseWeights,
    State,
    Unsupported,
)
from trencadis_compiler.passes.rules.affine import scaled
from trencadis_compiler.passes.rules.layers import begin, bias_of, kernel_scales, weights_of
from trencadis_compiler.passes.rules.views import spread, through_view

__all__ = ["OPERATORS"]


def _multiply(context: Context, node: Node) -> State:
    source, picked, around = through_view(context.layer_input(node, views=True))
    if (picked is not None and len(source.axes) > 1) or any(map(any, around)):
        raise Unsupported(node, "reads a part of a map at every position; it needs all channels")
    if node.attributes.get("transA", 0):
        raise Unsupported(node, "transA is 1; transpose the weights instead")
    kernels, scales = _kernels(context, node)
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if not math.isfinite(alpha + beta):
        raise Unsupported(node, f"its alpha is {alpha} and its beta {beta}; they must be finite")
    bias = bias_of(context, node, len(kernels), Fraction(1))
    if len(source.axes) == 1:
        _check_size(node, kernels, source.shape[0] if picked is None else len(picked))
        kernels = spread(node, kernels, picked, source.shape[0])
        made = _of_vector(node, source, kernels, scales, bias)
    elif node.op_type == "MatMul":
        made = _of_tokens(node, source, kernels, scales, bias)
    else:
        raise Unsupported(
            node,
            f"its input has shape {['N', *source.shape]}; flatten it to two axes first",
        )
    if (alpha, beta) == (1.0, 1.0):
        return made
    made = scaled(node, made, [fraction(alpha)] * len(bias))
    assert made.draft is not None
    # Of the sum of products and bias, alpha is of the products alone.
    biases = tuple(fraction(beta) * number for number in bias)
    return replace(made, draft=replace(made.draft, bias=biases))


def _kernels(context: Context, node: Node) -> tuple[Kernels, tuple[Fraction, ...]]:
    """A kernel, and its scale, for every output."""
    weights: QuantisedConstant | SparseWeights
    state = context.state(node, 1)
    weights = state if isinstance(state, SparseWeights) else weights_of(context, node, 1)
    if weights.integers.ndim != 2:
        raise Unsupported(node, f"its weights have {weights.integers.ndim} axes instead of 2")
    if not node.attributes.get("transB", 0):
        weights = weights.T
    matrix = weights.integers
    scales = kernel_scales(node, weights, len(matrix))
    if isinstance(matrix, SparseConstant):
        shape = (*matrix.shape, 1, 1)
        return Kernels.from_coordinates(shape, matrix.rows, matrix.columns, matrix.values), scales
    return Kernels.of(matrix[:, :, None, None]), scales


def _of_vector(
    node: Node,
    source: ActivationMap,
    kernels: Kernels,
    scales: tuple[Fraction, ...],
    bias: tuple[Fraction, ...],
) -> ActivationMap:
    """A fully connected layer: its window is the whole map."""
    letters = source.axes[0]
    made = begin(
        node,
        source,
        scales=scales,
        bias=bias,
        kernels=kernels.of_map(letters, [source.sizes[letter] for letter in letters]),
        stride=(1, 1),
        dilation=(1, 1),
        pads=(0, 0, 0, 0),
    )
    return replace(made, axes=("C",), sizes={"C": len(kernels)})


def _of_tokens(
    node: Node,
    source: ActivationMap,
    kernels: Kernels,
    scales: tuple[Fraction, ...],
    bias: tuple[Fraction, ...],
) -> ActivationMap:
    """The same matrix at every position: a convolution whose window is one position."""
    usual = {2: ("W", "C"), 3: ("H", "W", "C")}[len(source.axes)]
    if source.is_whole:
        source = source.renamed(usual)
    if source.axes != usual:
        raise Unsupported(
            node,
            f"its input has axes {source.axes}; flatten it to two axes first, or have channels "
            "last",
        )
    _check_size(node, kernels, source.shape[-1])
    return begin(
        node,
        source,
        scales=scales,
        bias=bias,
        kernels=kernels,
        stride=(1, 1),
        dilation=(1, 1),
        pads=(0, 0, 0, 0),
    )


def _check_size(node: Node, kernels: Kernels, activations: int) -> None:
    if kernels.shape[1] != activations:
        raise Unsupported(
            node, f"weights for {kernels.shape[1]} inputs, but {activations} activations"
        )


OPERATORS = {
    "Gemm": Operator(
        _multiply,
        (2, 3),
        {"alpha": real(), "beta": real(), "transA": integer(0, 1), "transB": integer(0, 1)},
    ),
    "MatMul": Operator(_multiply, (2, 2)),
}
