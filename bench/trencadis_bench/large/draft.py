"""Quantised networks written layer by layer: QDQ ONNX with random sparse weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Draft", "Real"]

Array = npt.NDArray[Any]

OPSET, IR_VERSION = 17, 8

WEIGHT_DEVIATION = 40
"""Standard deviation of integer weights that are not zero."""

DEVIATIONS = 4.0
"""Standard deviations of an activation that its quantisation holds."""

MAX_UINT8, MAX_INT8 = 255, 127


@dataclass(frozen=True)
class Real:
    """A tensor of real numbers under way.

    Attributes
    ----------
    name : str
        Name of the tensor.
    shape : tuple of int
        Its sizes, batch included.
    size : float
        Root of the mean square of its numbers, about.
    scale : float
        Scale of its quantisation; 0 if it was not quantised.
    """

    name: str
    shape: tuple[int, ...]
    size: float
    scale: float = 0.0


class Draft:
    """A graph under way.

    Parameters
    ----------
    seed : int
        Seed of all random numbers: the same seed gives the same file.
    sparsity : float
        Part of the weights of a layer that is zero, anywhere.
    """

    def __init__(self, seed: int, sparsity: float) -> None:
        self.rng = np.random.default_rng(seed)
        self._sparsity = sparsity
        self._inputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def input(self, name: str, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> Real:
        """Declare an input of normal numbers, or of integers."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return Real(name, tuple(shape), 1.0)

    def constant(self, array: Any, dtype: npt.DTypeLike, name: str = "") -> str:
        """Add a constant."""
        name = name or f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(self, op_type: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output; what it is called."""
        made = f"{op_type.lower()}{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(op_type, inputs, [made], name or f"{made}_node", **attributes)
        )
        return made

    def quantised(self, x: Real, *, positive: bool = False) -> Real:
        """The tensor in eight bits, read as real numbers again."""
        most = DEVIATIONS * x.size
        scale = float(np.float32(most / (MAX_UINT8 if positive else MAX_INT8)))
        dtype = np.uint8 if positive else np.int8
        parameters = self.constant(scale, np.float32), self.constant(0, dtype)
        quantised = self.node("QuantizeLinear", x.name, *parameters)
        name = self.node("DequantizeLinear", quantised, *parameters)
        return Real(name, x.shape, x.size, scale)

    def weights(self, shape: Sequence[int], fan_in: int, axis: int, *, dense: bool = False) -> str:
        """Add integer weights with a scale for each kernel; the real tensor.

        Parameters
        ----------
        shape : sequence of int
            Shape of the tensor.
        fan_in : int
            Weights of a kernel.
        axis : int
            Axis of the kernels.
        dense : bool
            None of them is zero.
        """
        rng = self.rng
        found = rng.normal(0, WEIGHT_DEVIATION, size=shape).astype(np.float32)
        integers = np.clip(np.rint(found), -MAX_INT8, MAX_INT8).astype(np.int8)
        integers[integers == 0] = 1
        if not dense:
            integers *= rng.random(shape, dtype=np.float32) >= self._sparsity
        kept = 1.0 if dense else 1 - self._sparsity
        scales = rng.uniform(0.8, 1.2, shape[axis]) / (WEIGHT_DEVIATION * math.sqrt(fan_in * kept))
        self._last_scales = scales.astype(np.float32)
        return self.node(
            "DequantizeLinear",
            self.constant(integers, np.int8),
            self.constant(self._last_scales, np.float32),
            self.constant(np.zeros(shape[axis]), np.int8),
            axis=axis,
        )

    def bias(self, x: Real) -> str:
        """Add small biases for the last weights, as sums are quantised; the real tensor."""
        scales = (self._last_scales * np.float32(x.scale)).astype(np.float32)
        integers = np.rint(self.rng.normal(0, 0.1 * x.size, len(scales)) / scales)
        return self.node(
            "DequantizeLinear",
            self.constant(integers, np.int32),
            self.constant(scales, np.float32),
            axis=0,
        )

    def convolution(
        self, x: Real, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> Real:
        """A convolution that keeps the size of a map but for its stride; sums as real numbers."""
        _, before, rows, columns = x.shape
        fan_in = before // groups * kernel * kernel
        shape = (channels, before // groups, kernel, kernel)
        weights = self.weights(shape, fan_in, 0, dense=groups > 1)
        name = self.node(
            "Conv",
            *(x.name, weights, self.bias(x)),
            kernel_shape=[kernel, kernel],
            pads=[(kernel - 1) // 2] * 4,
            strides=[stride, stride],
            group=groups,
        )
        sizes = math.ceil(rows / stride), math.ceil(columns / stride)
        return Real(name, (1, channels, *sizes), x.size)

    def linear(self, x: Real, features: int) -> Real:
        """A fully connected layer of a vector."""
        weights = self.weights((features, x.shape[-1]), x.shape[-1], 0)
        name = self.node("Gemm", x.name, weights, self.bias(x), transB=1)
        return Real(name, (*x.shape[:-1], features), x.size)

    def projection(self, x: Real, features: int) -> Real:
        """A fully connected layer of each token: MatMul, and Add of a bias."""
        weights = self.weights((x.shape[-1], features), x.shape[-1], 1)
        product = self.node("MatMul", x.name, weights)
        bias = self.constant(self.rng.normal(0, 0.1 * x.size, features), np.float32)
        return Real(self.node("Add", product, bias), (*x.shape[:-1], features), x.size)

    def relu(self, x: Real, most: float | None = None) -> Real:
        """ReLU, or a clip from zero; quantised."""
        if most is None:
            name = self.node("Relu", x.name)
        else:
            bounds = self.constant(0, np.float32), self.constant(most, np.float32)
            name = self.node("Clip", x.name, *bounds)
        return self.quantised(Real(name, x.shape, x.size / math.sqrt(2)), positive=True)

    def added(self, x: Real, y: Real) -> Real:
        """The sum of two tensors."""
        name = self.node("Add", x.name, y.name)
        return Real(name, x.shape, math.hypot(x.size, y.size))

    def model(self, name: str, outputs: Sequence[Real]) -> onnx.ModelProto:
        """The graph as a model."""
        graph = helper.make_graph(
            self._nodes,
            name,
            self._inputs,
            [
                helper.make_tensor_value_info(output.name, TensorProto.FLOAT, list(output.shape))
                for output in outputs
            ],
            self._constants,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
