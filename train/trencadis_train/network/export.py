"""Networks of integers as quantised ONNX: the only module that imports onnx.

Every tensor of activations is followed by a QuantizeLinear and a DequantizeLinear, weights and
biases are integers with a DequantizeLinear (QDQ). k-WTA is TopK and ScatterElements. The batch is
open. `sparse-compile` takes the file, and onnxruntime runs it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trencadis_format.files import write_atomically
from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_train.network.integers import ByteScale, IntegerLayer, IntegerNetwork

__all__ = ["OPSET", "export_onnx", "run_onnx", "to_onnx"]

OPSET = 13
"""The first in which weights may have a scale for every kernel."""

IR_VERSION = 8

Array = npt.NDArray[Any]


def export_onnx(network: IntegerNetwork, path: Path) -> None:
    """Write a network as quantised ONNX; the file appears complete or not at all."""
    write_atomically(path, to_onnx(network).SerializeToString(deterministic=True))


def to_onnx(network: IntegerNetwork) -> onnx.ModelProto:
    """A network as quantised ONNX.

    Its input is float32, `input` of shape (N, channels, rows, columns), its output float32,
    `logits` of shape (N, classes).
    """
    return _Writer(network).write()


def run_onnx(model: Path | onnx.ModelProto, inputs: npt.NDArray[np.float32]) -> Array:
    """Outputs of a model with one input, by onnxruntime on the CPU without optimisations."""
    source = model if isinstance(model, Path) else model.SerializeToString()
    session = open_session(source, Mode.PLAIN, threads=1)
    name = session.get_inputs()[0].name
    parts = np.array_split(inputs, max(1, len(inputs) // 256))
    return np.concatenate([np.asarray(session.run(None, {name: part})[0]) for part in parts])


class _Writer:
    def __init__(self, network: IntegerNetwork) -> None:
        self._network = network
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def write(self) -> onnx.ModelProto:
        """Node by node."""
        network = self._network
        value = self._requantise("input", network.layers[0].input, "input")
        for layer in network.layers:
            value = self._layer(value, layer)
        self._nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            self._nodes,
            network.name,
            [_float_tensor("input", network.input_shape)],
            [_float_tensor("logits", (len(network.layers[-1].bias),))],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            producer_name="trencadis",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _layer(self, value: str, layer: IntegerLayer) -> str:
        name = f"layer{layer.name}"
        if layer.flatten:
            value = self._node("Flatten", [value], f"{name}.flatten", axis=1)
        weights = self._dequantised(f"{name}.weight", layer.weights, layer.weight_scale, axis=0)
        bias = self._dequantised(f"{name}.bias", layer.bias, layer.bias_scale, axis=0)
        if layer.weights.ndim == 2:
            value = self._node("Gemm", [value, weights, bias], name, transB=1)
        else:
            rows, columns = layer.padding
            value = self._node(
                "Conv",
                [value, weights, bias],
                name,
                kernel_shape=list(layer.weights.shape[2:]),
                strides=list(layer.stride),
                pads=[rows, columns, rows, columns],
            )
        if layer.relu:
            value = self._node("Relu", [value], f"{name}.relu")
        if layer.pool is not None:
            window = list(layer.pool)
            value = self._node(
                "MaxPool", [value], f"{name}.pool", kernel_shape=window, strides=window
            )
        value = self._requantise(value, layer.output, f"{name}.keys")
        if layer.k is not None:
            k = self._constant(f"{name}.k", np.array([layer.k], np.int64))
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
            value = self._requantise(value, layer.output, f"{name}.selected")
        return value

    def _requantise(self, value: str, scale: ByteScale, name: str) -> str:
        numbers = [
            self._constant(f"{name}.scale", np.array(scale.scale, np.float32)),
            self._constant(f"{name}.zero_point", np.array(scale.zero_point, np.uint8)),
        ]
        value = self._node("QuantizeLinear", [value, *numbers], f"{name}.quantised")
        return self._node("DequantizeLinear", [value, *numbers], f"{name}.dequantised")

    def _dequantised(self, name: str, integers: Array, scale: Array, *, axis: int) -> str:
        zero = np.zeros(scale.shape, integers.dtype)
        inputs = [
            self._constant(name, integers),
            self._constant(f"{name}.scale", scale),
            self._constant(f"{name}.zero_point", zero),
        ]
        return self._node("DequantizeLinear", inputs, f"{name}.dequantised", axis=axis)

    def _constant(self, name: str, array: Array) -> str:
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _node(self, op_type: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name


def _float_tensor(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
