"""Small models for the judge, and what they are in exact arithmetic."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Model = Callable[..., onnx.ModelProto]


class Graph:
    """Nodes and constants of a test."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any, dtype: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, dtype), name))
        return name

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        return output

    def pair(self, source: str, name: str, scale: float, zero: int = 0) -> str:
        """A QuantizeLinear to the integers `name`, and a DequantizeLinear."""
        numbers = [self.constant(scale, np.float32), self.constant(zero, np.int8)]
        self.node("QuantizeLinear", [source, *numbers], name)
        return self.node("DequantizeLinear", [name, *numbers], f"{name}.real")

    def weights(self, array: Any, scale: float) -> str:
        numbers = [self.constant(scale, np.float32), self.constant(0, np.int8)]
        name = self.constant(array, np.int8)
        return self.node("DequantizeLinear", [name, *numbers], f"{name}.real")

    def model(self, shape: list[int | str], output: str, opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture
def graph() -> Graph:
    return Graph()
