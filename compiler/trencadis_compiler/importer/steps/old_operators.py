"""Old operators that onnx's own converter does not convert, or not to the same function."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from trencadis_compiler.importer.reading.draft import Draft, attributes_of, described

__all__ = ["OLD_OPERATORS"]

Converter = Callable[[Draft, onnx.NodeProto, int], list[onnx.NodeProto] | None]


def _rebuilt(
    node: onnx.NodeProto,
    *,
    op_type: str = "",
    inputs: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    **attributes: Any,
) -> list[onnx.NodeProto]:
    """A node with other inputs and attributes."""
    kept = {name: v for name, v in attributes_of(node).items() if name not in drop}
    new = onnx.helper.make_node(
        op_type or node.op_type,
        list(node.input) if inputs is None else list(inputs),
        list(node.output),
        node.name,
        **(kept | attributes),
    )
    return [new]


def _same(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """Keep a node whose new attributes and inputs are optional and change nothing."""
    return [node]


def _axes_input(since: int) -> Converter:
    """Attribute `axes` becomes an input."""

    def convert(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
        axes = attributes_of(node).get("axes")
        if opset >= since or axes is None:
            return [node]
        name = draft.add_constant(f"{node.output[0]}_axes", np.array(axes, np.int64))
        return _rebuilt(node, inputs=[node.input[0], name], drop=["axes"])

    return convert


def _clip(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """Bounds become inputs."""
    if opset >= 11:
        return [node]
    values = attributes_of(node)
    names = [
        draft.add_constant(f"{node.output[0]}_{key}", np.float32(values[key]))
        if key in values
        else ""
        for key in ("min", "max")
    ]
    while names and not names[-1]:
        names.pop()
    return _rebuilt(node, inputs=[node.input[0], *names], drop=["min", "max"])


def _dropout(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto] | None:
    """A Dropout of which only the data are read does nothing."""
    if opset >= 12:
        return [node]
    if len(node.output) > 1 and node.output[1]:
        return None
    return [onnx.helper.make_node("Identity", node.input[:1], node.output[:1], node.name)]


def _pad(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """Pads and value become inputs."""
    if opset >= 11:
        return [node]
    values = attributes_of(node)
    pads = draft.add_constant(f"{node.output[0]}_pads", np.array(values["pads"], np.int64))
    value = draft.add_constant(f"{node.output[0]}_value", np.float32(values.get("value", 0.0)))
    return _rebuilt(node, inputs=[node.input[0], pads, value], drop=["pads", "value"])


def _slice(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """Starts, ends and axes become inputs."""
    if opset >= 10:
        return [node]
    values = attributes_of(node)
    axes = values.get("axes", list(range(len(values["starts"]))))
    names = [
        draft.add_constant(f"{node.output[0]}_{key}", np.array(numbers, np.int64))
        for key, numbers in (("starts", values["starts"]), ("ends", values["ends"]), ("axes", axes))
    ]
    return _rebuilt(node, inputs=[node.input[0], *names], drop=["starts", "ends", "axes"])


def _split(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """Sizes become an input; where there are none, the number of outputs is said."""
    sizes = attributes_of(node).get("split")
    if opset < 13 and sizes is not None:
        name = draft.add_constant(f"{node.output[0]}_split", np.array(sizes, np.int64))
        return _rebuilt(node, inputs=[node.input[0], name], drop=["split"])
    if len(node.input) > 1 and node.input[1]:
        return [node]
    return _rebuilt(node, num_outputs=len(node.output))


def _top_k(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """The number becomes an input."""
    if opset >= 10:
        return [node]
    k = draft.add_constant(f"{node.output[0]}_k", np.array([attributes_of(node)["k"]], np.int64))
    return _rebuilt(node, inputs=[node.input[0], k], drop=["k"])


def _resize(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """Scales move to where they are today; positions are those of the first definition."""
    if opset >= 11:
        return [node]
    return _resized(node, [node.input[0], "", node.input[1]])


def _upsample(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """Resize has taken the place of Upsample."""
    if opset >= 9:
        return _resized(node, [node.input[0], "", node.input[1]])
    scales = np.array(attributes_of(node)["scales"], np.float32)
    return _resized(
        node, [node.input[0], "", draft.add_constant(f"{node.output[0]}_scales", scales)]
    )


def _resized(node: onnx.NodeProto, inputs: Sequence[str]) -> list[onnx.NodeProto]:
    return _rebuilt(
        node,
        op_type="Resize",
        inputs=inputs,
        drop=["scales"],
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _scan(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """Scan of opset 8 had a batch axis of its own."""
    if opset < 9:
        raise draft.refusal(
            f"{described(node)} of opset {opset} is not converted; export the model for opset 13 "
            "or later"
        )
    return [node]


def _scatter(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """ScatterElements is the later name."""
    return _rebuilt(node, op_type="ScatterElements")


def _softmax(draft: Draft, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """All axes from one on counted together, which is written out; the last one alone did not."""
    if opset >= 13:
        return [node]
    (source,), (output,) = node.input, node.output
    shape, flat, result = (
        draft.fresh(f"{output}_{suffix}") for suffix in ("shape", "flat", "flat_result")
    )
    axis = attributes_of(node).get("axis", 1)
    if axis in (-1, draft.rank(source) - 1):
        return _rebuilt(node, axis=-1)
    return [
        onnx.helper.make_node("Shape", [source], [shape], shape),
        onnx.helper.make_node("Flatten", [source], [flat], flat, axis=axis),
        onnx.helper.make_node(node.op_type, [flat], [result], node.name, axis=-1),
        onnx.helper.make_node("Reshape", [result, shape], [output], result),
    ]


def _batch_normalisation(
    draft: Draft, node: onnx.NodeProto, opset: int
) -> list[onnx.NodeProto] | None:
    """Make it one for inference: there is one output, and an attribute less."""
    values = attributes_of(node)
    if opset >= 14:
        return [node]
    if len([name for name in node.output if name]) > 1 or not values.get("spatial", 1):
        return None
    [new] = _rebuilt(node, drop=["spatial", "consumed_inputs", "is_test"])
    del new.output[1:]
    return [new]


_REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
)

OLD_OPERATORS: Mapping[str, Converter] = {
    "ArgMax": _same,
    "ArgMin": _same,
    "AveragePool": _same,
    "BatchNormalization": _batch_normalisation,
    "Cast": _same,
    "CastLike": _same,
    "Clip": _clip,
    "Constant": _same,
    "DepthToSpace": _same,
    "DequantizeLinear": _same,
    "Dropout": _dropout,
    "GRU": _same,
    "GatherND": _same,
    "Gemm": _same,
    "Hardmax": _softmax,
    "LSTM": _same,
    "LogSoftmax": _softmax,
    "LpPool": _same,
    "MaxPool": _same,
    "Pad": _pad,
    "QuantizeLinear": _same,
    "RNN": _same,
    "ReduceSum": _axes_input(13),
    "Reshape": _same,
    "Resize": _resize,
    "Scan": _scan,
    "Scatter": _scatter,
    "ScatterElements": _same,
    "ScatterND": _same,
    "Shape": _same,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _axes_input(13),
    "TopK": _top_k,
    "Unsqueeze": _axes_input(13),
    "Upsample": _upsample,
    **{name: _axes_input(18) for name in _REDUCTIONS},
}
"""Converters from any opset from 7 on. None: onnx's converter is to do it.

Not here, and left to it: GroupNormalization, GridSample, DFT, RoiAlign and what else has
changed.
"""
