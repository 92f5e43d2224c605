"""A float model with what can be merged into its layers merged: before it is quantised."""

import tempfile
from pathlib import Path

import onnx

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.reading.draft import Draft
from trencadis_compiler.importer.standard import StandardModel, standard_form
from trencadis_compiler.importer.steps.fold_constants import fold_constants
from trencadis_compiler.importer.steps.opset import STANDARD_OPSET
from trencadis_compiler.importer.steps.shapes import infer_shapes
from trencadis_format.onnxruntime_door import load_onnxruntime

__all__ = ["merge_float"]

TOKENS_MERGED = "MatMulAddFusion"
"""An optimisation that would flatten the tokens of every layer, and so hide the batch."""

MAX_MERGED = 1 << 30
"""Bytes of a model that onnxruntime is given to merge; larger ones stay as they are."""


def merge_float(standard: StandardModel) -> Draft:
    """A copy in which onnxruntime has merged normalisations, scales and biases into layers.

    Every node has a name of its own: its own one, if it is the first of that name.

    Raises
    ------
    CompileError
        If onnxruntime refuses the model.
    """
    model = onnx.ModelProto()
    model.CopyFrom(standard.model)
    draft = Draft(model, standard.path)
    fold_constants(draft, kept=())  # weights that are only stored in few bits
    _name_nodes(draft)
    if model.ByteSize() <= MAX_MERGED:
        merged = _merged(draft)
        model = standard_form(merged, standard.path, standard.sha256).model
        draft = Draft(model, standard.path)
        _name_nodes(draft)
    _merge_biases(draft)
    infer_shapes(draft)
    return draft


def _merged(draft: Draft) -> onnx.ModelProto:
    """The model after onnxruntime's basic optimisations, which use standard operators only."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="trencadis-") as folder:
        path = Path(folder) / "merged.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(
                draft.model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=[TOKENS_MERGED],
            )
            merged = onnx.load(str(path))
        except Exception as error:  # onnxruntime's errors have no common base
            reason = " ".join(str(error).split())[:160]
            raise draft.refusal(f"onnxruntime cannot run the model ({reason})") from error
    kept = [entry for entry in merged.opset_import if entry.domain == ""]
    if not kept or kept[0].version < STANDARD_OPSET:
        raise CompileError(f"{draft.path}: onnxruntime changed the model's opset")
    for value, old in zip(merged.graph.input, draft.graph.input, strict=True):
        value.CopyFrom(old)
    return merged


def _name_nodes(draft: Draft) -> None:
    taken: set[str] = set()
    for number, node in enumerate(draft.graph.node):
        base = node.name or next((name for name in node.output if name), f"node_{number}")
        name, count = base, 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        node.name = name
        taken.add(name)


def _merge_biases(draft: Draft) -> None:
    """Make one Gemm of MatMul and Add, which onnxruntime does not do everywhere."""
    infer_shapes(draft)
    constants = draft.initialisers()
    readers = draft.readers()
    outputs = draft.outputs()
    merged: dict[str, onnx.NodeProto] = {}
    gone: set[str] = set()
    for matmul in draft.graph.node:
        if matmul.op_type != "MatMul" or matmul.domain or draft.rank(matmul.input[0]) != 2:
            continue
        weights = constants.get(matmul.input[1])
        product = matmul.output[0]
        users = readers.get(product, [])
        if weights is None or len(users) != 1 or users[0].op_type != "Add" or product in outputs:
            continue
        add = users[0]
        bias = next((name for name in add.input if name != product), "")
        if bias not in constants or len(weights.dims) != 2:
            continue
        array = draft.array(constants[bias])
        if array.size not in (1, weights.dims[1]) or (array.ndim and array.shape[-1] != array.size):
            continue
        vector = array.reshape(-1).repeat(weights.dims[1] // array.size)
        name = draft.add_constant(f"{bias}_vector", vector)
        merged[add.name] = onnx.helper.make_node(
            "Gemm", [*matmul.input, name], list(add.output), matmul.name
        )
        gone.add(matmul.name)
    draft.set_nodes(
        [merged.get(node.name, node) for node in draft.graph.node if node.name not in gone]
    )
