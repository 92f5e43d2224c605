"""`sparse-run --labels`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from trencadis_host import Session
from trencadis_host.cli import run

RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., tuple[Path, Path]]
) -> dict[str, Path]:
    """The model and its image, inputs, and labels of which some are what the image says."""
    folder = tmp_path_factory.mktemp("labelled")
    model, image = compiled()
    inputs = RNG.normal(0, 3, (9, 2, 8, 8)).astype(np.float32)
    with Session(image, "emulator") as session:
        (outputs,) = session.run(None, {"image": inputs})
    labels = outputs.argmax(axis=1)
    labels[:2] = (labels[:2] + 1) % 10
    np.save(folder / "x.npy", inputs)
    np.save(folder / "y.npy", labels)
    return {"model": model, "image": image, "x": folder / "x.npy", "y": folder / "y.npy"}


def float_model(path: Path, *, name: str = "image", nodes: int = 1, classes: int = 10) -> Path:
    """A linear model with one output, or two."""
    weights = RNG.normal(size=(128, classes)).astype(np.float32)
    outputs = [f"score{i}" for i in range(nodes)]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", [name], ["flat"]),
            *(helper.make_node("MatMul", ["flat", "w"], [output]) for output in outputs),
        ],
        "float",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", classes]) for o in outputs],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def call(files: dict[str, Path], *more: Any, labels: Path | None = None) -> Result:
    """`sparse-run` on the emulator with labels."""
    arguments = [files["image"], "--input", files["x"], "--labels", labels or files["y"], *more]
    arguments += ["--device", "emulator"]
    return CliRunner().invoke(run, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.strip().splitlines()
    return line


def test_the_image_beside_the_models(files: dict[str, Path], tmp_path: Path) -> None:
    original = float_model(tmp_path / "float.onnx", name="other")
    result = call(files, "--float", original, "--quantised", files["model"], "--json")
    shown = json.loads(result.stdout)
    assert "outputs" not in shown
    found = shown["accuracy"]
    assert list(found) == ["image", "float", "quantised"]
    assert (found["image"]["right"], found["image"]["samples"]) == (7, 9)
    assert found["quantised"] == found["image"]
    flat = np.load(files["x"]).reshape(9, -1)
    weights = numpy_helper.to_array(onnx.load(original).graph.initializer[0])
    right = np.count_nonzero((flat @ weights).argmax(axis=1) == np.load(files["y"]))
    assert found["float"]["right"] == right


def test_the_table(files: dict[str, Path]) -> None:
    result = call(files)
    assert result.exit_code == 0, result.output
    assert "77.78%" in result.stdout
    assert "top-5" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_outputs_are_written_too(files: dict[str, Path], tmp_path: Path) -> None:
    result = call(files, "--output", tmp_path / "out.npy")
    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "out.npy").shape == (9, 10)


def test_scores_of_several_outputs(files: dict[str, Path], tmp_path: Path) -> None:
    two = float_model(tmp_path / "two.onnx", nodes=2)
    line = refused(call(files, "--float", two))
    assert f"{two}: its outputs are ['score0', 'score1']; none is 'logits'" in line
    assert "none is 'score0'" in refused(call(files, "--scores", "score0"))


def test_other_models(files: dict[str, Path], tmp_path: Path) -> None:
    few = float_model(tmp_path / "few.onnx", classes=2)
    assert "has scores of classes 0 to 1, but label" in refused(call(files, "--float", few))
    one = float_model(tmp_path / "one.onnx", classes=1)
    assert "always the largest" in refused(call(files, "--quantised", one))
    assert "not an ONNX model" in refused(call(files, "--float", files["x"]))
    assert "cannot be read" in refused(call(files, "--float", tmp_path / "none.onnx"))


def test_bad_labels_are_noticed_before_a_device_is_opened(
    files: dict[str, Path], tmp_path: Path
) -> None:
    labels = tmp_path / "bad.npy"
    np.save(labels, np.full(9, 10))
    line = refused(call(files, "--device", f"serial:{tmp_path}/none", labels=labels))
    assert "output 'logits' has scores of classes 0 to 9, but label 0 is 10" in line


def test_a_model_is_for_labels(files: dict[str, Path]) -> None:
    arguments = [files["image"], "--input", files["x"], "--float", files["model"]]
    result = CliRunner().invoke(run, [str(argument) for argument in arguments])
    assert "--float is for counting classes: give --labels y.npy, too" in refused(result)
