"""Clips of integers, biases, computed shapes and old opsets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.onnx_files import assert_same, kinds, normal, save, value
from onnx import TensorProto, helper, numpy_helper

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.standard import load_standard


@pytest.mark.parametrize("bounds", [(-8, 7), (0, 15), (-128, 100)])
@pytest.mark.parametrize("zero", [0, 5])
def test_a_clip_between_q_and_dq(tmp_path: Path, bounds: tuple[int, int], zero: int) -> None:
    path = save(
        tmp_path,
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("Clip", ["q", "low", "high"], ["c"]),
            helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
        ],
        inputs=[value("x", "N", 4)],
        outputs=[value("y", "N", 4)],
        constants={
            "s": np.float32(0.1),
            "z": np.int8(zero),
            "low": np.int8(bounds[0]),
            "high": np.int8(bounds[1]),
        },
    )
    x = np.linspace(-20, 20, 4000, dtype=np.float32).reshape(-1, 4)
    standard = assert_same(path, {"x": x})
    assert kinds(standard) == ["Clip", "QuantizeLinear", "DequantizeLinear"]
    assert standard.model.graph.node[1].output[0] == "c"


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 1), (1,), ()])
@pytest.mark.parametrize("quantised", [False, True])
def test_biases_become_vectors(tmp_path: Path, shape: tuple[int, ...], quantised: bool) -> None:
    bias = np.random.default_rng(0).integers(-9, 9, shape)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    constants: dict[str, Any] = {"w": normal(4, 6), "b": bias.astype(np.float32)}
    if quantised:
        nodes.insert(0, helper.make_node("DequantizeLinear", ["i", "s"], ["b"]))
        del constants["b"]
        constants |= {"i": bias.astype(np.int32), "s": np.float32(0.25)}
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", "N", 4)],
        outputs=[value("y", "N", 6)],
        constants=constants,
    )
    standard = assert_same(path, {"x": normal(3, 4)})
    sizes = {t.name: list(t.dims) for t in standard.model.graph.initializer}
    name = (
        standard.model.graph.node[0].input[0]
        if quantised
        else (standard.model.graph.node[-1].input[2])
    )
    assert sizes[name] == [6]


def test_a_bias_for_each_row_stays(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        inputs=[value("x", 3, 4)],
        outputs=[value("y", 3, 6)],
        constants={"w": normal(4, 6), "b": normal(3, 1)},
    )
    assert_same(path, {"x": normal(3, 4)})


@pytest.mark.parametrize("batch", ["N", 3])
def test_a_computed_shape(tmp_path: Path, batch: int | str) -> None:
    path = save(
        tmp_path,
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["n"]),
            helper.make_node("Unsqueeze", ["n", "zeros"], ["n1"]),
            helper.make_node("Gather", ["shape", "one"], ["c"]),
            helper.make_node("Mul", ["c", "eight"], ["c8"]),
            helper.make_node("Unsqueeze", ["c8", "zeros"], ["c1"]),
            helper.make_node("Concat", ["n1", "c1"], ["target"], axis=0),
            helper.make_node("Reshape", ["x", "target"], ["y"]),
        ],
        inputs=[value("x", batch, 2, 4, 2)],
        outputs=[value("y", batch, 16)],
        constants={
            "zero": np.array(0),
            "zeros": np.array([0]),
            "one": np.array(1),
            "eight": np.array(8),
        },
    )
    standard = assert_same(path, {"x": normal(3, 2, 4, 2)})
    assert kinds(standard) == ["Reshape"]
    target = standard.model.graph.node[0].input[1]
    arrays = {t.name: numpy_helper.to_array(t) for t in standard.model.graph.initializer}
    assert arrays[target].tolist() == [-1 if batch == "N" else 3, 16]


OLD: dict[str, Any] = {
    "Softmax": (11, [helper.make_node("Softmax", ["x"], ["y"])], (2, 3, 4)),
    "Clip": (9, [helper.make_node("Clip", ["x"], ["y"], min=-0.5, max=0.25)], (2, 3, 4)),
    "Clip-max": (7, [helper.make_node("Clip", ["x"], ["y"], max=0.25)], (2, 3, 4)),
    "Pad": (
        9,
        [helper.make_node("Pad", ["x"], ["y"], pads=[0, 1, 0, 0, 0, 2], value=0.5)],
        (2, 4, 6),
    ),
    "Slice": (
        9,
        [helper.make_node("Slice", ["x"], ["y"], starts=[1], ends=[9], axes=[2])],
        (2, 3, 3),
    ),
    "Slice-all": (
        7,
        [helper.make_node("Slice", ["x"], ["y"], starts=[1, 0], ends=[9, 2])],
        (1, 2, 4),
    ),
    "TopK": (9, [helper.make_node("TopK", ["x"], ["y", "i"], k=2)], (2, 3, 2)),
    "Squeeze": (
        11,
        [
            helper.make_node("Unsqueeze", ["x"], ["u"], axes=[0, 2]),
            helper.make_node("Squeeze", ["u"], ["y"], axes=[2]),
        ],
        (1, 2, 3, 4),
    ),
    "ReduceMean": (13, [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])], (2, 1, 4)),
    "ReduceSum": (11, [helper.make_node("ReduceSum", ["x"], ["y"], axes=[-1])], (2, 3, 1)),
    "Dropout": (7, [helper.make_node("Dropout", ["x"], ["y"], ratio=0.5)], (2, 3, 4)),
    "Upsample-7": (
        7,
        [helper.make_node("Upsample", ["x"], ["y"], scales=[1.0, 2.0, 1.5], mode="nearest")],
        (2, 6, 6),
    ),
    "Split": (11, [helper.make_node("Split", ["x"], ["y", "z"], axis=2, split=[1, 3])], (2, 3, 1)),
    "Split-even": (13, [helper.make_node("Split", ["x"], ["y", "z"], axis=2)], (2, 3, 2)),
    "Hardmax": (12, [helper.make_node("Hardmax", ["x"], ["y"], axis=1)], (2, 3, 4)),
    "LogSoftmax": (9, [helper.make_node("LogSoftmax", ["x"], ["y"], axis=2)], (2, 3, 4)),
}


@pytest.mark.parametrize("name", OLD)
def test_old_opsets(tmp_path: Path, name: str) -> None:
    opset, nodes, shape = OLD[name]
    path = save(
        tmp_path, nodes, inputs=[value("x", 2, 3, 4)], outputs=[value("y", *shape)], opset=opset
    )
    standard = assert_same(path, {"x": normal(2, 3, 4)})
    assert standard.notes == (f"converted from opset {opset} to 18",)
    assert {node.output[0] for node in standard.model.graph.node} >= {"y"}


def test_resize_of_opset_10(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Resize", ["x", "s"], ["y"], mode="linear")],
        inputs=[value("x", 1, 2, 3, 4)],
        outputs=[value("y", 1, 2, 6, 6)],
        constants={"s": np.array([1, 1, 2, 1.5], np.float32)},
        opset=10,
    )
    assert kinds(assert_same(path, {"x": normal(1, 2, 3, 4)})) == ["Resize"]


def test_the_inside_of_a_branch_is_converted(tmp_path: Path) -> None:
    def branch(name: str, node: Any) -> Any:
        return helper.make_graph([node], name, [], [value(node.output[0], 2, 3)])

    condition = helper.make_node(
        "If",
        ["b"],
        ["y"],
        then_branch=branch("then", helper.make_node("Softmax", ["x"], ["t"])),
        else_branch=branch("else", helper.make_node("Clip", ["x"], ["e"], min=0.0)),
    )
    path = save(
        tmp_path,
        [condition],
        inputs=[value("x", 2, 3), value("b", dtype=TensorProto.BOOL)],
        outputs=[value("y", 2, 3)],
        opset=9,
    )
    for flag in (True, False):
        assert_same(path, {"x": normal(2, 3), "b": np.array(flag)})


def test_an_opset_of_the_future(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs=[value("x", 2)],
        outputs=[value("y", 2)],
        opset=99,
    )
    with pytest.raises(CompileError, match="opset 99 is newer than"):
        load_standard(path)
