"""Types and shapes of all tensors, as far as they follow from those of the inputs."""

import onnx
import onnx.shape_inference

from trencadis_compiler.importer.reading.draft import Draft

__all__ = ["infer_shapes", "inferred_model"]


def infer_shapes(draft: Draft) -> None:
    """Write what can be inferred to the graph's value_info, in place of what is there.

    What a file says about tensors inside is believed only where nothing else is known: it may be of
    another batch size.

    Raises
    ------
    CompileError
        If operators and the shapes of what they read contradict each other.
    """
    inferred = inferred_model(draft)
    known = {value.name for value in inferred.graph.value_info if value.type.WhichOneof("value")}
    made = {name for node in draft.graph.node for name in node.output}
    rest = [v for v in draft.graph.value_info if v.name not in known and v.name in made]
    del draft.graph.value_info[:]
    draft.graph.value_info.extend(inferred.graph.value_info)
    draft.graph.value_info.extend(rest)
    found = {value.name: value for value in inferred.graph.output}
    for value in draft.graph.output:
        _complete(value, found[value.name])


def inferred_model(draft: Draft) -> onnx.ModelProto:
    """A copy without large constants, with all types and shapes that follow from the inputs.

    Raises
    ------
    CompileError
        If operators and the shapes of what they read contradict each other.
    """
    light = draft.light()
    del light.graph.value_info[:]
    for value in light.graph.output:
        # What the nodes make holds; what was declared fills in what does not follow from them.
        value.type.tensor_type.ClearField("shape")
    _check_before_slices(draft, light)
    return _inferred(draft, light)


def _check_before_slices(draft: Draft, light: onnx.ModelProto) -> None:
    """Refuse sizes below zero that a Slice reads: onnx ends the whole process at such a Slice."""
    if not any(node.op_type == "Slice" for node in light.graph.node):
        return
    before = onnx.ModelProto()
    before.CopyFrom(light)
    del before.graph.node[:]
    before.graph.node.extend(node for node in light.graph.node if node.op_type != "Slice")
    for value in _inferred(draft, before).graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                raise draft.refusal(
                    f"tensor {value.name!r} would have a size of {dim.dim_value}; export the "
                    "model again"
                )


def _inferred(draft: Draft, model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except Exception as error:  # the package's errors have no common base
        reason = " ".join(str(error).split())[:160]
        raise draft.refusal(
            f"the shapes in the model contradict each other ({reason}); export it again"
        ) from error


def _complete(declared: onnx.ValueInfoProto, inferred: onnx.ValueInfoProto) -> None:
    """Set an output's type to what was inferred, and its open sizes to what was declared."""
    if inferred.type.WhichOneof("value") != "tensor_type":
        return
    kind, new = declared.type.tensor_type, inferred.type.tensor_type
    if new.elem_type:
        kind.elem_type = new.elem_type
    if not new.HasField("shape"):
        return
    old = list(kind.shape.dim) if kind.HasField("shape") else []
    dims = [onnx.TensorShapeProto.Dimension() for _ in new.shape.dim]
    for number, (dim, inferred_dim) in enumerate(zip(dims, new.shape.dim, strict=True)):
        dim.CopyFrom(inferred_dim)
        same_rank = len(old) == len(dims)
        if not dim.HasField("dim_value") and same_rank and old[number].WhichOneof("value"):
            dim.CopyFrom(old[number])
    kind.ClearField("shape")
    kind.shape.dim.extend(dims)
    if not dims:
        kind.shape.SetInParent()
