from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.onnx_files import assert_same, kinds, normal, save, value
from onnx import helper, numpy_helper

from trencadis_compiler.importer.standard import StandardModel

RNG = np.random.default_rng(5)


def arrays(standard: StandardModel) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in standard.model.graph.initializer}


def dequantised(standard: StandardModel) -> list[Any]:
    """Inputs of the one DequantizeLinear."""
    [node] = [n for n in standard.model.graph.node if n.op_type == "DequantizeLinear"]
    return [arrays(standard)[name] for name in node.input]


def product(folder: Path, before: list[Any], constants: dict[str, Any], rows: int = 6) -> Path:
    nodes = [*before, helper.make_node("MatMul", ["x", "real"], ["y"])]
    return save(
        folder,
        nodes,
        inputs=[value("x", "N", rows)],
        outputs=[value("y", "N", 5)],
        constants=constants,
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_zero_points_are_subtracted(tmp_path: Path, dtype: Any, per_channel: bool) -> None:
    sizes = (5,) if per_channel else ()
    middle = 10 if dtype is np.int8 else 138
    constants = {
        "w": (RNG.integers(-100, 100, (6, 5)) + middle).astype(dtype),
        "s": RNG.uniform(0.1, 1, sizes).astype(np.float32),
        "z": (RNG.integers(-9, 9, sizes) + middle).astype(dtype),
    }
    node = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["real"], axis=1)
    standard = assert_same(product(tmp_path, [node], constants), {"x": normal(2, 6)})
    integers, _, zero = dequantised(standard)
    assert integers.dtype == zero.dtype == np.int8
    assert not zero.any()
    difference = constants["w"].astype(int) - constants["z"].astype(int)
    assert integers.tolist() == difference.tolist()


def test_zero_points_whose_differences_are_no_int8_stay(tmp_path: Path) -> None:
    constants = {"w": np.full((6, 5), 255, np.uint8), "s": np.float32(1), "z": np.uint8(120)}
    node = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["real"])
    standard = assert_same(product(tmp_path, [node], constants), {"x": normal(2, 6)})
    assert dequantised(standard)[0].dtype == np.uint8


def test_layout_moves_to_the_integers(tmp_path: Path) -> None:
    constants = {
        "w": RNG.integers(-100, 100, (5, 2, 3)).astype(np.int8),
        "s": RNG.uniform(0.1, 1, 5).astype(np.float32),
        "z": np.zeros(5, np.int8),
        "shape": np.array([3, 10]),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["a"], axis=0),
        helper.make_node("Transpose", ["a"], ["b"], perm=[2, 1, 0]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[1, 0, 2]),
        helper.make_node("Squeeze", ["d"], ["real"]),
    ]
    nodes[-1] = helper.make_node("MatMul", ["x", "c"], ["y"])
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", 2, 4, 3)],
        outputs=[value("y", 2, 4, 5)],
        constants=constants,
    )
    standard = assert_same(path, {"x": normal(2, 4, 3)})
    assert kinds(standard) == ["DequantizeLinear", "MatMul"]
    assert dequantised(standard)[0].tolist() == constants["w"].transpose(1, 2, 0).tolist()


def test_reshaped_by_one_scale(tmp_path: Path) -> None:
    constants = {
        "w": RNG.integers(-100, 100, (5, 2, 3)).astype(np.int8),
        "s": np.array([0.3], np.float32),
        "z": np.array([0], np.int8),
        "shape": np.array([0, -1]),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["a"], axis=0),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("Transpose", ["b"], ["real"]),
    ]
    constants["s"], constants["z"] = np.float32(0.3), np.int8(0)
    standard = assert_same(product(tmp_path, nodes, constants), {"x": normal(2, 6)})
    assert kinds(standard) == ["DequantizeLinear", "MatMul"]


def test_constants_are_quantised(tmp_path: Path) -> None:
    constants = {"w": normal(6, 5), "s": np.float32(0.05), "z": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["real"]),
    ]
    standard = assert_same(product(tmp_path, nodes, constants), {"x": normal(2, 6)})
    assert kinds(standard) == ["DequantizeLinear", "MatMul"]
    expected = np.clip(np.rint(normal(6, 5) / np.float32(0.05)), -128, 127)
    assert dequantised(standard)[0].tolist() == expected.tolist()
