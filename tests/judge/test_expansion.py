"""Operators on integers of onnxruntime, written as their parts, against onnxruntime."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_judge import judge

RNG = np.random.default_rng(0)

ONE = ["x", "s", "z", "s2", "z"]
TWO = ["x", "s", "z", "k", "s2", "z", "s3", "z"]
MAP = [3, 4, 6, 6]

CASES: dict[str, tuple[str, list[str], list[int], dict[str, Any]]] = {
    "add": ("QLinearAdd", TWO, MAP, {}),
    "average": ("QLinearAveragePool", ONE, MAP, {"kernel_shape": [2, 2]}),
    "concat": ("QLinearConcat", ["s3", "z", "x", "s", "z", "k3", "s2", "z"], MAP, {"axis": 1}),
    "gemm": ("QGemm", ["x", "s", "z", "w", "ws", "wz", "b", "s3", "z"], [3, 12], {}),
    "gemm of real outputs": ("QGemm", ["x", "s", "z", "w", "ws", "wz", "b"], [3, 12], {}),
    "global average": ("QLinearGlobalAveragePool", ONE, MAP, {}),
    "global average of channels last": (
        "QLinearGlobalAveragePool",
        ONE,
        [3, 6, 6, 4],
        {"channels_last": 1},
    ),
    "leaky": ("QLinearLeakyRelu", ONE, MAP, {"alpha": 0.1}),
    "product": ("QLinearMul", TWO, MAP, {}),
    "product of matrices": (
        "QLinearMatMul",
        ["x", "s", "z", "w", "ws", "wz", "s3", "z"],
        [3, 12],
        {},
    ),
    "sigmoid": ("QLinearSigmoid", ONE, MAP, {}),
}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_is_within_its_bound(name: str, dtype: str) -> None:
    op_type, inputs, shape, attributes = CASES[name]
    bounds = (0, 256) if dtype == "uint8" else (-128, 128)
    constants: dict[str, Any] = {
        "s": np.float32(0.1), "s2": np.float32(0.07), "s3": np.float32(0.23),
        "z": np.array(7, dtype),
        "k": RNG.integers(*bounds, (1, 4, 6, 6)).astype(dtype), "ws": np.float32(0.013),
        "k3": RNG.integers(*bounds, MAP).astype(dtype), "wz": np.int8(0),
        "w": RNG.integers(-100, 100, (12, 5)).astype(np.int8),
        "b": RNG.integers(-999, 999, 5).astype(np.int32),
    }  # fmt: skip
    domain = "" if op_type == "QLinearMatMul" else "com.microsoft"
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.INT8
    graph = helper.make_graph(
        [helper.make_node(op_type, inputs, ["y"], domain=domain, **attributes)],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(constants[n]), n) for n in constants if n in inputs],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    x = RNG.integers(*bounds, shape).astype(dtype)
    (y,) = open_session(model.SerializeToString(), Mode.INTEGER, threads=1).run(["y"], {"x": x})
    found = judge(model, {"x": x, "y": y}, host={"y"}).units[0]
    assert (found.elements, found.differing, found.runtime_unexplained) == (y.size, 0, 0)
    assert not found.reason
    wrong = judge(model, {"x": x, "y": np.roll(y, 1)}, host={"y"}).units[0]
    assert wrong.differing > 0 or np.ptp(y) == 0
