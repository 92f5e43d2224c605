"""The published network at its published size, with random weights: what hardware is measured on.

32x32 input, two convolutions of 64 5x5 kernels with 2x2 pooling, 1600 -> 1500 -> 12. Cycles and
resources depend on shapes and on where the non-zeros are, not on what the weights are.
"""

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trencadis_format.command_line import reported
from trencadis_format.files import write_atomically

__all__ = ["LAYERS", "Kind", "ReferenceLayer", "reference_model", "reference_weights"]

OPSET = 13
IR_VERSION = 8

MAX_WEIGHT = 127
TYPICAL_WEIGHT = 73.0
"""Root mean square of whole numbers spread evenly up to `MAX_WEIGHT`."""
TYPICAL_VALUE = 148.0
"""Root mean square of bytes spread evenly."""
BRIGHT = 100.0
"""Byte on which one standard deviation of a layer's sums lands."""


class Kind(Enum):
    """Sparsities of the network.

    Where activations are dense none is ever zero: ReLU is replaced by a bound of one step.
    """

    DENSE = "dense"
    SPARSE_DENSE = "sparse-dense"
    """Sparse weights, every activation."""
    SPARSE_SPARSE = "sparse-sparse"
    """Sparse weights, k-WTA after every layer but the last."""


@dataclass(frozen=True)
class ReferenceLayer:
    """A layer of the network.

    Attributes
    ----------
    name : str
        Name of the layer.
    shape : tuple of int
        Shape of its weights: kernels, channels, and rows and columns of a convolution.
    ways : int
        Kernels that do not collide if weights are sparse; 1 for a dense layer.
    nonzeros : int
        Weights of a kernel that are not zero, if weights are sparse.
    winners : int
        Winners of k-WTA; 0 if there is none.
    """

    name: str
    shape: tuple[int, ...]
    ways: int
    nonzeros: int
    winners: int

    @property
    def rows(self) -> int:
        """Weights of a dense kernel."""
        return math.prod(self.shape[1:])


LAYERS = (
    ReferenceLayer("conv1", (64, 1, 5, 5), 2, 12, 7),
    ReferenceLayer("conv2", (64, 64, 5, 5), 8, 200, 8),
    ReferenceLayer("linear", (1500, 1600), 25, 64, 150),
    ReferenceLayer("output", (12, 1500), 1, 1500, 0),
)
"""Biases of both convolutions included: 2,522,128 parameters, of which 127,696 are not zero."""


