"""Single quantised layers: for the engine as it takes them from an image, and as ONNX."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trencadis_format.layer_tables import Selection, Ties
from trencadis_format.widths import OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP
from trencadis_host.devices.cpu.costs import DEFAULT_COSTS, Costs
from trencadis_host.devices.cpu.network import Network, SampleForm, assembly
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.programs import lower_layers
from trencadis_host.devices.cpu.store import CodeStore, UnkeptCode
from trencadis_host.devices.emulator.decode import DecodedInput, DecodedLayer

__all__ = ["LayerShape", "Runner", "layer_model", "random_weights", "shape_assembly"]

OPSET, IR_VERSION = 13, 8

BLOCK_BYTES = 1 << 19


@dataclass(frozen=True)
class LayerShape:
    """A convolution, or a linear layer over `size` x `size` positions.

    Attributes
    ----------
    name : str
        Name of the layer.
    size : int
        Rows and columns of the input.
    channels, kernels : int
        Numbers of input and output channels.
    window, stride : int
        Window and stride of the convolution; its padding is half a window.
    """

    name: str
    size: int
    channels: int
    kernels: int
    window: int = 1
    stride: int = 1

    @property
    def outputs(self) -> int:
        """Rows and columns of the output."""
        return (self.size + 2 * (self.window // 2) - self.window) // self.stride + 1


def random_weights(
    shape: LayerShape, density: float, rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Weights of which a fraction is other than zero, shape (kernels, channels, window, window)."""
    sizes = (shape.kernels, shape.channels, shape.window, shape.window)
    weights = rng.integers(1, 128, sizes) * rng.choice((-1, 1), sizes)
    return np.where(rng.random(sizes) < density, weights, 0).astype(np.int8)


def _scale(weights: npt.NDArray[np.int8]) -> float:
    """Such that typical sums fill the range of keys."""
    typical = np.sqrt(max(1, np.count_nonzero(weights) / len(weights))) * 73 * 148
    return float(np.float32(100 / typical))


def layer_model(shape: LayerShape, weights: npt.NDArray[np.int8]) -> onnx.ModelProto:
    """The layer as ONNX: bytes in, bytes out, ReLU by the bound of the bytes."""
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "weights": weights,
        "weight_scale": np.float32(_scale(weights)),
        "weight_zero": np.int8(0),
    }
    pad = shape.window // 2
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "one", "zero"], ["real"]),
        helper.make_node(
            "DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["kernel"]
        ),
        helper.make_node(
            "Conv", ["real", "kernel"], ["sum"], pads=[pad] * 4, strides=[shape.stride] * 2
        ),
        helper.make_node("QuantizeLinear", ["sum", "one", "zero"], ["y"]),
    ]
    sizes = ["N", shape.channels, shape.size, shape.size]
    results = ["N", shape.kernels, shape.outputs, shape.outputs]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, results)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)


def _decoded(shape: LayerShape, weights: npt.NDArray[np.int8]) -> tuple[DecodedInput, DecodedLayer]:
    pad = shape.window // 2
    width = shape.size + pad
    source = DecodedInput(
        shape.size, shape.size, shape.channels, width, pad * width + pad, 0, False
    )
    at = np.arange(shape.outputs) * shape.stride
    bits = SHIFT_BASE + 2 * SHIFT_STEP
    kernels = shape.kernels
    parameters = {
        "multiplier": np.full(kernels, round(_scale(weights) * 2.0**bits)),
        "offset": np.full(kernels, 1 << (bits - 1 - OFFSET_SHIFT)),
        "shift": np.full(kernels, 2),
        "ties": np.full(kernels, int(Ties.EVEN)),
    }
    layer = DecodedLayer(
        weights=weights.transpose(0, 2, 3, 1).reshape(kernels, -1, shape.channels).astype(np.int64),
        offsets=(np.arange(shape.window)[:, None] * width + np.arange(shape.window)).ravel(),
        origins=(at[:, None] * width + at)[..., None],
        sum_bits=32,
        parameters=parameters,
        low=0,
        high=255,
        table=None,
        selection=Selection.ALL,
        k=0,
        zero=0,
        width=0,
        first=0,
    )
    return source, layer


def shape_assembly(shape: LayerShape, weights: npt.NDArray[np.int8], path: Path) -> str:
    """Assembly of a layer for any path, whether this processor runs it or not."""
    source, layer = _decoded(shape, weights)
    read = shape.size * shape.size * shape.channels
    written = shape.outputs * shape.outputs * shape.kernels
    form = SampleForm(read, written, shape.kernels)
    return assembly(lower_layers(source, [layer]), form, path, 1)


class Runner:
    """A layer on the engine.

    Parameters
    ----------
    shape : LayerShape
        The layer.
    weights : int8 array
        Weights as `random_weights` gives them.
    path : Path
        Instructions to use.
    samples : int
        Samples of a run.
    store : CodeStore
        Where compiled kernels are kept.
    costs : Costs
        What chooses the kernels.
    """

    def __init__(
        self,
        shape: LayerShape,
        weights: npt.NDArray[np.int8],
        path: Path,
        samples: int,
        store: CodeStore | None = None,
        costs: Costs = DEFAULT_COSTS,
    ) -> None:
        source, layer = _decoded(shape, weights)
        programs = lower_layers(source, [layer])
        read = shape.size * shape.size * shape.channels
        written = shape.outputs * shape.outputs * shape.kernels
        block = max(1, min(samples, 16, BLOCK_BYTES // max(read, written)))
        form = SampleForm(read, written, shape.kernels)
        self._network = Network(programs, form, path, block, store or UnkeptCode(), costs)
        self._workspace = self._network.workspace()
        rng = np.random.default_rng(1)
        self.samples = rng.integers(0, 256, (samples, read)).astype(np.uint8)
        self.results = np.zeros((samples, written), np.uint8)

    @property
    def kernel(self) -> str:
        """Kernel that the layer took."""
        return self._network.choices[0].kernel

    def __call__(self) -> None:
        """Compute all samples."""
        addresses = self.samples.ctypes.data, self.results.ctypes.data
        self._network.run(*addresses, len(self.samples), self._workspace.ctypes.data)
