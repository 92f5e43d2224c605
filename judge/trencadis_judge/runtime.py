"""The nodes between held tensors on onnxruntime."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from trencadis_format.onnxruntime_door import exact_mode, open_session
from trencadis_judge.graph import JudgedModel
from trencadis_judge.node import proto_reads

__all__ = ["MAX_RUNTIME_BYTES", "RuntimeUnit", "WholeRuntime", "constant_bytes"]

Array = npt.NDArray[Any]

MAX_RUNTIME_BYTES = 1 << 30
"""Bytes of a unit's constants, written out dense, above which onnxruntime is not run."""


def constant_bytes(model: JudgedModel, nodes: Sequence[int]) -> int:
    """Bytes of the constants that nodes read, sparse ones written out."""
    names = {name for number in nodes for name in model.reads(model.nodes[number])}
    total = 0
    for name in names:
        if name in model.initializers:
            tensor = model.initializers[name]
            total += int(np.prod(tensor.dims, dtype=np.float64)) * _itemsize(tensor.data_type)
        elif name in model.sparse_initializers:
            sparse = model.sparse_initializers[name]
            total += int(np.prod(sparse.dims, dtype=np.float64)) * _itemsize(
                sparse.values.data_type
            )
    return total


def _itemsize(data_type: int) -> int:
    return np.dtype(helper.tensor_dtype_to_np_dtype(data_type)).itemsize


class RuntimeUnit:
    """Nodes of a model as a model of their own.

    Parameters
    ----------
    model : JudgedModel
        The model.
    nodes : sequence of int
        Numbers of the nodes.
    inputs : mapping of str to dtype
        Tensors that are given.
    outputs : mapping of str to dtype
        Tensors that are asked for.
    """

    def __init__(
        self,
        model: JudgedModel,
        nodes: Sequence[int],
        inputs: Mapping[str, np.dtype[Any]],
        outputs: Mapping[str, np.dtype[Any]],
    ) -> None:
        protos = list(
            {id(node.proto): node.proto for node in map(model.nodes.__getitem__, nodes)}.values()
        )
        read = {name for proto in protos for name in proto_reads(proto)}
        graph = helper.make_graph(
            protos,
            "unit",
            [_info(name, dtype) for name, dtype in inputs.items() if name in read],
            [_info(name, dtype) for name, dtype in outputs.items()],
            [tensor for name, tensor in model.initializers.items() if name in read],
            sparse_initializer=[
                tensor for name, tensor in model.sparse_initializers.items() if name in read
            ],
        )
        unit = helper.make_model(
            graph,
            opset_imports=list(model.proto.opset_import),
            ir_version=min(max(model.proto.ir_version, 4), 10),
        )
        self.names = tuple(outputs)
        self._inputs = tuple(name for name in inputs if name in read)
        mode = exact_mode(proto.op_type for proto in protos)
        self._session = open_session(unit.SerializeToString(), mode)

    def run(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs from given tensors, of the types in the file."""
        feed = {name: np.ascontiguousarray(given[name]) for name in self._inputs}
        return dict(zip(self.names, self._session.run(list(self.names), feed), strict=True))


class WholeRuntime:
    """The whole model on onnxruntime.

    Parameters
    ----------
    model : JudgedModel
        The model.
    """

    def __init__(self, model: JudgedModel) -> None:
        mode = exact_mode(node.op_type for node in model.nodes)
        self._session = open_session(model.proto.SerializeToString(), mode)
        self._types = {info.name: info.dtype for info in model.inputs}
        self._names = [info.name for info in model.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs."""
        feed = {
            name: np.ascontiguousarray(array.astype(self._types[name], copy=False))
            for name, array in inputs.items()
        }
        return dict(zip(self._names, self._session.run(self._names, feed), strict=True))


def _info(name: str, dtype: np.dtype[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), None)
