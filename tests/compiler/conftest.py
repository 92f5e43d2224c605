"""Small quantised ONNX files, and what onnxruntime makes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_compiler.exact.reference import evaluate
from trencadis_compiler.ir.network import Network
from trencadis_format.onnxruntime_door import Mode, open_session

Array = npt.NDArray[Any]

TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}


class Writer:
    """Writes an ONNX file node by node; every value gets a name of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        shape: tuple[int, ...] = (2, 8, 8),
        batch: int | str = "N",
        dtype: str = "float32",
        opset: int = 13,
        seed: int = 1,
    ) -> None:
        self._folder = folder
        self._inputs = [helper.make_tensor_value_info("x", TYPES[dtype], [batch, *shape])]
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._batch = batch
        self._domains: set[str] = set()
        self.rng = np.random.default_rng(seed)

    def constant(self, array: npt.ArrayLike, dtype: Any = None) -> str:
        """An initializer."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(array, dtype), name))
        return name

    def node(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output."""
        return self.nodes(op_type, 1, *inputs, domain=domain, **attributes)[0]

    def nodes(
        self, op_type: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node with several outputs."""
        number = len(self._nodes)
        names = [f"v{number}.{i}" for i in range(outputs)]
        self._domains.add(domain)
        self._nodes.append(
            helper.make_node(
                op_type, inputs, names, f"{op_type}{number}", domain=domain, **attributes
            )
        )
        return names

    def quantised(
        self, value: str, scale: float = 2**-4, zero: int = 0, dtype: Any = np.int8
    ) -> str:
        """QuantizeLinear and DequantizeLinear."""
        numbers = self.constant(scale, np.float32), self.constant(zero, dtype)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", value, *numbers), *numbers)

    def integers(
        self, array: Array, scale: npt.ArrayLike = 2**-6, axis: int = 0, dtype: Any = np.int8
    ) -> str:
        """A dequantised constant."""
        zero = np.zeros(np.shape(scale), dtype)
        numbers = self.constant(scale, np.float32), self.constant(zero)
        inputs = self.constant(array, dtype), *numbers
        if np.ndim(scale):
            return self.node("DequantizeLinear", *inputs, axis=axis)
        return self.node("DequantizeLinear", *inputs)

    def sparse(self, *shape: int, density: float = 0.5) -> Array:
        """Random int8 weights, most of them zero."""
        weights = self.rng.integers(-40, 41, shape)
        return (weights * (self.rng.random(shape) < density)).astype(np.int8)

    def top_k(self, value: str, k: int, **attributes: Any) -> list[str]:
        """Values and indices of the k largest."""
        return self.nodes("TopK", 2, value, self.constant([k], np.int64), **attributes)

    def model(self, output: str, shape: tuple[int | str, ...], dtype: str = "float32") -> Any:
        """The model so far, with one output."""
        graph = helper.make_graph(
            self._nodes,
            "net",
            self._inputs,
            [helper.make_tensor_value_info(output, TYPES[dtype], [self._batch, *shape])],
            self._constants,
        )
        domains = sorted({"", *self._domains})
        opsets = [helper.make_opsetid(d, self._opset if d == "" else 1) for d in domains]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(
        self, output: str, *shape: int | str, dtype: str = "float32", name: str = "net.onnx"
    ) -> Path:
        """Write the model."""
        path = self._folder / name
        onnx.save(self.model(output, shape, dtype), str(path))
        return path


@pytest.fixture
def writer(tmp_path: Path) -> Callable[..., Writer]:
    def make(**options: Any) -> Writer:
        return Writer(tmp_path, **options)

    return make


def run_onnxruntime(path: Path, inputs: Array) -> Array:
    session = open_session(path, Mode.PLAIN, threads=1)
    declared = session.get_inputs()[0]
    size = declared.shape[0] if isinstance(declared.shape[0], int) else len(inputs)
    parts = [inputs[i : i + size] for i in range(0, len(inputs), size)]
    return np.concatenate([session.run(None, {declared.name: part})[0] for part in parts])


def run_reference(network: Network, inputs: Array) -> Array:
    first, last = network.input, network.producer(network.output.name)
    assert first.quantisation is not None
    assert last is not None
    if inputs.dtype.kind == "f":
        keys = np.rint(inputs.astype(np.float64) / float(first.quantisation.scale))
        keys += first.quantisation.zero_key
        keys = np.clip(keys, 0, 255).astype(np.int64)
    else:
        keys = inputs.astype(np.int64) + first.quantisation.key_offset
    sizes = dict(zip("CHW", first.shape, strict=True))
    axes = first.axes + "".join(axis for axis in "CHW" if axis not in first.axes)
    keys = keys.reshape(len(inputs), *(sizes[axis] for axis in axes))
    keys = keys.transpose(0, *(1 + axes.index(axis) for axis in "CHW"))
    result = evaluate(network, keys)
    if last.output is None:
        channels = (-1, 1, 1)
        scale = np.array(last.weight_scale, np.float64) * float(last.input.scale)
        offset = np.array([float(number) for number in last.bias])
        result = result * scale.reshape(channels) + offset.reshape(channels)
    elif network.output.integer:
        result = result - last.output.key_offset
    else:
        result = (result - last.output.zero_key).astype(np.float32) * last.output.scale
    axes = network.output.axes + "".join(a for a in "CHW" if a not in network.output.axes)
    result = result.transpose(0, *(1 + "CHW".index(axis) for axis in axes))
    shape = [size for size in network.output.tensor.shape[1:] if size is not None]
    return result.reshape(len(inputs), *shape).astype(network.output.tensor.dtype)


@pytest.fixture
def onnxruntime_outputs() -> Callable[[Path, Array], Array]:
    """Outputs of a file by onnxruntime, as it is."""
    return run_onnxruntime


@pytest.fixture
def reference_outputs() -> Callable[[Network, Array], Array]:
    """Outputs of a network in exact arithmetic, as the model would give them."""
    return run_reference
