"""`sparse-bench --layers`."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.compiled import CompiledNetwork
from trencadis_host.cli import bench
from trencadis_host.held import held_tensors
from trencadis_host.measure.trace import float_names, trace_layers
from trencadis_host.measure.trace_table import trace_table

RNG = np.random.default_rng(6)

SHAPE = (1, 6, 6)


def float_model(path: Path, *, batch: int | str = "N", log: bool = True) -> Path:
    """Two layers, then a logarithm, which is not finite where the input is zero."""
    constants = {
        "w1": RNG.normal(size=(4, 1, 3, 3)),
        "w2": RNG.random(size=(64, 5)) / 8,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "first"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Flatten", ["r1"], ["f1"]),
        helper.make_node("MatMul", ["f1", "w2"], ["m2"], "second"),
        helper.make_node("Log" if log else "Neg", ["m2"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trace")
    model = float_model(folder / "float.onnx")
    inputs = RNG.normal(size=(40, *SHAPE)).astype(np.float32)
    compile_model(model, load_board("sim"), calibration=inputs).save(folder / "m.tcd")
    inputs[17:19] = 0
    np.save(folder / "x.npy", inputs)
    return {"float": model, "x": folder / "x.npy", "image": folder / "m.tcd"}


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(bench, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.strip().splitlines()
    return line


def test_values_beside_the_float_model(files: dict[str, Path]) -> None:
    network, inputs = CompiledNetwork.load(files["image"]), np.load(files["x"])
    first, second, log = trace_layers(network, {"x": inputs}, files["float"])
    assert (first["layer"], first["float_tensor"], first["place"]) == ("first", "f1", "overlay")
    held = held_tensors(network, {"x": inputs})[first["tensor"]]
    assert (first["low"], first["high"]) == (held.min(), held.max()) == (0.0, held.max())
    assert first["nonzero"] == np.count_nonzero(held) / held.size
    assert first["saturated"] == np.count_nonzero(held == held.max()) / held.size > 0
    assert 0.99 < first["correlation"] < 1
    assert 0 < first["error"] < 0.01
    report = {layer["name"]: layer["cycles"] for layer in network.report["layers"]}
    assert [first["cycles"], second["cycles"]] == list(report.values())
    # What the host makes: logarithms, of zero as well.
    assert (log["place"], log["tensor"], log["cycles"]) == ("host", "y", None)
    assert (log["not_finite"], log["not_compared"]) == (10, 10)
    assert np.isfinite(log["low"])


def test_the_table_and_the_json(files: dict[str, Path]) -> None:
    result = call(files["image"], "--layers", "--input", files["x"], "--float", files["float"])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    for heading in ("range", "not 0 %", "satur. %", "correl.", "error %", "cycles"):
        assert heading in result.stdout
    assert "y: 10 numbers are not finite; 10 were not compared" in result.stdout
    result = call(files["image"], "--layers", "--input", files["x"], "--json")
    rows = json.loads(result.stdout)["layers"]
    assert [row["layer"] for row in rows] == ["first", "second", "y"]
    assert all(row["correlation"] is None for row in rows)


def test_names_of_eighty_columns(files: dict[str, Path]) -> None:
    rows = trace_layers(CompiledNetwork.load(files["image"]), {"x": np.load(files["x"])})
    rows[0]["layer"] = "\x1b[31m[bold]" + "a" * 200
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(trace_table(rows, "title"))
    text = console.export_text()
    assert "\\x1b[31m[bold]aaa" in text.replace("\n", "")
    assert "\x1b" not in text
    assert text.count("a" * 8) < 6


def test_what_does_not_go_together(files: dict[str, Path], tmp_path: Path) -> None:
    image, x = files["image"], files["x"]
    assert "give --input x.npy" in refused(call(image, "--layers"))
    line = refused(call(image, "--layers", "--input", x, "--device", "cpu"))
    assert "looks into the emulator; leave out --device cpu" in line
    assert "give --layers, too" in refused(call(image, "--input", x, "--float", files["float"]))
    other = onnx.load(files["float"])
    for node in other.graph.node:
        node.output[:] = [f"other {name}" for name in node.output]
        node.input[:] = [
            name if name == "x" or name.startswith("w") else f"other {name}" for name in node.input
        ]
    other.graph.output[0].name = "other y"
    onnx.save(other, tmp_path / "other.onnx")
    line = refused(call(image, "--layers", "--input", x, "--float", tmp_path / "other.onnx"))
    assert "has none of the tensors of the layers, such as 'y'" in line


def test_inputs_that_are_not_numbers(files: dict[str, Path], tmp_path: Path) -> None:
    inputs = np.load(files["x"])
    inputs[20, 0, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", inputs)
    line = refused(call(files["image"], "--layers", "--input", tmp_path / "nan.npy"))
    assert "input 'x' must be finite" in line


def test_a_fixed_batch(tmp_path: Path) -> None:
    model = float_model(tmp_path / "fixed.onnx", batch=3, log=False)
    inputs = RNG.normal(size=(21, *SHAPE)).astype(np.float32)
    compiled = compile_model(model, load_board("sim"), calibration=inputs)
    rows = trace_layers(compiled.compiled, {"x": inputs}, model)
    assert [row["float_tensor"] for row in rows] == ["f1", "m2", "y"]
    assert all(row["correlation"] > 0.99 for row in rows)


def test_quantised_outputs(compiled: Callable[..., tuple[Path, Path]]) -> None:
    _, image = compiled(integer=True)
    inputs = RNG.normal(0, 3, (9, 2, 8, 8)).astype(np.float32)
    *_, last = trace_layers(CompiledNetwork.load(image), {"image": inputs})
    held = held_tensors(CompiledNetwork.load(image), {"image": inputs})["logits"]
    assert last["low"] == (held.min() - 4) / 4
    assert last["saturated"] == np.isin(held, (-128, 127)).mean()


def test_names_in_the_float_model() -> None:
    assert float_names("a_dequantised") == ["a_dequantised", "a"]
    assert float_names("a_QuantizeLinear_Output_DequantizeLinear_Output")[-1] == "a"
    assert float_names("a") == ["a"]
