from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.onnx_files import assert_same, kinds, save, value
from onnx import TensorProto, helper

from trencadis_format.onnxruntime_door import Mode

U8, I8 = TensorProto.UINT8, TensorProto.INT8
RNG = np.random.default_rng(3)
MICROSOFT = "com.microsoft"


def random(dtype: Any, *shape: int) -> Any:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("weights", [np.int8, np.uint8])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_convolution(tmp_path: Path, weights: Any, bias: bool, per_channel: bool) -> None:
    sizes = (4,) if per_channel else ()
    scales = np.exp2(RNG.integers(-8, -5, sizes)).astype(np.float32)
    zero = np.zeros(sizes, weights) if weights is np.int8 else np.full(sizes, 128, weights)
    constants = {
        "xs": np.float32(2**-4),
        "xz": np.uint8(117),
        "w": random(weights, 4, 2, 3, 3),
        "ws": scales,
        "wz": zero,
        "ys": np.float32(2**-1),
        "yz": np.uint8(128),
    }
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if bias:
        constants["b"] = RNG.integers(-999, 999, 4).astype(np.int32)
        names.append("b")
    path = save(
        tmp_path,
        [helper.make_node("QLinearConv", names, ["y"], pads=[1, 1, 0, 0])],
        inputs=[value("x", 2, 2, 8, 8, dtype=U8)],
        outputs=[value("y", 2, 4, 7, 7, dtype=U8)],
        constants=constants,
        opset=10,
    )
    standard = assert_same(path, {"x": random(np.uint8, 2, 2, 8, 8)}, Mode.INTEGER)
    assert "QLinearConv" not in kinds(standard)
    assert kinds(standard)[-2:] == ["Conv", "QuantizeLinear"]


def test_product(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"])],
        inputs=[value("a", 3, 6, dtype=I8)],
        outputs=[value("y", 3, 5, dtype=I8)],
        constants={
            "as": np.float32(2**-4),
            "az": np.int8(3),
            "b": random(np.int8, 6, 5),
            "bs": np.array([2**-5], np.float32),
            "bz": np.array([0], np.int8),
            "ys": np.float32(2),
            "yz": np.int8(-7),
        },
    )
    standard = assert_same(path, {"a": random(np.int8, 3, 6)}, Mode.INTEGER)
    assert kinds(standard).count("MatMul") == 1


@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
def test_arithmetic(tmp_path: Path, op_type: str) -> None:
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    path = save(
        tmp_path,
        [helper.make_node(op_type, names, ["y"], domain=MICROSOFT)],
        inputs=[value("a", 3, 6, dtype=U8), value("b", 3, 6, dtype=U8)],
        outputs=[value("y", 3, 6, dtype=U8)],
        constants={
            "as": np.float32(2**-4),
            "az": np.uint8(3),
            "bs": np.float32(2**-3),
            "bz": np.uint8(130),
            "ys": np.float32(2**-3),
            "yz": np.uint8(8),
        },
        domains=(MICROSOFT,),
    )
    feed = {"a": random(np.uint8, 3, 6), "b": random(np.uint8, 3, 6)}
    standard = assert_same(path, feed, Mode.INTEGER)
    assert op_type not in kinds(standard)


@pytest.mark.parametrize("quantised", [True, False])
def test_gemm(tmp_path: Path, quantised: bool) -> None:
    names = ["a", "as", "az", "b", "bs", "bz", "c"] + ["ys", "yz"] * quantised
    constants = {
        "as": np.float32(2**-4),
        "az": np.uint8(9),
        "b": random(np.int8, 5, 6),
        "bs": np.float32(2**-5),
        "bz": np.int8(0),
        "c": random(np.int16, 5).astype(np.int32),
    }
    if quantised:
        constants |= {"ys": np.float32(1), "yz": np.uint8(100)}
    path = save(
        tmp_path,
        [helper.make_node("QGemm", names, ["y"], domain=MICROSOFT, transB=1, alpha=0.5)],
        inputs=[value("a", 3, 6, dtype=U8)],
        outputs=[value("y", 3, 5, dtype=U8 if quantised else TensorProto.FLOAT)],
        constants=constants,
        domains=(MICROSOFT,),
    )
    assert "QGemm" not in kinds(assert_same(path, {"a": random(np.uint8, 3, 6)}, Mode.INTEGER))


def test_pool_and_concat(tmp_path: Path) -> None:
    constants = {"s": np.float32(2**-4), "z": np.uint8(3)}
    path = save(
        tmp_path,
        [
            helper.make_node(
                "QLinearConcat",
                ["s", "z", "a", "s", "z", "a", "s", "z"],
                ["c"],
                domain=MICROSOFT,
                axis=1,
            ),
            helper.make_node(
                "QLinearGlobalAveragePool", ["c", "s", "z", "s", "z"], ["y"], domain=MICROSOFT
            ),
        ],
        inputs=[value("a", 2, 3, 4, 4, dtype=U8)],
        outputs=[value("y", 2, 6, 1, 1, dtype=U8)],
        constants=constants,
        domains=(MICROSOFT,),
    )
    standard = assert_same(path, {"a": random(np.uint8, 2, 3, 4, 4)}, Mode.INTEGER)
    assert not [kind for kind in kinds(standard) if kind.startswith("QLinear")]


def test_dynamic_quantisation_stays(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node("MatMulInteger", ["q", "b", "z"], ["y"]),
        ],
        inputs=[value("x", 2, 6)],
        outputs=[value("y", 2, 5, dtype=TensorProto.INT32)],
        constants={"b": random(np.int8, 6, 5)},
    )
    x = RNG.normal(size=(2, 6)).astype(np.float32)
    assert kinds(assert_same(path, {"x": x})) == ["DynamicQuantizeLinear", "MatMulInteger"]
