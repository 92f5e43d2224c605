"""Checks of what ONNX forbids, whether or not onnxruntime minds: types, scales, window sizes.

Each of these has no defined result, so that two runtimes, or two rewritings of one model, may give
two answers. They are refused before anything is rewritten.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx.defs

from trencadis_compiler.importer.reading.draft import Draft, attributes_of, described
from trencadis_compiler.importer.steps.shapes import inferred_model
from trencadis_judge.lowering import MIN_QONNX_OPSET, QONNX_DOMAINS

__all__ = ["check_numbers", "check_quantisers", "check_types", "check_windows"]

SCALES: Mapping[str, tuple[int, ...]] = {
    "DequantizeLinear": (1,),
    "QuantizeLinear": (1,),
    "QLinearAdd": (1, 4, 6),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "QLinearMul": (1, 4, 6),
    "Quant": (1,),
    "IntQuant": (1,),
    "BipolarQuant": (1,),
}
"""Inputs of operators that are scales."""

REQUIRED = {"Quant": ("narrow", "signed"), "IntQuant": ("narrow", "signed")}
"""Attributes that QONNX's operators have no default for."""

ZERO_POINTS = {"Quant": (2,), "IntQuant": (2,), "Trunc": (2,)}
"""Inputs of QONNX's operators that are zero points, as real numbers."""

BIT_WIDTHS = {"Quant": (3,), "IntQuant": (3,), "Trunc": (3, 4)}
"""Inputs of QONNX's operators that are numbers of bits."""

REALS = frozenset(("tensor(float)", "tensor(float16)", "tensor(double)"))
"""Types of QONNX's operators."""

WINDOWS = frozenset(
    ("AveragePool", "Conv", "ConvInteger", "LpPool", "MaxPool", "QLinearConv", "QLinearAveragePool")
)
"""Operators with a window that moves over a map."""


