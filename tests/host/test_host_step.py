"""Host segments that never end, or ask for all memory."""

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trencadis_format import onnxruntime_door
from trencadis_format.compiled import HostSegment
from trencadis_host.errors import DeviceError
from trencadis_host.host_step import HostStep

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
info = helper.make_tensor_value_info


def segment(nodes: list[Any], inputs: list[Any], output: Any) -> HostSegment:
    graph = helper.make_graph(nodes, "g", inputs, [output])
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    names = tuple(value.name for value in inputs)
    return HostSegment(
        model=model.SerializeToString(),
        inputs=names,
        outputs=(output.name,),
        nodes=("node",),
    )


def loop() -> HostSegment:
    """Adds 1 as long as its condition holds, which does not change."""
    one = onnx.numpy_helper.from_array(np.ones(1, np.float32), "one")
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "one"], ["w"])],
        "body",
        [info("i", INT64, []), info("c", BOOL, []), info("v", FLOAT, [1])],
        [info("d", BOOL, []), info("w", FLOAT, [1])],
        [one],
    )
    node = helper.make_node("Loop", ["n", "go", "x"], ["y"], body=body)
    inputs = [info("x", FLOAT, [1]), info("go", BOOL, []), info("n", INT64, [])]
    return segment([node], inputs, info("y", FLOAT, [1]))


def test_a_loop_without_an_end_has_one() -> None:
    step = HostStep(loop(), timeout_s=0.3)
    feed: dict[str, Any] = {"x": np.zeros(1, np.float32), "go": np.array(True)}
    begin = time.monotonic()
    with pytest.raises(DeviceError, match=r"^a host segment with loops took longer than 0\.3 s; "):
        step.run(feed | {"n": np.array(1 << 62)})
    assert time.monotonic() - begin < 60
    made, _ = step.run(feed | {"n": np.array(5)})
    assert made["y"].tolist() == [5]


def test_sizes_that_values_ask_for_are_bounded() -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["filled"]),
        helper.make_node("ReduceSum", ["filled"], ["y"], keepdims=0),
    ]
    step = HostStep(segment(nodes, [info("n", INT64, [1])], info("y", FLOAT, [])), 600)
    with pytest.raises(DeviceError, match=r"^a host segment failed: .*smaller than requested"):
        step.run({"n": np.array([onnxruntime_door.MAX_SESSION_BYTES])})
    made, _ = step.run({"n": np.array([1000])})
    assert made["y"] == 0
