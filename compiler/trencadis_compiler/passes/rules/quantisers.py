"""QuantizeLinear and DequantizeLinear, of maps and of constants."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.network import Quantisation
from trencadis_compiler.ir.sparse_constant import SparseConstant
from trencadis_compiler.passes.base.constants import aligned, quantise_constant
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.functions import PLAIN, table_of
from trencadis_compiler.passes.base.operator import Operator, integer
from trencadis_compiler.passes.base.state import (
    ActivationMap,
    Array,
    QuantisedConstant,
    SparseWeights,
    State,
    Unsupported,
)

__all__ = ["OPERATORS", "REAL", "of_activations", "quantise_map", "scale_and_zero"]

REAL = ("float16", "float32", "float64")

TYPES = {2: np.dtype(np.uint8), 3: np.dtype(np.int8), 5: np.dtype(np.int16), 6: np.dtype(np.int32)}
"""NumPy's types of ONNX's numbers."""


def _quantise(context: Context, node: Node) -> State:
    value = context.state(node, 0)
    scale, zero = scale_and_zero(context, node)
    declared = _declared(node)
    if zero is not None and declared is not None and zero.dtype != declared:
        raise Unsupported(node, f"its output_dtype is {declared}, its zero point {zero.dtype}")
    if isinstance(value, np.ndarray):
        zero = np.zeros(1, declared or np.uint8) if zero is None else zero
        if zero.dtype.kind not in "iu" or zero.dtype not in TYPES.values():
            raise Unsupported(node, f"quantises a constant to {zero.dtype}")
        limits = (int(np.iinfo(zero.dtype).min), int(np.iinfo(zero.dtype).max))
        axis = int(node.attributes.get("axis", 1))
        integers = quantise_constant(node, value, scale, zero, axis, limits)
        return integers.astype(zero.dtype)
    source = context.map(node, views=True)
    default = declared or np.dtype(np.uint8)
    return quantise_map(node, source, of_activations(node, scale, zero, default))


def _dequantise(context: Context, node: Node) -> State:
    value = context.state(node, 0)
    scale, zero = scale_and_zero(context, node)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iu":
            raise Unsupported(node, f"its input has type {value.dtype}, not integers")
        # Weights are many: a difference of bytes has 9 bits.
        wide = np.int16 if value.dtype.itemsize == 1 else np.int64
        zero = np.zeros(1, wide) if zero is None else zero.astype(wide)
        axis = int(node.attributes.get("axis", 1))
        offset = aligned(node, zero, value, axis)
        aligned(node, scale, value, axis)
        axis = axis % value.ndim if value.ndim else 0
        return QuantisedConstant(value.astype(wide) - offset, scale.ravel(), axis)
    if isinstance(value, SparseConstant):
        if zero is not None and zero.any():
            raise Unsupported(node, "sparse weights have a zero point that is not zero")
        axis = int(node.attributes.get("axis", 1))
        aligned(node, scale, value, axis)
        return SparseWeights(value, scale.ravel(), axis % 2)
    source = context.map(node, views=True)
    quantisation = of_activations(node, scale, zero, _integer_type(source))
    if source.draft is None and source.quantisation is None:
        if source.source.tensor.dtype != ("int8" if quantisation.signed else "uint8"):
            raise Unsupported(node, "the input is not quantised; add a QuantizeLinear")
    elif not source.integer or source.quantisation is None:
        raise Unsupported(node, "its input is not quantised")
    elif source.draft is None and not _same(quantisation, source.quantisation):
        raise Unsupported(
            node,
            f"the input is quantised with scale {source.quantisation.scale!r} and zero point "
            f"{source.quantisation.zero_point}, but dequantised with {quantisation.scale!r} and "
            f"{quantisation.zero_point}; give both the same",
        )
    elif quantisation.signed != source.quantisation.signed:
        raise Unsupported(node, "its zero point has another type than its input")
    return replace(source, quantisation=quantisation, integer=False)


def quantise_map(node: Node, source: ActivationMap, quantisation: Quantisation) -> ActivationMap:
    """A map quantised: sums are requantised, keys mapped by a table.

    Raises
    ------
    Unsupported
        If the overlay cannot compute it exactly.
    """
    if source.integer:
        raise Unsupported(node, "its input is quantised already")
    dequantised = source.draft is None and source.quantisation is not None
    if source.draft is None and source.source.tensor.dtype not in REAL and not dequantised:
        raise Unsupported(node, "quantises integers; give the model real or quantised inputs")
    if source.view is not None and source.draft is not None:
        if (
            source.functions
            or source.quantisation is None
            or not _same(quantisation, source.quantisation)
        ):
            raise Unsupported(
                node,
                "quantises a padded or cut out map otherwise than the map; give both the same",
            )
        return replace(source, integer=True)
    if source.quantisation is None:
        if source.draft is None:
            if source.functions:
                raise Unsupported(
                    node, f"{source.functions[0].name} on a tensor that no layer before it makes"
                )
            return replace(source, quantisation=quantisation, integer=True)
        for function in source.functions:
            if not function.clips:
                raise Unsupported(
                    node,
                    f"{function.name} is applied to sums that are not quantised; quantise its "
                    "input as well",
                )
        table = table_of(source.functions, quantisation, quantisation)
        draft = replace(source.draft, requantised=quantisation, table=table)
        return replace(source, draft=draft, quantisation=quantisation, integer=True, functions=())
    if source.draft is None:
        if _same(quantisation, source.quantisation) and not source.functions:
            return replace(source, integer=True)
        raise Unsupported(node, "the input is quantised twice; quantise it once")
    table = table_of(source.functions, source.quantisation, quantisation)
    if source.draft.winners is not None and table != PLAIN:
        raise Unsupported(
            node,
            f"activations are quantised anew after k-WTA, with scale {quantisation.scale!r} "
            f"instead of {source.quantisation.scale!r}; give both tensors the same quantisation",
        )
    draft = replace(source.draft, table=tuple(table[key] for key in source.draft.table))
    return replace(source, draft=draft, quantisation=quantisation, integer=True, functions=())


def scale_and_zero(context: Context, node: Node) -> tuple[npt.NDArray[np.float32], Array | None]:
    """Scale and zero point of a quantiser."""
    scale, zero = context.constant(node, 1), context.constant(node, 2)
    if scale is None:
        raise Unsupported(node, "it has no scale")
    if scale.dtype.kind != "f":
        raise Unsupported(node, f"its scale is of {scale.dtype}, not real numbers")
    if scale.dtype.itemsize > 4 and node.op_type.endswith("Linear"):
        raise Unsupported(node, f"its scale is {scale.dtype}; use float32")
    if scale.ndim > 1 and node.op_type.endswith("Linear"):
        raise Unsupported(node, "it has a scale per block; use one per tensor or per kernel")
    scale = scale.astype(np.float32)
    if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        raise Unsupported(node, "its scale must be positive and finite; calibrate again")
    return scale, zero


def _declared(node: Node) -> np.dtype[Any] | None:
    """The type that output_dtype asks for, if it does."""
    number = int(node.attributes.get("output_dtype", 0))
    if number == 0:
        return None
    if number not in TYPES:
        raise Unsupported(
            node,
            f"quantises to ONNX's type {number} (output_dtype); the overlay takes int8 and uint8",
        )
    return TYPES[number]


def of_activations(
    node: Node, scale: npt.NDArray[np.float32], zero: Array | None, default: np.dtype[Any]
) -> Quantisation:
    """The quantisation of a map; `default` is its type if there is no zero point."""
    if scale.size != 1 or (zero is not None and zero.size != 1):
        raise Unsupported(node, "activations need one scale for the whole tensor")
    dtype = default if zero is None else zero.dtype
    if dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        raise Unsupported(node, f"activations are {dtype}; the overlay takes int8 and uint8")
    return Quantisation(
        np.float32(scale.item()), 0 if zero is None else int(zero.item()), dtype == np.int8
    )


def _integer_type(source: ActivationMap) -> np.dtype[Any]:
    """Type of a quantised map."""
    if source.quantisation is not None:
        return np.dtype(np.int8 if source.quantisation.signed else np.uint8)
    return np.dtype(source.source.tensor.dtype)


def _same(a: Quantisation, b: Quantisation) -> bool:
    return (a.scale, a.zero_point, a.signed) == (b.scale, b.zero_point, b.signed)


_BLOCKS = integer(0, otherwise="scales of blocks, which the overlay has not")

OPERATORS = {
    "QuantizeLinear": Operator(
        _quantise,
        (2, 3),
        {
            "axis": integer(),
            "block_size": _BLOCKS,
            "output_dtype": integer(),
            "precision": integer(0, 1, otherwise="a quotient in fewer bits than float32"),
            # Only 8-bit floats saturate or not; integers always do.
            "saturate": integer(),
        },
    ),
    "DequantizeLinear": Operator(
        _dequantise,
        (2, 3),
        {
            "axis": integer(),
            "block_size": _BLOCKS,
            "output_dtype": integer(0, 1, otherwise="real numbers of another type than float32"),
        },
    ),
}