def check_types(draft: Draft) -> None:
    """Refuse operators whose attributes or types of inputs are not those of the model's opset.

    Raises
    ------
    CompileError
        If there is one.
    """
    graph = inferred_model(draft).graph
    types = {tensor.name: _text(tensor.data_type) for tensor in draft.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type.elem_type
        if value.type.WhichOneof("value") == "tensor_type" and kind:
            types.setdefault(value.name, _text(kind))
    versions = {entry.domain: entry.version for entry in draft.model.opset_import}
    for node in draft.graph.node:
        if node.domain.startswith(QONNX_DOMAINS) and node.op_type in BIT_WIDTHS:
            _check_reals(draft, node, types)
        try:
            schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            continue  # operators of other domains, or none at all: looked at elsewhere
        _check_attributes(draft, node, schema)
        _check_inputs(draft, node, schema, types)


def _check_reals(draft: Draft, node: onnx.NodeProto, types: Mapping[str, str]) -> None:
    """Check that inputs of an operator of QONNX, which has no schema, are real numbers."""
    for position, name in enumerate(node.input):
        if types.get(name, "tensor(float)") not in REALS:
            raise draft.refusal(
                f"{described(node)} does not take {types[name]} as input {position} ({name!r}), "
                "but real numbers; export the model again"
            )


def _check_attributes(draft: Draft, node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> None:
    """Check that a node has attributes of its schema alone: others would be ignored."""
    for entry in node.attribute:
        if entry.name not in schema.attributes:
            raise draft.refusal(
                f"{described(node)} has attribute {entry.name!r}, which {node.op_type} does not "
                f"have in opset {draft.opset}; export the model again"
            )


def _check_inputs(
    draft: Draft, node: onnx.NodeProto, schema: onnx.defs.OpSchema, types: Mapping[str, str]
) -> None:
    """Check that a node's inputs have types that its schema has, one for each of its parameters."""
    for position, form in enumerate(schema.inputs):
        given = position < len(node.input) and node.input[position]
        if not given and form.option == onnx.defs.OpSchema.FormalParameterOption.Single:
            raise draft.refusal(
                f"{described(node)} has no input {position} ({form.name}), which {node.op_type} "
                "requires; export the model again"
            )
    bound: dict[str, str] = {}
    for position, name in enumerate(node.input):
        if not schema.inputs or name not in types:
            continue
        form = schema.inputs[min(position, len(schema.inputs) - 1)]
        wanted = bound.setdefault(form.type_str, types[name]) if form.is_homogeneous else ""
        if types[name] not in form.types or wanted not in ("", types[name]):
            allowed = [wanted] if types[name] in form.types else sorted(form.types)
            raise draft.refusal(
                f"{described(node)} does not take {types[name]} as input {position} ({name!r}), "
                f"but {', '.join(allowed[:8])}; export the model again"
            )


def _text(kind: int) -> str:
    """A type as schemas write it."""
    name = onnx.helper.tensor_dtype_to_string(kind).removeprefix("TensorProto.").lower()
    return f"tensor({name})"


def check_quantisers(draft: Draft) -> None:
    """Refuse quantisers without a meaning: scales that are no numbers, or that fit no axis.

    Raises
    ------
    CompileError
        If there is one.
    """
    constants = draft.initialisers()
    for node in draft.graph.node:
        if node.domain.startswith(QONNX_DOMAINS):
            _check_qonnx(draft, node, constants)
        for position in SCALES.get(node.op_type, ()):
            if position < len(node.input) and node.input[position] in constants:
                _check_finite(draft, node, "scale", constants[node.input[position]])
        if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            _check_shapes(draft, node, constants)


def _check_qonnx(
    draft: Draft, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> None:
    given = {entry.name for entry in node.attribute}
    for name in REQUIRED.get(node.op_type, ()):
        if name not in given:
            raise draft.refusal(
                f"{described(node)} has no attribute {name!r}, which QONNX requires; export the "
                "model again"
            )
    for position in ZERO_POINTS.get(node.op_type, ()):
        if position < len(node.input) and node.input[position] in constants:
            _check_finite(draft, node, "zero point", constants[node.input[position]])
    for position in BIT_WIDTHS.get(node.op_type, ()):
        if position < len(node.input) and node.input[position] not in constants:
            raise draft.refusal(
                f"{described(node)}: its bit width {node.input[position]!r} is no constant; export "
                "the model with constant bit widths"
            )
    if draft.opset < MIN_QONNX_OPSET:
        raise draft.refusal(
            f"{described(node)}: QONNX's operators stand beside opset {draft.opset}; convert the "
            f"model to opset {MIN_QONNX_OPSET} or later"
        )


def _check_finite(draft: Draft, node: onnx.NodeProto, what: str, tensor: onnx.TensorProto) -> None:
    numbers = draft.array(tensor)
    if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        number = numbers[~np.isfinite(numbers)].ravel()[0]
        raise draft.refusal(
            f"{described(node)}: its {what} {tensor.name!r} is {number}; calibrate and export the "
            "model again"
        )


def _check_shapes(
    draft: Draft, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> None:
    """Check that scales and zero points are one number, or a vector along an axis, or of blocks."""
    if attributes_of(node).get("block_size", 0):
        return
    for position, what in ((1, "scale"), (2, "zero point")):
        name = node.input[position] if position < len(node.input) else ""
        shape = tuple(constants[name].dims) if name in constants else ()
        if len(shape) > 1 and math.prod(shape) > 1:
            raise draft.refusal(
                f"{described(node)}: its {what} {name!r} has shape {list(shape)}; it needs one "
                "number, a vector along its axis, or block_size"
            )


def check_numbers(draft: Draft) -> None:
    """Refuse constants with which an operator makes what is no number.

    Integers that are made of that are whatever a runtime makes of it.

    Raises
    ------
    CompileError
        If there is a batch normalisation with a variance below zero, or a bound that is no number.
    """
    constants = draft.initialisers()
    for node in draft.graph.node:
        values = attributes_of(node)
        if node.op_type == "BatchNormalization" and not values.get("training_mode", 0):
            for name in set(node.input[4:5]) & constants.keys():
                least = draft.array(constants[name]).astype(np.float64).min(initial=0)
                if not least + values.get("epsilon", 1e-5) >= 0:
                    raise draft.refusal(
                        f"{described(node)}: its variance {name!r} has {least:g}, and a variance "
                        "is not negative; export the model again"
                    )
        elif node.op_type == "Clip":
            for name in set(node.input[1:3]) & constants.keys():
                if np.isnan(draft.array(constants[name]).astype(np.float64)).any():
                    raise draft.refusal(
                        f"{described(node)}: its bound {name!r} is nan; export the model again"
                    )


def check_windows(draft: Draft) -> None:
    """Refuse windows that are larger than the map with its padding.

    Raises
    ------
    CompileError
        If there is one, as far as shapes are known.
    """
    shapes = dict(_shapes(draft))
    for node in draft.graph.node:
        if node.op_type not in WINDOWS or not node.input:
            continue
        values = attributes_of(node)
        sizes = shapes.get(node.input[0], ())[2:]
        kernel = values.get("kernel_shape") or _kernel(node, shapes)
        dilations = values.get("dilations") or [1] * len(sizes)
        pads = values.get("pads") or [0] * (2 * len(sizes))
        if values.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            continue
        if not len(kernel) == len(dilations) == len(sizes) == len(pads) / 2:
            continue  # shape inference, or onnxruntime, has more to say
        for axis, size in enumerate(sizes):
            span = (kernel[axis] - 1) * dilations[axis] + 1
            room = None if size is None else size + pads[axis] + pads[axis + len(sizes)]
            if room is not None and span > room:
                raise draft.refusal(
                    f"{described(node)}: its window of {span} is larger than the {room} numbers "
                    f"on axis {axis + 2}, padding included; give the model larger inputs or "
                    "padding"
                )


def _kernel(node: onnx.NodeProto, shapes: Mapping[str, tuple[int | None, ...]]) -> tuple[int, ...]:
    """The window's sizes as the kernels have them; () if they are not known."""
    position = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}.get(node.op_type, 0)
    known = [size for size in shapes.get(node.input[position], ())[2:] if size is not None]
    return tuple(known) if position else ()


def _shapes(draft: Draft) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    for tensor in draft.graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for value in (*draft.graph.input, *draft.graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            yield (
                value.name,
                tuple(
                    dim.dim_value if dim.HasField("dim_value") else None
                    for dim in value.type.tensor_type.shape.dim
                ),
            )
