"""Truly sparse networks of integers as quantised ONNX (QDQ).

Weights are a `sparse_initializer` (COO): int8 values, and int64 places `output * inputs + input` in
ascending order, so a layer of 100,000 x 100,000 with a million connections is a file of 9 MB. They
go into a DequantizeLinear as dense ones would. Dense weights are written on request.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trencadis_format.files import write_atomically
from trencadis_train.errors import TrainingError
from trencadis_train.sparse.integer.integers import SparseIntegerLayer, SparseIntegers
from trencadis_train.sparse.integer.quantise import ByteGrid

__all__ = ["MAX_DENSE_BYTES", "export_sparse_onnx", "sparse_to_onnx"]

OPSET = 13
IR_VERSION = 8

MAX_DENSE_BYTES = 1 << 28
"""Size of all weights of a file, if they are to be dense."""

MAX_FILE_BYTES = (1 << 31) - 1
"""Protocol buffers have no more."""

Array = npt.NDArray[Any]


def export_sparse_onnx(network: SparseIntegers, path: Path, *, dense: bool = False) -> None:
    """Write a network; the file appears complete or not at all.

    Raises
    ------
    TrainingError
        If the file would be too large.
    """
    write_atomically(
        path, sparse_to_onnx(network, dense=dense).SerializeToString(deterministic=True)
    )


def sparse_to_onnx(network: SparseIntegers, *, dense: bool = False) -> onnx.ModelProto:
    """A network as quantised ONNX.

    Its input is float32, `input` of shape (N, 1, rows, columns) with bytes as they are, its output
    float32, `logits` of shape (N, classes).

    Parameters
    ----------
    network : SparseIntegers
        The network.
    dense : bool
        Write weights densely, zeros and all.

    Raises
    ------
    TrainingError
        If the file would be too large.
    """
    places = sum(layer.topology.inputs * layer.topology.outputs for layer in network.layers)
    if dense and places > MAX_DENSE_BYTES:
        raise TrainingError(
            f"dense weights must have {MAX_DENSE_BYTES} bytes at most, not {places}; write them "
            "sparse"
        )
    if not dense and 9 * network.nonzeros > MAX_FILE_BYTES:
        raise TrainingError(
            f"an ONNX file must have {MAX_FILE_BYTES} bytes at most, and {network.nonzeros} "
            "connections need 9 each; prune the network"
        )
    return _Writer(network, dense).write()


class _Writer:
    def __init__(self, network: SparseIntegers, dense: bool) -> None:
        self._network = network
        self._dense = dense
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._sparse: list[onnx.SparseTensorProto] = []

    def write(self) -> onnx.ModelProto:
        network = self._network
        value = self._requantise("input", network.layers[0].input, "input")
        value = self._node("Flatten", [value], "input.flatten", axis=1)
        for number, layer in enumerate(network.layers):
            value = self._layer(value, layer, f"layer{number}")
        self._nodes[-1].output[0] = "logits"
        outputs = network.layers[-1].topology.outputs
        graph = helper.make_graph(
            self._nodes,
            network.name,
            [_float_tensor("input", network.input_shape)],
            [_float_tensor("logits", (outputs,))],
            self._constants,
            sparse_initializer=self._sparse,
        )
        return helper.make_model(
            graph,
            producer_name="trencadis",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )

    def _layer(self, value: str, layer: SparseIntegerLayer, name: str) -> str:
        self._weights(f"{name}.weight", layer)
        weights = self._dequantised(f"{name}.weight", layer.weight_scale, np.int8)
        self._constant(f"{name}.bias", layer.bias)
        bias = self._dequantised(f"{name}.bias", layer.bias_scale, np.int32)
        value = self._node("Gemm", [value, weights, bias], name, transB=1)
        if layer.sums is not None:
            value = self._requantise(value, layer.sums, f"{name}.sums")
        if layer.slope == 0:
            value = self._node("Relu", [value], f"{name}.relu")
        elif layer.slope != 1:
            value = self._node("LeakyRelu", [value], f"{name}.activation", alpha=layer.slope)
        value = self._requantise(value, layer.output, f"{name}.output")
        if layer.winners and layer.winners < layer.topology.outputs:
            value = self._winners(value, layer, name)
        return value

    def _winners(self, value: str, layer: SparseIntegerLayer, name: str) -> str:
        k = self._constant(f"{name}.k", np.array([layer.winners], np.int64))
        top = helper.make_node(
            "TopK",
            [value, k],
            [f"{name}.top", f"{name}.top.indices"],
            f"{name}.top",
            axis=1,
            largest=1,
            sorted=1,
        )
        self._nodes.append(top)
        shape = self._node("Shape", [value], f"{name}.shape")
        zeros = self._node("ConstantOfShape", [shape], f"{name}.zeros")
        value = self._node(
            "ScatterElements", [zeros, top.output[1], top.output[0]], f"{name}.winners", axis=1
        )
        return self._requantise(value, layer.output, f"{name}.selected")

    def _weights(self, name: str, layer: SparseIntegerLayer) -> None:
        topology = layer.topology
        shape = (topology.outputs, topology.inputs)
        if self._dense:
            matrix = np.zeros(topology.outputs * topology.inputs, np.int8)
            matrix[topology.keys()] = layer.weights
            self._constant(name, matrix.reshape(shape))
            return
        values = numpy_helper.from_array(layer.weights, name)
        places = numpy_helper.from_array(topology.keys(), f"{name}.places")
        self._sparse.append(helper.make_sparse_tensor(values, places, list(shape)))

    def _requantise(self, value: str, grid: ByteGrid, name: str) -> str:
        numbers = [
            self._constant(f"{name}.scale", np.array(grid.scale, np.float32)),
            self._constant(f"{name}.zero_point", np.array(grid.zero, np.uint8)),
        ]
        value = self._node("QuantizeLinear", [value, *numbers], f"{name}.quantised")
        return self._node("DequantizeLinear", [value, *numbers], f"{name}.dequantised")

    def _dequantised(self, name: str, scale: Array, kind: type[np.signedinteger[Any]]) -> str:
        numbers = [
            self._constant(f"{name}.scale", scale),
            self._constant(f"{name}.zero_point", np.zeros(scale.shape, kind)),
        ]
        return self._node("DequantizeLinear", [name, *numbers], f"{name}.dequantised", axis=0)

    def _constant(self, name: str, array: Array) -> str:
        self._constants.append(
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        )
        return name

    def _node(self, op_type: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name


def _float_tensor(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
