"""Comparing a compiled network with its model."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_hw.container import InputError
from trencadis_sim.emulator import Emulator
from trencadis_sim.verify import Agreement, verify
from trencadis_sim.verify_cli import main


@pytest.fixture
def model(compiled) -> Path:
    return compiled()[0]


@pytest.fixture
def images(tmp_path: Path, model: Path, compiled) -> dict[str, Path]:
    """The model compiled, and another one of which the last scale is twice as large."""
    other = onnx.load(model)
    scale = next(t for t in reversed(other.graph.initializer) if t.data_type == TensorProto.FLOAT)
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 2, scale.name))
    onnx.save(other, tmp_path / "wrong.onnx")
    compile_model(tmp_path / "wrong.onnx", load_board("sim")).overlay.save(tmp_path / "wrong.tcd")
    return {"right": compiled()[1], "wrong": tmp_path / "wrong.tcd"}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    array = np.random.default_rng(1).normal(0, 3, (9, 2, 8, 8)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", array)
    return tmp_path / "inputs.npy"


def test_what_agrees(model: Path, images: dict[str, Path], inputs: Path) -> None:
    found = verify(model, images["right"], np.load(inputs), ["emulator"])
    assert [agreement.name for agreement in found] == ["emulator", "onnxruntime"]
    assert found[0] == Agreement("emulator", differing=0, outputs=90, largest_steps=0.0)


def test_what_differs(model: Path, images: dict[str, Path], inputs: Path) -> None:
    found = verify(model, images["wrong"], np.load(inputs), ["emulator"])
    assert 0 < found[0].differing <= 90
    assert found[0].largest_steps > 1


@pytest.mark.parametrize(("name", "status"), [("right", 0), ("wrong", 1)])
def test_the_command(
    model: Path, images: dict[str, Path], inputs: Path, name: str, status: int
) -> None:
    arguments = [str(model), str(images[name]), "--input", str(inputs)]
    table = CliRunner().invoke(main, arguments)
    assert table.exit_code == status, table.output
    assert "90 outputs of 9 words" in " ".join(table.output.split())
    shown = CliRunner().invoke(main, [*arguments, "--json"])
    assert shown.exit_code == status
    assert json.loads(shown.stdout)[0]["name"] == "emulator"


def float_model(folder: Path) -> Path:
    """A layer of a float network, and data to calibrate it with."""
    rng = np.random.default_rng(2)
    weights = numpy_helper.from_array(rng.normal(0, 1, (16, 5)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [weights],
    )
    path = folder / "float.onnx"
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    np.save(folder / "calibration.npy", rng.normal(0, 1, (30, 16)).astype(np.float32))
    return path


def test_float_models_are_quantised_as_the_compiler_did(tmp_path: Path) -> None:
    model, data = float_model(tmp_path), tmp_path / "calibration.npy"
    image = tmp_path / "float.tcd"
    compile_model(model, load_board("sim"), calibration=np.load(data)).overlay.save(image)
    arguments = [str(model), str(image), "--input", str(data), "--json"]
    done = CliRunner().invoke(main, [*arguments, "--calibration", str(data)])
    assert done.exit_code == 0, done.output
    emulator, onnxruntime = json.loads(done.stdout)
    assert emulator["differing"] == 0
    # The quantised model, not the float one, whose outputs are other numbers altogether.
    assert onnxruntime["differing"] < 15
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "give --calibration data" in done.stderr
    np.save(tmp_path / "other.npy", 3 * np.load(data))
    done = CliRunner().invoke(main, [*arguments, "--calibration", str(tmp_path / "other.npy")])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"sparse-verify: {image}: its input has scale ")
    assert "or with other calibration data" in done.stderr


def test_a_run_may_not_take_for_ever(
    model: Path, images: dict[str, Path], inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(
        "trencadis_host.session.open_device",
        lambda name, overlay, options: given.append(options.timeout_s) or Emulator(overlay),
    )
    arguments = [str(model), str(images["right"]), "--input", str(inputs)]
    assert CliRunner().invoke(main, [*arguments, "--timeout", "7"]).exit_code == 0
    assert given == [7.0]


def test_mistakes_are_one_line(model: Path, images: dict[str, Path], inputs: Path) -> None:
    arguments = [str(model), str(images["right"]), "--input", str(inputs), "--device", "nothing"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "'nothing'" in done.stderr


def test_bad_inputs_are_noticed_before_a_device_is_opened(tmp_path: Path, compiled) -> None:
    model = compiled()[0]
    sparse = compile_model(model, load_board("sim"), input_nonzeros=1).overlay
    sparse.save(tmp_path / "sparse.tcd")
    inputs = np.ones((3, 2, 8, 8), np.float32)
    with pytest.raises(InputError, match="may have 1 values that are not zero at a position"):
        verify(model, tmp_path / "sparse.tcd", inputs, [f"serial:{tmp_path}/none"])
