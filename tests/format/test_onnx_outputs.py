"""Tensors within an ONNX file as outputs."""

import onnx
import pytest
from onnx import TensorProto, helper

from trencadis_format.onnx_outputs import made_tensors, output_tensors, with_outputs


def chain(names: list[str]) -> onnx.ModelProto:
    """Relu after Relu; the last one is the output."""
    made = zip(names, names[1:], strict=False)
    graph = helper.make_graph(
        [helper.make_node("Relu", [before], [after]) for before, after in made],
        "g",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [1])],
    )
    return helper.make_model(graph)


def test_names() -> None:
    data = chain(["x", "a", "ü" * 70, "y"]).SerializeToString()
    assert made_tensors(data) == ["a", "ü" * 70, "y"]
    assert output_tensors(data) == ["y"]


def test_further_outputs_are_added_once() -> None:
    model = chain(["x", "a", "ü" * 70, "y"])
    wanted = with_outputs(model.SerializeToString(), ["ü" * 70, "y", "ü" * 70])
    model.graph.output.add().name = "ü" * 70
    assert onnx.load_from_string(wanted) == model


def test_nothing_to_add() -> None:
    data = chain(["x", "y"]).SerializeToString()
    assert with_outputs(data, ["y"]) == data


@pytest.mark.parametrize("data", [b"no model", b"\x3a\x05\x0a", b"\xff" * 20])
def test_what_is_no_model(data: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        made_tensors(data)
