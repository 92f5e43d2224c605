"""Host segments are graphs of known operators that refer to nothing outside."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_format.onnx_check import check_host_graph, operators_of


def model(*nodes: Any, constants: Any = (), **more: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        list(constants),
    )
    return helper.make_model(graph, **more)


def checked(made: onnx.ModelProto) -> None:
    check_host_graph(made.SerializeToString(), ("x",), ("y",))


def test_a_usual_graph() -> None:
    weights = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    made = model(helper.make_node("MatMul", ["x", "w"], ["y"]), constants=[weights])
    checked(made)
    assert operators_of(made.SerializeToString()) == ["MatMul"]


def test_operators_of_other_domains() -> None:
    with pytest.raises(ValueError, match=r"operators of domain 'evil\.example'"):
        checked(model(helper.make_node("Run", ["x"], ["y"], domain="evil.example")))


def test_operators_of_other_domains_in_subgraphs() -> None:
    inner = helper.make_graph(
        [helper.make_node("Run", ["x"], ["z"], domain="evil.example")], "i", [], []
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(ValueError, match=r"operators of domain 'evil\.example'"):
        checked(model(node))


def test_data_in_other_files() -> None:
    weights = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    with pytest.raises(ValueError, match="has data in other files"):
        checked(model(helper.make_node("MatMul", ["x", "w"], ["y"]), constants=[weights]))


def test_functions_of_its_own() -> None:
    function = helper.make_function(
        "", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], []
    )
    with pytest.raises(ValueError, match="brings functions"):
        checked(model(helper.make_node("F", ["x"], ["y"]), functions=[function]))


def test_other_inputs_and_outputs() -> None:
    data = model(helper.make_node("Relu", ["x"], ["y"])).SerializeToString()
    with pytest.raises(ValueError, match="the inputs of a host segment are not those"):
        check_host_graph(data, ("z",), ("y",))
    with pytest.raises(ValueError, match="the outputs of a host segment are not those"):
        check_host_graph(data, ("x",), ())


def test_every_truncation_is_refused() -> None:
    data = model(helper.make_node("Relu", ["x"], ["y"])).SerializeToString()
    after = len(model(helper.make_node("Relu", ["x"], ["y"])).opset_import[0].SerializeToString())
    for length in range(len(data) - after - 2):
        with pytest.raises(ValueError, match=r"host segment|protobuf"):
            check_host_graph(data[:length], ("x",), ("y",))
