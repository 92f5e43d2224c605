"""Nodes that depend on constants alone become constants."""

import math
from collections.abc import Collection, Mapping

import onnx
from onnx import numpy_helper

from trencadis_compiler.importer.reading.draft import Draft, reads, subgraphs
from trencadis_compiler.importer.reading.evaluate import EvaluationError, evaluate_nodes
from trencadis_compiler.importer.steps.ends import make_outputs
from trencadis_compiler.importer.steps.shapes import infer_shapes

__all__ = ["MAX_FOLDED_BYTES", "fold_constants"]

MAX_FOLDED_BYTES = 1 << 28
"""Bytes of a constant that is computed; larger ones stay computed on the host."""

MAX_ROUNDS = 64
"""Sizes may depend on values, values on sizes: this often."""

RANDOM = (
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)

DATA_DEPENDENT = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators whose outputs have an unknown size, but not a large one."""

KEPT = ("DequantizeLinear",)
"""Operators that tell how constants are quantised: they stay, and what reads them does."""

NOT_FOLDED = (
    onnx.TensorProto.UNDEFINED,
    onnx.TensorProto.STRING,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)
"""Types that stay: onnxruntime computes chains of the last two in float32, rounded at the end."""

UNSIZED_BYTES = 1 << 20
"""Bytes of inputs up to which an output of unknown size may be computed."""


def fold_constants(draft: Draft, *, kept: Collection[str] = KEPT) -> None:
    """Compute what depends on constants alone, as onnxruntime does, and keep the values.

    Operators in `kept` stay, as does what is random, larger than `MAX_FOLDED_BYTES`, of unknown
    size or refused by onnxruntime. Tensors keep their names.
    """
    for _ in range(MAX_ROUNDS):
        infer_shapes(draft)
        if not _fold_once(draft, kept):
            return


def _fold_once(draft: Draft, kept: Collection[str]) -> bool:
    constants = draft.initialisers()
    types = {value.name: value.type for value in (*draft.graph.value_info, *draft.graph.output)}
    found: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in draft.graph.node:
        names = reads(node)
        known = all(name in constants or name in made for name in names)
        if known and _foldable(node, kept) and _small(node, types, constants):
            found.append(node)
            made.update(name for name in node.output if name)
    if not found:
        return False
    chosen = {id(node) for node in found}
    wanted = {name for node in draft.graph.node if id(node) not in chosen for name in reads(node)}
    wanted |= draft.outputs()
    values = _values(draft, found, made & wanted, types, constants)
    folded = set(values)
    done = [n for n in found if all(o in folded or o not in wanted for o in n.output if o)]
    if not folded:
        return False
    gone = {id(node) for node in done}
    draft.set_nodes([node for node in draft.graph.node if id(node) not in gone])
    for name, tensor in values.items():
        tensor.name = name
        draft.graph.initializer.append(tensor)
    make_outputs(draft)
    return True


def _foldable(node: onnx.NodeProto, kept: Collection[str]) -> bool:
    standard = node.domain in ("", "com.microsoft")
    if not standard or node.op_type in RANDOM or node.op_type in kept:
        return False
    if node.op_type in ("QuantizeLinear", "Constant", "Loop", "Scan"):
        return False
    return not any(
        inner_node.op_type in (*RANDOM, "Loop", "Scan")
        for graph in subgraphs(node)
        for inner_node in graph.node
    )


def _small(
    node: onnx.NodeProto,
    types: Mapping[str, onnx.TypeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> bool:
    """Tell whether all outputs have a known size, and not a large one."""
    for name in node.output:
        if not name:
            continue
        kind = types.get(name)
        if kind is None or kind.WhichOneof("value") != "tensor_type":
            return False
        if kind.tensor_type.elem_type in NOT_FOLDED:
            return False
        if not kind.tensor_type.HasField("shape"):
            return _small_inputs(node, constants)
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in _dims(kind)]
        if -1 in sizes:
            return _small_inputs(node, constants)
        if math.prod(sizes) * 8 > MAX_FOLDED_BYTES:
            return False
    return True


def _small_inputs(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type not in (*DATA_DEPENDENT, "If"):
        return False
    sizes = [constants[name].ByteSize() for name in reads(node) if name in constants]
    return len(sizes) == len(reads(node)) and sum(sizes) <= UNSIZED_BYTES


def _dims(kind: onnx.TypeProto) -> list[onnx.TensorShapeProto.Dimension]:
    return list(kind.tensor_type.shape.dim)


def _values(
    draft: Draft,
    nodes: list[onnx.NodeProto],
    wanted: set[str],
    types: Mapping[str, onnx.TypeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> dict[str, onnx.TensorProto]:
    """The values of tensors; where the nodes cannot run together, of those that can alone."""
    outputs = []
    for name in sorted(wanted):
        value = onnx.ValueInfoProto(name=name)
        value.type.tensor_type.elem_type = types[name].tensor_type.elem_type
        outputs.append(value)
    needed = {name for node in nodes for name in reads(node) if name in constants}
    given = {name: constants[name] for name in sorted(needed)}
    try:
        arrays = evaluate_nodes(nodes, given, outputs, draft.model.opset_import)
    except EvaluationError:
        if len(nodes) == 1:
            return {}
        values: dict[str, onnx.TensorProto] = {}
        for node in nodes:
            names = {name for name in node.output if name}
            if reads(node) <= constants.keys() and names <= types.keys():
                values |= _values(draft, [node], names, types, constants)
        return values
    return {
        value.name: numpy_helper.from_array(array, value.name)
        for value, array in zip(outputs, arrays, strict=True)
    }