def reference_weights(
    layer: ReferenceLayer, kind: Kind, rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Random weights of a layer, shape `layer.shape`.

    Sets of `ways` kernels share the rows of a window, each row going to at most one of them; which
    kernels form a set is random.
    """
    kernels = layer.shape[0]
    magnitudes = rng.integers(1, MAX_WEIGHT + 1, (kernels, layer.rows))
    weights = magnitudes * rng.choice((-1, 1), magnitudes.shape)
    if kind is not Kind.DENSE:
        mask = np.zeros(weights.shape, bool)
        for members in rng.permutation(kernels).reshape(-1, layer.ways):
            rows = rng.permutation(layer.rows)[: layer.ways * layer.nonzeros]
            mask[members[:, None], rows.reshape(layer.ways, -1)] = True
        weights = np.where(mask, weights, 0)
    return weights.reshape(layer.shape).astype(np.int8)


def reference_model(kind: Kind, seed: int = 0) -> onnx.ModelProto:
    """The network as quantised ONNX: bytes as float32, shape (N, 1, 32, 32), to (N, 12) logits."""
    return _Writer(np.random.default_rng(seed)).write(kind)


class _Writer:
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def write(self, kind: Kind) -> onnx.ModelProto:
        """Node by node."""
        value, scale, density = self._bytes("input", 1.0, "input"), 1.0, 1.0
        for layer in LAYERS:
            if layer.name == "linear":
                value = self._node("Flatten", [value], "flatten", axis=1)
            value, scale = self._layer(layer, kind, value, scale, density)
            sparse = kind is Kind.SPARSE_SPARSE and layer.winners
            density = layer.winners / layer.shape[0] if sparse else 1.0
        self._nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            self._nodes,
            f"reference-{kind.value}",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 32, 32])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 12])],
            self._constants,
        )
        model = helper.make_model(
            graph,
            producer_name="trencadis",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _layer(
        self, layer: ReferenceLayer, kind: Kind, value: str, scale: float, density: float
    ) -> tuple[str, float]:
        """The layer's output and its scale; `density` is the part of its input that is not zero."""
        name = layer.name
        weights = reference_weights(layer, kind, self._rng)
        products = density * np.count_nonzero(weights) / layer.shape[0]
        deviation = math.sqrt(products) * TYPICAL_WEIGHT * TYPICAL_VALUE
        # The weights' scale is 1: all scales are powers of two, as no rounding but ours is wanted.
        out_scale = 2.0 ** round(math.log2(deviation * scale / BRIGHT))
        inputs = [value, self._dequantised(f"{name}.weight", weights, 1.0)]
        if len(layer.shape) == 4:
            bias = self._rng.integers(-1000, 1000, layer.shape[0]).astype(np.int32)
            inputs.append(self._dequantised(f"{name}.bias", bias, scale))
            value = self._node("Conv", inputs, name, kernel_shape=list(layer.shape[2:]))
            value = self._node(
                "MaxPool", [value], f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2]
            )
        else:
            value = self._node("Gemm", inputs, name, transB=1)
        if not layer.winners:
            return value, out_scale
        if kind is Kind.SPARSE_SPARSE:
            value = self._node("Relu", [value], f"{name}.relu")
            return self._winners(self._bytes(value, out_scale, name), layer), out_scale
        step = self._constant(f"{name}.step", np.array(out_scale, np.float32))
        value = self._node("Clip", [value, step], f"{name}.clip")
        return self._bytes(value, out_scale, name), out_scale

    def _winners(self, value: str, layer: ReferenceLayer) -> str:
        name = f"{layer.name}.winners"
        k = self._constant(f"{name}.k", np.array([layer.winners], np.int64))
        top = [f"{name}.values", f"{name}.indices"]
        self._nodes.append(helper.make_node("TopK", [value, k], top, f"{name}.top", axis=1))
        shape = self._node("Shape", [value], f"{name}.shape")
        zeros = self._node("ConstantOfShape", [shape], f"{name}.zeros")
        return self._node("ScatterElements", [zeros, top[1], top[0]], name, axis=1)

    def _bytes(self, value: str, scale: float, name: str) -> str:
        """A value rounded to bytes."""
        numbers = [
            self._constant(f"{name}.scale", np.array(scale, np.float32)),
            self._constant(f"{name}.zero_point", np.array(0, np.uint8)),
        ]
        value = self._node("QuantizeLinear", [value, *numbers], f"{name}.quantised")
        return self._node("DequantizeLinear", [value, *numbers], f"{name}.bytes")

    def _dequantised(self, name: str, integers: npt.NDArray[np.generic], scale: float) -> str:
        inputs = [
            self._constant(name, integers),
            self._constant(f"{name}.scale", np.array(scale, np.float32)),
            self._constant(f"{name}.zero_point", np.array(0, integers.dtype)),
        ]
        return self._node("DequantizeLinear", inputs, f"{name}.real")

    def _constant(self, name: str, array: npt.NDArray[np.generic]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(self, op_type: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name


@click.command()
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Kind]),
    default=Kind.SPARSE_SPARSE.value,
    show_default=True,
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="[default: reference-KIND.onnx]"
)
@reported("reference_network")
def main(kind: str, seed: int, output: Path | None) -> None:
    """Write the reference network as ONNX."""
    target = output or Path(f"reference-{kind}.onnx")
    model = reference_model(Kind(kind), seed)
    write_atomically(target, model.SerializeToString(deterministic=True))
    print(target)


if __name__ == "__main__":
    main()
