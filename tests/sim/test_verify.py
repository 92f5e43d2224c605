"""Comparing a compiled network with its model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_sim.verify import Agreement, verify
from trencadis_sim.verify_cli import main


def save_linear(path: Path, bias: int) -> Path:
    """Sixteen inputs, four outputs; the last bias is `bias`."""
    weights = np.random.default_rng(3).integers(-50, 50, (4, 16)).astype(np.int8)
    constants: dict[str, Any] = {
        "scale": np.float32(0.05),
        "zero": np.int8(0),
        "weights": weights,
        "weight_scale": np.float32(0.01),
        "bias": np.array([3, -100, 50, bias], np.int32),
        "bias_scale": np.float32(0.0005),
        "bias_zero": np.int32(0),
        "out_scale": np.float32(0.1),
    }
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        node("DequantizeLinear", ["weights", "weight_scale", "zero"], ["wd"]),
        node("DequantizeLinear", ["bias", "bias_scale", "bias_zero"], ["bd"]),
        node("Gemm", ["xd", "wd", "bd"], ["y"], transB=1),
        node("QuantizeLinear", ["y", "out_scale", "zero"], ["yq"]),
        node("DequantizeLinear", ["yq", "out_scale", "zero"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_linear(tmp_path / "model.onnx", 0)


@pytest.fixture
def images(tmp_path: Path, model: Path) -> dict[str, Path]:
    """The model compiled, and another one whose last output is a step and a half larger."""
    models = {"right": model, "wrong": save_linear(tmp_path / "wrong.onnx", 300)}
    board = load_board("sim")
    for name, path in models.items():
        compile_model(path, board).overlay.save(tmp_path / f"{name}.tcd")
    return {name: tmp_path / f"{name}.tcd" for name in models}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    array = np.random.default_rng(1).integers(-60, 60, (9, 16)) * np.float32(0.05)
    np.save(tmp_path / "inputs.npy", array.astype(np.float32))
    return tmp_path / "inputs.npy"


def test_what_agrees(model: Path, images: dict[str, Path], inputs: Path) -> None:
    found = verify(model, images["right"], np.load(inputs), ["emulator"])
    assert [agreement.name for agreement in found] == ["emulator", "onnxruntime"]
    assert found[0] == Agreement("emulator", differing=0, outputs=36, largest_steps=0.0)


def test_what_differs(model: Path, images: dict[str, Path], inputs: Path) -> None:
    found = verify(model, images["wrong"], np.load(inputs), ["emulator"])
    # Only the output with the other bias, by 300 * 0.0005 = 1.5 steps of 0.1: one or two.
    assert 0 < found[0].differing <= 9
    assert found[0].largest_steps == pytest.approx(2)


@pytest.mark.parametrize(("name", "status"), [("right", 0), ("wrong", 1)])
def test_the_command(
    model: Path, images: dict[str, Path], inputs: Path, name: str, status: int
) -> None:
    arguments = [str(model), str(images[name]), "--input", str(inputs)]
    table = CliRunner().invoke(main, arguments)
    assert table.exit_code == status, table.output
    assert "36 outputs of 9 words" in " ".join(table.output.split())
    shown = CliRunner().invoke(main, [*arguments, "--json"])
    assert shown.exit_code == status
    assert json.loads(shown.stdout)[0]["name"] == "emulator"


def test_mistakes_are_one_line(model: Path, images: dict[str, Path], inputs: Path) -> None:
    arguments = [str(model), str(images["right"]), "--input", str(inputs), "--device", "nothing"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "'nothing'" in done.stderr
