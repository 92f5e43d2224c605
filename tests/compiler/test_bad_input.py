"""Hostile input: one clear line each, exit status 2, and nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from fixtures.onnx_files import save, value
from onnx import TensorProto, helper

from trencadis_compiler.cli import main

WEIGHTS = np.arange(24, dtype=np.float32).reshape(8, 3)


def refused(folder: Path, *arguments: Any) -> str:
    """The one line of a refusal."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = CliRunner().invoke(main, [*map(str, arguments), "--no-advice"])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("sparse-compile: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return done.stderr


def product(folder: Path) -> Path:
    """A float model of one layer."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    return save(
        folder,
        [node],
        inputs=[value("x", "N", 8)],
        outputs=[value("y", "N", 3)],
        constants={"w": WEIGHTS},
    )


def external(folder: Path, *entries: dict[str, Any]) -> Path:
    """The same with its weights elsewhere, in as many parts as there are entries."""
    path = product(folder)
    model = onnx.load(path)
    del model.graph.initializer[:], model.graph.node[:]
    shown = "x"
    for number, entry in enumerate(entries):
        tensor = TensorProto(name=f"w{number}", data_type=TensorProto.FLOAT)
        tensor.dims.extend((8, 3) if number == 0 else (3, 3))
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in entry.items():
            tensor.external_data.add(key=key, value=str(text))
        model.graph.initializer.append(tensor)
        made = "y" if number == len(entries) - 1 else f"y{number}"
        model.graph.node.append(helper.make_node("MatMul", [shown, f"w{number}"], [made]))
        shown = made
    path.write_bytes(model.SerializeToString())
    return path


def link_out(folder: Path) -> None:
    (folder / "net.data").symlink_to("../secret.data")


def whole(folder: Path) -> None:
    (folder / "net.data").write_bytes(WEIGHTS.tobytes() + bytes(64))


@pytest.mark.parametrize(
    ("prepare", "entries", "message"),
    [
        (whole, [{"location": "../secret.data"}], "which is not below the model's folder"),
        (link_out, [{"location": "net.data"}], "which is not below the model's folder"),
        (
            whole,
            [{"location": "net.data", "length": 1 << 20}],
            "has external data of 1048576 bytes",
        ),
        (
            whole,
            [{"location": "net.data", "offset": 100, "length": 96}],
            "end at byte 196 of 'net.data', which has 160",
        ),
        (
            whole,
            [
                {"location": "net.data", "length": 96},
                {"location": "net.data", "offset": 64, "length": 36},
            ],
            "share data in 'net.data'",
        ),
    ],
)
def test_data_elsewhere(
    tmp_path: Path,
    prepare: Callable[[Path], None],
    entries: list[dict[str, Any]],
    message: str,
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.data").write_bytes(WEIGHTS.tobytes())
    prepare(folder)
    line = refused(tmp_path, external(folder, *entries))
    assert message in line
    assert "'w" in line


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.ones((4, 5), np.float32),
            "input 'x' is Nx8, or several of these along axis 0, not 4x5",
        ),
        (np.full((4, 8), np.nan, np.float32), "input 'x' has numbers that are not finite"),
        (np.full((4, 8), np.inf, np.float32), "input 'x' has numbers that are not finite"),
        (np.ones((0, 8), np.float32), "takes 1 rows at a time, but there are 0"),
        (np.full((4, 8), "a"), "numbers"),
        (np.full((4, 8), 1j), "an array of complex128, not of numbers"),
    ],
)
def test_calibration_data(tmp_path: Path, array: Any, message: str) -> None:
    data = tmp_path / "data.npy"
    np.save(data, array)
    line = refused(tmp_path, product(tmp_path), "--calibration", data)
    assert f"{data}: " in line
    assert message.replace("Nx8", "nx8") in line


def test_calibration_folders(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    line = refused(tmp_path, product(tmp_path), "--calibration", folder)
    assert f"{folder}: a folder of images calibrates models with one input of 1 or 3" in line
    assert "cannot be read" in refused(
        tmp_path, product(tmp_path), "--calibration", tmp_path / "nothing.npy"
    )


def test_no_calibration(tmp_path: Path) -> None:
    path = product(tmp_path)
    assert f"sparse-compile {path} --calibration data.npy" in refused(tmp_path, path)


def test_two_tensors_of_one_name(tmp_path: Path) -> None:
    path = product(tmp_path)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y"], "other"))
    path.write_bytes(model.SerializeToString())
    assert "'y'" in refused(tmp_path, path)


@pytest.mark.parametrize("domain", ["my.own", "com.microsoft.extensions"])
def test_operators_of_nobody(tmp_path: Path, domain: str) -> None:
    node = helper.make_node("Mystery", ["x"], ["y"], "layer", domain=domain)
    inputs, outputs = [value("x", "N", 8)], [value("y", "N", 3)]
    path = save(tmp_path, [node], inputs=inputs, outputs=outputs, domains=(domain,))
    line = refused(tmp_path, path)
    assert "Mystery" in line
    assert domain in line
