"""The quantised copy of a float model: QuantizeLinear and DequantizeLinear where a plan says."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_compiler.importer.quantising.float_plan import FloatPlan
from trencadis_compiler.importer.reading.draft import Draft, attributes_of

__all__ = ["Range", "activation_scale", "insert_quantisers"]

Floats = npt.NDArray[np.float32]

MAX_WEIGHT = 127
"""Weights are symmetric."""

MAX_BIAS = (1 << 31) - 1


@dataclass(frozen=True)
class Range:
    """The numbers that a tensor usually has.

    Attributes
    ----------
    low, high : float
        The smallest and the largest.
    variance : float
        Variance of all of them.
    """

    low: float
    high: float
    variance: float = 0.0

    @property
    def noise(self) -> float:
        """Variance of the error of int8 numbers of this range, as a share of their own."""
        scale, _ = activation_scale(self)
        return float(scale) ** 2 / 12 / self.variance if self.variance else 0.0


def activation_scale(found: Range) -> tuple[np.float32, np.int8]:
    """Scale and zero point of int8 activations whose range covers a range and zero.

    What is always zero keeps every step for numbers above, as after a ReLU that is dead.
    """
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    scale = np.float32((high - low) / 255)
    if not np.isfinite(scale) or scale < np.finfo(np.float32).tiny:
        return np.float32(1), np.int8(-128)
    zero = np.rint(-128 - low / float(scale))
    return scale, np.int8(np.clip(zero, -128, 127))


def insert_quantisers(draft: Draft, plan: FloatPlan, ranges: Mapping[str, Range]) -> None:
    """Quantise a float model, in place.

    Weights become int8, symmetric, with a scale for each kernel; biases int32 in units of their
    products; activations int8 with a scale and a zero point for each tensor. Tensors keep their
    names: what is quantised goes on under a name of its own.

    Parameters
    ----------
    draft : Draft
        The model.
    plan : FloatPlan
        What is quantised.
    ranges : mapping of str to Range
        Those of the tensors whose scales the plan uses.
    """
    scales = {root: activation_scale(ranges[root]) for root in set(plan.tensors.values())}
    linear = frozenset(plan.linear)
    inputs = {value.name for value in draft.graph.input}
    renamed: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for name in plan.tensors:
        if name in inputs:
            nodes += _quantised(draft, name, scales[plan.tensors[name]], renamed)
    for node in draft.graph.node:
        if node.name in linear:
            scale, _ = scales[plan.tensors[node.input[0]]]
            nodes += _quantise_weights(draft, node, scale)
        reads = node.name in plan.readers
        node.input[:] = [
            renamed.get(name, name) if reads or name in plan.held else name for name in node.input
        ]
        nodes.append(node)
        for name in node.output:
            if name in plan.tensors:
                nodes += _quantised(draft, name, scales[plan.tensors[name]], renamed)
    draft.set_nodes(nodes)
    draft.drop_unread()


def _quantised(
    draft: Draft, name: str, scale: tuple[np.float32, np.int8], renamed: dict[str, str]
) -> list[onnx.NodeProto]:
    step, zero = scale
    numbers = [
        draft.add_constant(f"{name}_scale", step),
        draft.add_constant(f"{name}_zero_point", zero),
    ]
    integers, real = draft.fresh(f"{name}_quantised"), draft.fresh(f"{name}_dequantised")
    renamed[name] = real
    return [
        onnx.helper.make_node("QuantizeLinear", [name, *numbers], [integers], integers),
        onnx.helper.make_node("DequantizeLinear", [integers, *numbers], [real], real),
    ]


def _quantise_weights(
    draft: Draft, node: onnx.NodeProto, input_scale: np.float32
) -> list[onnx.NodeProto]:
    """Quantise a layer's weights and bias; the nodes that dequantise them."""
    constants = draft.initialisers()
    values = attributes_of(node)
    weights = draft.array(constants[node.input[1]]).astype(np.float32)
    bias = None
    if len(node.input) > 2 and node.input[2]:
        bias = draft.array(constants[node.input[2]]).astype(np.float32)
    if node.op_type == "Gemm":
        weights = weights * np.float32(values.get("alpha", 1.0))
        bias = None if bias is None else bias * np.float32(values.get("beta", 1.0))
        kept = [entry for entry in node.attribute if entry.name not in ("alpha", "beta")]
        del node.attribute[:]
        node.attribute.extend(kept)
    axis = 0 if node.op_type == "Conv" or values.get("transB", 0) else 1
    scales = _weight_scales(weights, axis, bias, input_scale)
    shape = [-1 if number == axis else 1 for number in range(weights.ndim)]
    integers = np.rint(weights.astype(np.float64) / scales.reshape(shape).astype(np.float64))
    integers = np.clip(integers, -MAX_WEIGHT, MAX_WEIGHT).astype(np.int8)
    prefix = node.name
    names = [
        draft.add_constant(f"{prefix}_weights", integers),
        draft.add_constant(f"{prefix}_weights_scale", scales),
        draft.add_constant(f"{prefix}_weights_zero_point", np.zeros(len(scales), np.int8)),
    ]
    node.input[1] = draft.fresh(f"{prefix}_weights_dequantised")
    nodes = [
        onnx.helper.make_node("DequantizeLinear", names, [node.input[1]], node.input[1], axis=axis)
    ]
    if bias is not None:
        products = (input_scale * scales).astype(np.float32)
        sums = np.rint(bias.astype(np.float64) / products.astype(np.float64))
        sums = np.clip(sums, -MAX_BIAS, MAX_BIAS).astype(np.int32)
        names = [
            draft.add_constant(f"{prefix}_bias", sums),
            draft.add_constant(f"{prefix}_bias_scale", products),
        ]
        node.input[2] = draft.fresh(f"{prefix}_bias_dequantised")
        nodes.append(
            onnx.helper.make_node("DequantizeLinear", names, [node.input[2]], node.input[2], axis=0)
        )
    return nodes


def _weight_scales(
    weights: Floats, axis: int, bias: Floats | None, input_scale: np.float32
) -> Floats:
    """A scale for each kernel: so that its weights fit 8 bits, and its bias 32."""
    others = tuple(number for number in range(weights.ndim) if number != axis)
    scales = np.abs(weights).max(axis=others, initial=0).astype(np.float64) / MAX_WEIGHT
    if bias is not None:
        scales = np.maximum(scales, 2 * np.abs(bias) / (float(input_scale) * MAX_BIAS))
    smallest = float(np.finfo(np.float32).tiny) / min(float(input_scale), 1.0)
    return np.where(scales > smallest, scales, 1.0).astype(np.float32)
