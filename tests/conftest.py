"""A small compiled network, and its model, for tests of whatever runs networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model

pytest_plugins = ["fixtures.engines", "fixtures.images", "fixtures.networks"]

SLOW = (
    "bench/explore/test_search.py",
    "bench/fuzz/test_fuzz.py",
    "bench/measure/test_reference_network.py",
    "bench/measure/test_throughput.py",
    "bench/models/test_exports.py",
    "bench/models/test_nodes.py",
    "bench/serving",
    "flows",
    "hw",
    "serve",
    "sim",
    "train/evaluation/test_compare.py",
    "train/network/test_warm_start.py",
    "train/search",
    "train/sparse",
    "train/test_accuracy_example.py",
    "train/test_fashion_example.py",
    "train/test_reference_example.py",
    "train/training",
)
"""Files and folders whose tests simulate gateware, generate Verilog, start servers or train."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-fast` leaves out."""
    slow = {Path(__file__).parent / name for name in SLOW}
    for item in items:
        if not slow.isdisjoint((item.path, *item.path.parents)):
            item.add_marker(pytest.mark.slow)


TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}


def small_model(
    *, batch: int | str = "N", dtype: str = "float32", integer: bool = False, sums: bool = False
) -> onnx.ModelProto:
    """Conv, k-WTA, Gemm; scales are powers of two, so that float32 arithmetic is exact."""
    rng = np.random.default_rng(7)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(array: Any, kind: Any) -> str:
        constants.append(numpy_helper.from_array(np.array(array, kind), f"c{len(constants)}"))
        return constants[-1].name

    def node(op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"v{len(nodes)}.{i}" for i in range(outputs)]
        name = f"{op_type}{len(nodes)}"
        nodes.append(helper.make_node(op_type, inputs, names, name, **attributes))
        return names[0]

    def quantised(value: str, scale: float, zero: int) -> str:
        numbers = constant(scale, np.float32), constant(zero, np.int8)
        return node("DequantizeLinear", node("QuantizeLinear", value, *numbers), *numbers)

    def weights(*shape: int) -> str:
        array = rng.integers(-40, 41, shape) * (rng.random(shape) < 0.4)
        numbers = constant(2**-6, np.float32), constant(0, np.int8)
        return node("DequantizeLinear", constant(array, np.int8), *numbers)

    if dtype == "float32":
        x = quantised("image", 2**-4, 0)
    else:
        numbers = constant(2**-4, np.float32), constant(0, dtype)
        x = node("DequantizeLinear", "image", *numbers)
    y = node("Relu", node("Conv", x, weights(8, 2, 3, 3)))
    y = quantised(y, 2**-3, -128)
    node("TopK", y, constant([2], np.int64), outputs=2, axis=1)
    values, indices = nodes[-1].output
    zeros = node("ConstantOfShape", node("Shape", y))
    y = node("ScatterElements", zeros, indices, values, axis=1)
    y = node("Gemm", node("Flatten", quantised(y, 2**-3, -128)), weights(288, 10))
    if integer:
        y = node("QuantizeLinear", y, constant(2**-2, np.float32), constant(4, np.int8))
    elif not sums:
        y = quantised(y, 2**-2, 4)
    nodes[-1].output[0] = "logits"
    result = TensorProto.INT8 if integer else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TYPES[dtype], [batch, 2, 8, 8])],
        [helper.make_tensor_value_info("logits", result, [batch, 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """Compiles a small model; paths of model and image. Every variant is compiled once."""
    known: dict[str, tuple[Path, Path]] = {}

    def build(**options: Any) -> tuple[Path, Path]:
        key = repr(sorted(options.items()))
        if key not in known:
            folder = tmp_path_factory.mktemp("model")
            model, image = folder / "small.onnx", folder / "small.tcd"
            onnx.save(small_model(**options), str(model))
            compile_model(model, load_board("sim")).save(image)
            known[key] = model, image
        return known[key]

    return build


def linear_model(
    weights: npt.NDArray[np.int8], *, bias: npt.NDArray[np.int32] | None = None, zero: int = 0
) -> onnx.ModelProto:
    """A fully connected layer `x` to `out`, quantised; `zero` is the input's zero point."""
    constants: dict[str, Any] = {
        "scale": np.float32(0.05),
        "zero": np.int8(zero),
        "weights": weights,
        "weight_scale": np.float32(0.01),
        "plain_zero": np.int8(0),
        "bias": np.zeros(len(weights), np.int32) if bias is None else bias,
        "bias_scale": np.float32(0.0005),
        "bias_zero": np.int32(0),
        "out_scale": np.float32(0.1),
    }
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        node("DequantizeLinear", ["weights", "weight_scale", "plain_zero"], ["wd"]),
        node("DequantizeLinear", ["bias", "bias_scale", "bias_zero"], ["bd"]),
        node("Gemm", ["xd", "wd", "bd"], ["y"], transB=1),
        node("QuantizeLinear", ["y", "out_scale", "plain_zero"], ["yq"]),
        node("DequantizeLinear", ["yq", "out_scale", "plain_zero"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", weights.shape[1]])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", weights.shape[0]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


@pytest.fixture(scope="session", name="linear_model")
def linear_model_fixture() -> Callable[..., onnx.ModelProto]:
    """Makes a fully connected layer; see `linear_model`."""
    return linear_model
