"""Writing small ONNX graphs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["GraphBuilder"]

TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
"""Types of models' inputs and outputs."""

Declared = tuple[str, Sequence[int | str], str]
"""An input or output: its name, shape and type."""


class GraphBuilder:
    """Nodes and constants under way.

    Parameters
    ----------
    rng : Generator
        Decides on forms that mean the same.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._constants: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []

    def constant(self, array: Any, dtype: npt.DTypeLike) -> str:
        """Add a constant, as an initialiser or now and then as a node."""
        name = f"c{len(self._constants) + len(self._nodes)}"
        tensor = numpy_helper.from_array(np.asarray(array, dtype), name)
        if self._rng.random() < 0.1:
            self._nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self._constants.append(tensor)
        return name

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.nodes(op_type, *inputs, outputs=1, **attributes)[0]

    def nodes(self, op_type: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node."""
        number = len(self._nodes)
        names = [f"v{number}_{i}" for i in range(outputs)]
        name = f"{op_type}{number}" if self._rng.random() < 0.9 else ""
        self._nodes.append(helper.make_node(op_type, inputs, names, name, **attributes))
        return names

    def model(
        self, inputs: Sequence[Declared], outputs: Sequence[Declared], opset: int
    ) -> onnx.ModelProto:
        """A model of the graph."""
        graph = helper.make_graph(
            self._nodes,
            "fuzzed",
            [_info(*declared) for declared in inputs],
            [_info(*declared) for declared in outputs],
            self._constants,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )


def _info(name: str, shape: Sequence[int | str], dtype: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[dtype], list(shape))
