"""Comparing a compiled network with its model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from trencadis_bench.verify.cli import main
from trencadis_bench.verify.verify import Agreement, verify
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.importer.quantising.quantise_float import QuantiseOptions
from trencadis_compiler.options import Options
from trencadis_format.compiled import CompiledNetwork, Source
from trencadis_format.errors import InputError
from trencadis_host.devices.emulator.device import Emulator


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
    made = compile_model(tmp_path / "wrong.onnx", load_board("sim")).compiled
    replace(made, source=Source()).save(tmp_path / "wrong.tcd")
    return {"right": compiled()[1], "wrong": tmp_path / "wrong.tcd"}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    array = np.random.default_rng(1).normal(0, 3, (9, 2, 8, 8)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", array)
    return tmp_path / "inputs.npy"


def test_what_agrees(model: Path, images: dict[str, Path], inputs: Path) -> None:
    found = verify(model, images["right"], np.load(inputs), ["emulator"])
    assert found.ok
    assert found.devices == (Agreement("emulator", 0, outputs=90, largest_steps=0.0),)
    assert [unit.differing for unit in found.judgement.units] == [0, 0]
    assert [unit.runtime_differing for unit in found.judgement.units] == [0, 0]
    assert [outcome.differing for outcome in found.judgement.outputs] == [0]


def test_what_differs(model: Path, images: dict[str, Path], inputs: Path) -> None:
    found = verify(model, images["wrong"], np.load(inputs), ["emulator"])
    assert not found.ok
    first = found.judgement.first_difference
    assert first is not None
    assert first.tensor == "logits"
    assert 0 < first.differing <= 90


@pytest.mark.parametrize(("name", "status"), [("right", 0), ("wrong", 1)])
def test_the_command(
    model: Path, images: dict[str, Path], inputs: Path, name: str, status: int
) -> None:
    arguments = [str(model), str(images[name]), "--input", str(inputs)]
    table = CliRunner().invoke(main, arguments)
    assert table.exit_code == status, table.output
    assert "2 held tensors on 9 inputs" in " ".join(table.output.split())
    assert ("the first node that differs is" in table.output) == bool(status)
    shown = CliRunner().invoke(main, [*arguments, "--json"])
    assert shown.exit_code == status
    assert json.loads(shown.stdout)["ok"] is not bool(status)


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
    compile_model(model, load_board("sim"), calibration=np.load(data)).save(image)
    arguments = [str(model), str(image), "--input", str(data), "--json"]
    done = CliRunner().invoke(main, [*arguments, "--calibration", str(data)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["ok"]
    # The quantised model, not the float one, whose outputs are other numbers altogether.
    assert found["judgement"]["outputs"][0]["largest"] < 1e-5
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "that it has no path of; give them by --calibration" in done.stderr
    np.save(tmp_path / "other.npy", 3 * np.load(data))
    done = CliRunner().invoke(main, [*arguments, "--calibration", str(tmp_path / "other.npy")])
    assert done.exit_code == 2
    assert f"{image}: was compiled with other calibration data" in done.stderr


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
    CompiledNetwork.of_overlay(sparse).save(tmp_path / "sparse.tcd")
    inputs = np.ones((3, 2, 8, 8), np.float32)
    with pytest.raises(InputError, match="may have 1 values that are not zero at a position"):
        verify(model, tmp_path / "sparse.tcd", inputs, [f"serial:{tmp_path}/none"])


def mixed_float_model(folder: Path) -> Path:
    """A float network of two inputs, a part of which only the host computes; and data for it."""
    rng = np.random.default_rng(3)
    weights = [
        numpy_helper.from_array(rng.normal(0, 1, (16, 16)).astype(np.float32), name)
        for name in ("w", "v")
    ]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"]),
            helper.make_node("Add", ["p", "z"], ["q"]),
            helper.make_node("Softmax", ["q"], ["s"]),
            helper.make_node("MatMul", ["s", "v"], ["y"]),
        ],
        "mixed",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16]) for name in "xz"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16])],
        weights,
    )
    path = folder / "mixed.onnx"
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    x, z = rng.normal(0, 1, (2, 12, 16)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, z=z)
    return path


def test_float_models_find_the_data_that_they_were_compiled_with(tmp_path: Path) -> None:
    model, data, image = mixed_float_model(tmp_path), tmp_path / "data.npz", tmp_path / "m.tcd"
    options = Options(quantise=QuantiseOptions(method="percentile"))
    compile_model(model, load_board("sim"), calibration=data, options=options).save(image)
    arguments = [str(model), str(image), "--input", str(data)]
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["devices"][0]["outputs"] == 12 * 16
    units = {unit["tensor"] for unit in found["judgement"]["units"]}
    assert {"p_dequantised", "s", "y"} <= units
    moved = tmp_path / "moved.npz"
    data.rename(moved)
    arguments[-1] = str(moved)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert f"{data}, which is not there; give the same data by --calibration" in done.stderr
    assert CliRunner().invoke(main, [*arguments, "--calibration", str(moved)]).exit_code == 0
    np.savez(data, x=np.zeros((12, 16), np.float32), z=np.zeros((12, 16), np.float32))
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, "which has changed since" in done.stderr) == (2, True)


def test_inputs_are_those_of_the_model(tmp_path: Path) -> None:
    model, data, image = mixed_float_model(tmp_path), tmp_path / "data.npz", tmp_path / "m.tcd"
    compile_model(model, load_board("sim"), calibration=data).save(image)
    with pytest.raises(InputError, match=r"give an \.npz file with arrays named x, z"):
        verify(model, image, np.zeros((1, 16), np.float32), [])
    with pytest.raises(InputError, match="inputs are called x; the model's are x, z"):
        verify(model, image, {"x": np.zeros((1, 16), np.float32)}, [])
