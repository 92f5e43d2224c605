"""Models tried from the command line's side."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

from trencadis_bench.models.board import SIZES, write_large_board
from trencadis_bench.models.collection import Candidate
from trencadis_bench.models.run import BEGIN, END, main, table
from trencadis_bench.models.trial import Trial, attempt
from trencadis_boards import load_board


def save(path: Path) -> Path:
    """A float model of two layers."""
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=size).astype(np.float32) for size in ((8, 6), (6, 4))]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(array, f"w{number}") for number, array in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def board(tmp_path: Path) -> Path:
    sim = Path(load_board.__code__.co_filename).parent / "sim.toml"
    return write_large_board(sim, tmp_path / "large.toml")


def test_the_large_board_has_the_largest_memories(board: Path) -> None:
    [engine] = load_board(str(board)).kernel.core.engines
    assert {name: getattr(engine, name) for name in SIZES} == SIZES


def test_a_float_model_is_accepted(tmp_path: Path, board: Path) -> None:
    path = save(tmp_path / "net.onnx")
    trial = attempt(Candidate("net", lambda: path), board, tmp_path / "work", timeout_s=60)
    assert (trial.model, trial.accepted, trial.overlay_share) == ("net", True, 1.0)
    assert trial.outputs > 0
    assert trial.different == 0


def test_a_file_that_is_no_model(tmp_path: Path, board: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("no model")
    trial = attempt(Candidate("net", lambda: path), board, tmp_path / "work", timeout_s=60)
    assert not trial.accepted
    assert trial.reason.startswith("not an ONNX model")


def test_the_command_writes_json_and_the_table(tmp_path: Path) -> None:
    save(tmp_path / "my-own-net.onnx")
    page = tmp_path / "models.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    output = tmp_path / "models.json"
    arguments = [
        *("--output", str(output), "--work", str(tmp_path / "work"), "--only", "my-own-net"),
        *("--models", str(tmp_path), "--docs", str(page)),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    [entry] = json.loads(output.read_text())
    assert sorted(entry) == [
        "accepted",
        "compile_s",
        "different",
        "model",
        "outputs",
        "overlay_share",
        "reason",
    ]
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n1 of 1 accepted; ")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text


def test_the_table() -> None:
    trials = [
        Trial("a", True, 0.5, 1.25, 1000, 0, "Softmax | on the host"),
        Trial("b", False, None, 0, 0, 0, "x" * 200),
    ]
    lines = table(trials).splitlines()
    assert lines[0] == "1 of 2 accepted; 1,000 numbers judged, 0 differ."
    assert lines[-2] == "| a | yes | 50.0 % | 1.2 | 1,000 | 0 | Softmax \\| on the host |"
    assert lines[-1].startswith("| b | no |  | 0.0 | 0 | 0 | xxx")
    assert lines[-1].endswith("xxx... |")


def test_what_was_tried_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "my-own-net.onnx")
    output = tmp_path / "models.json"
    entry = asdict(Trial("my-own-net", True, 0.5, 1.0, 7, 0, "as it was"))
    output.write_text(json.dumps([entry]))
    arguments = ["--output", str(output), "--work", str(tmp_path / "work"), "--resume"]
    arguments += ["--models", str(tmp_path), "--only", "my-own-net"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert json.loads(output.read_text()) == [entry]
