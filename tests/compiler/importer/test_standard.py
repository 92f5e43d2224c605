"""The standard form computes what the file does, to the last bit."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.onnx_files import assert_same, kinds, normal, save, value
from onnx import TensorProto, helper

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.standard import load_standard


def test_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs=[value("x", "N", 3)],
        outputs=[value("y", "N", 3)],
    )
    standard = load_standard(path)
    assert standard.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert standard.notes == ()


def test_nodes_are_sorted(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Exp", ["x"], ["a"])],
        inputs=[value("x", 2, 3)],
        outputs=[value("y", 2, 3)],
    )
    standard = assert_same(path, {"x": normal(2, 3)})
    assert kinds(standard) == ["Exp", "Neg"]
    assert standard.notes == ("nodes were out of order and have been sorted",)


def test_a_circle_is_refused(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Add", ["x", "y"], ["a"]), helper.make_node("Neg", ["a"], ["y"], "n")],
        inputs=[value("x", 2)],
        outputs=[value("y", 2)],
    )
    with pytest.raises(CompileError, match="Add 'a' depends on its own output"):
        load_standard(path)


def test_constants_listed_as_inputs(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        inputs=[value("x", "N", 2), value("w", 2, 3)],
        outputs=[value("y", "N", 3)],
        constants={"w": normal(2, 3)},
        opset=9,
        ir_version=3,
    )
    standard = assert_same(path, {"x": normal(4, 2)})
    assert [entry.name for entry in standard.model.graph.input] == ["x"]


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Exp", ["x"], ["a"])],
        inputs=[value("x", 2)],
        outputs=[value("a", 2)],
    )
    with pytest.raises(CompileError, match="two tensors are named 'a'"):
        load_standard(path)


def test_constant_subgraphs_are_computed(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [
            helper.make_node("Constant", [], ["two"], value_float=2.0),
            helper.make_node("Pow", ["two", "n"], ["scale"]),
            helper.make_node("Mul", ["w", "scale"], ["scaled"]),
            helper.make_node("MatMul", ["x", "scaled"], ["y"]),
        ],
        inputs=[value("x", "N", 2)],
        outputs=[value("y", "N", 3)],
        constants={"w": normal(2, 3), "n": np.float32(-3)},
    )
    standard = assert_same(path, {"x": normal(4, 2)})
    assert kinds(standard) == ["MatMul"]
    assert [tensor.name for tensor in standard.model.graph.initializer] == ["scaled"]


def test_an_output_that_is_constant_is_made_by_a_node(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Exp", ["c"], ["y"]), helper.make_node("Neg", ["y"], ["z"])],
        inputs=[value("x", 2, 3)],
        outputs=[value("y", 2), value("z", 2)],
        constants={"c": normal(2)},
    )
    assert kinds(assert_same(path, {"x": normal(2, 3)})) == ["Identity", "Identity"]


def test_dequantised_constants_stay(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["real"]),
            helper.make_node("MatMul", ["x", "real"], ["y"]),
        ],
        inputs=[value("x", "N", 2)],
        outputs=[value("y", "N", 3)],
        constants={"w": np.ones((2, 3), np.int8), "s": np.float32(0.1), "z": np.int8(0)},
        opset=13,
    )
    assert kinds(assert_same(path, {"x": normal(4, 2)})) == ["DequantizeLinear", "MatMul"]


def test_a_size_with_a_name_is_bound_everywhere(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Add", ["a", "b"], ["y"])],
        inputs=[value("a", "N", "t"), value("b", "N", "t")],
        outputs=[value("y", "N", "t")],
    )
    with pytest.raises(CompileError, match=r"'a': its size on axis 1 is open \(t\)"):
        load_standard(path)
    standard = load_standard(path, input_shapes={"a": (2, 5)})
    for entry in (*standard.model.graph.input, *standard.model.graph.output):
        assert [dim.dim_value for dim in entry.type.tensor_type.shape.dim] == [2, 5]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (2, 4)}, "--input-shape x=2x4: axis 1 is 3 in the model, not 4"),
        ({"x": (2,)}, "--input-shape x=2: the input has 2 dimensions, not 1"),
        ({"x": (0, 3)}, "--input-shape x=0x3: sizes are 1 or more, not 0"),
        ({"z": (2, 3)}, "--input-shape z: no such input; the model has 'x'"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path: Path, shapes: dict[str, Any], message: str) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs=[value("x", "N", 3)],
        outputs=[value("y", "N", 3)],
    )
    with pytest.raises(CompileError, match=message):
        load_standard(path, input_shapes=shapes)


@pytest.mark.parametrize("dtype", [TensorProto.BFLOAT16, TensorProto.FLOAT8E5M2, TensorProto.INT4])
def test_outputs_that_arrays_cannot_have(tmp_path: Path, dtype: int) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Cast", ["x"], ["y"], to=dtype)],
        inputs=[value("x", 2)],
        outputs=[value("y", 2, dtype=dtype)],
        opset=21,
    )
    with pytest.raises(CompileError, match=r"output 'y' is of type .*, which NumPy's arrays do"):
        load_standard(path)


def test_a_model_that_is_one_constant(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])],
        inputs=[],
        outputs=[value("y", 2)],
    )
    assert kinds(assert_same(path, {})) == ["Identity"]
