import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from trencadis_compiler.cli import main
from trencadis_format.compiled import CompiledNetwork, load_overlay
from trencadis_judge import JudgeError


@pytest.fixture
def model(writer) -> Path:
    w = writer()
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 2, 3, 3))), 2**-3)
    y = w.node("Gemm", w.node("Flatten", y), w.integers(w.sparse(5, 216)), transB=1)
    return w.save(w.quantised(y, 2**-2), 5)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(folder: Path, *arguments: Any) -> str:
    """The one line of a refusal; no file may have come or changed."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("sparse-compile: ")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return lines[0]


def test_a_model_becomes_an_image_beside_it(model) -> None:
    result = run(model)
    assert result.exit_code == 0, result.output
    image = model.with_suffix(".tcd")
    overlay = load_overlay(image)
    assert overlay.input.name == "x"
    for text in ("Conv3", "Gemm", "weights are not zero", "full", "cycles per inference"):
        assert text in result.stdout, result.stdout
    assert f"{image}:" in result.stdout.replace("\n", "")
    assert result.stderr == ""


def test_an_input_of_indices_and_values(model) -> None:
    result = run(model, "--input-nonzeros", 1)
    assert result.exit_code == 0, result.output
    (row,) = (line.split() for line in result.stdout.splitlines() if line.startswith("Conv3  "))
    assert row[1:4] == ["6x6x6", "50%", "50%"]  # output, weights, inputs: one of two
    overlay = load_overlay(model.with_suffix(".tcd"))
    assert overlay.report["layers"][0]["static"]
    assert overlay.input.nonzeros == 1
    assert overlay.input_bytes == 4 * 8 * 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((3,), "an input position has 2 channels; 3 of them cannot be not zero: choose 1..2"),
        ((1, "--board", "u250"), "the kernel of board 'u250' takes dense inputs only; choose one"),
    ],
)
def test_inputs_that_cannot_be_sparse(model, tmp_path, options, message) -> None:
    assert message in refused(tmp_path, model, "--input-nonzeros", *options)


def test_a_vector_may_have_its_numbers_anywhere(writer) -> None:
    # Neighbours belong to one lane, so cycles depend on the input.
    w = writer(shape=(600,))
    y = w.node("Gemm", w.quantised("x"), w.integers(w.sparse(8, 600)), transB=1)
    result = run(w.save(w.quantised(y, 2**-2), 8), "--input-nonzeros", 20, "--json")
    layer = json.loads(result.stdout)["layers"][0]
    assert (layer["reading"], layer["static"]) == ("owned", False)


@pytest.mark.parametrize("channels", [4096, 4097])
def test_more_channels_than_an_entry_can_name(writer, tmp_path, channels) -> None:
    w = writer(shape=(channels,))
    y = w.node("Gemm", w.quantised("x"), w.integers(w.sparse(2, channels, density=0.01)), transB=1)
    model = w.save(w.quantised(y, 2**-2), 2)
    if channels == 4096:
        assert run(model, "--input-nonzeros", 9).exit_code == 0
    else:
        text = refused(tmp_path, model, "--input-nonzeros", 9)
        assert "has 4097 channels; a sparse input may have 4096" in text


def test_the_same_model_gives_the_same_image(model, tmp_path) -> None:
    for name in ("a.tcd", "b.tcd"):
        assert run(model, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "a.tcd").read_bytes() == (tmp_path / "b.tcd").read_bytes()


def test_report_as_json(model, tmp_path) -> None:
    result = run(model, "-o", tmp_path / "out.tcd", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    kept = CompiledNetwork.load(tmp_path / "out.tcd").report
    assert report["cycles_dense"] >= report["cycles_sparse_weights"] >= report["cycles"] > 0
    assert [kept[name] for name in ("cycles_dense", "cycles_sparse_weights")] == [
        report["cycles_dense"],
        report["cycles_sparse_weights"],
    ]
    assert kept.items() <= report.items()
    assert {"host_s", "onnxruntime_inferences_per_s", "advice"} <= report.keys() - kept.keys()
    assert [layer["name"] for layer in report["layers"]] == ["Conv3", "Gemm8"]
    wanted = {"nonzeros", "kernels_per_tile", "tiles", "packing_efficiency", "cycles"}
    assert wanted | {"kernel_shape", "multiplier_use"} <= report["layers"][0].keys()


def test_report_as_files(model, tmp_path) -> None:
    folder = tmp_path / "a" / "report"
    assert run(model, "--report", folder).exit_code == 0
    names = {path.name for path in folder.iterdir()}
    assert names >= {"report.json", "estimate_layer_cycles.json", "index.html"}
    report = json.loads((folder / "report.json").read_text())
    performance = json.loads((folder / "estimate_network_performance.json").read_text())
    assert performance["cycles_per_word"] == report["cycles_per_word"]
    assert performance["max_cycles_node_name"] in ("Conv3", "Gemm8")
    assert (folder / "index.html").read_text().startswith("<!DOCTYPE html>")


def test_calibration_measures_relu_sparsity(model, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(0, 1, (20, 2, 8, 8)).astype("f4"))
    without = json.loads(run(model, "--json").stdout)
    result = run(model, "--json", "--calibration", tmp_path / "x.npy")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert "estimated without a profile" in without["cycles_are"]
    assert "estimated from the profile given" in report["cycles_are"]
    assert report["layers"][1]["input_entries"] != without["layers"][1]["input_entries"]


def test_names_that_look_like_markup(model) -> None:
    graph = onnx.load(str(model))
    next(n for n in graph.graph.node if n.op_type == "Conv").name = "[red]/conv[0]\x1b[31m[/]"
    onnx.save(graph, str(model))
    result = run(model)
    assert result.exit_code == 0, result.output
    assert "[red]/conv[0]\\x1b[31m[/]" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option) -> None:
    result = run(option)
    assert result.exit_code == 0
    assert "--calibration" in result.stdout


def test_version() -> None:
    assert run("--version").exit_code == 0


def test_no_arguments() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Missing argument 'MODEL'" in result.stderr


# --- bad input -----------------------------------------------------------------------------------


def test_missing_model(tmp_path) -> None:
    assert "none.onnx: cannot be read: No such file" in refused(tmp_path, tmp_path / "none.onnx")


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 0.999])
def test_truncated_model(model, part) -> None:
    data = model.read_bytes()
    model.write_bytes(data[: int(part * len(data))])
    assert "; export it again" in refused(model.parent, model)


def test_foreign_model(tmp_path) -> None:
    path = tmp_path / "photo.onnx"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    assert "not an ONNX model" in refused(tmp_path, path)


def test_other_files_instead_of_models(model, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(5))
    assert run(model, "-o", tmp_path / "net.tcd").exit_code == 0
    for name, kind in (("x.npy", "a NumPy array"), ("net.tcd", "an overlay image")):
        text = refused(tmp_path, tmp_path / name, "-o", tmp_path / "out.tcd")
        wrong = f"{tmp_path / name}: not an ONNX model (it is {kind}); give an .onnx file"
        assert text == f"sparse-compile: {wrong}"


def test_unsupported_operators(writer, tmp_path) -> None:
    w = writer(shape=(20,))
    y = w.node("Softmax", w.node("MatMul", w.quantised("x"), w.integers(w.sparse(20, 9))))
    path = w.save(w.node("Erf", y), 9)
    assert "unsupported operators: Softmax 'Softmax4'; Erf 'Erf5'; " in refused(
        tmp_path, path, "--strict"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "kernels", "images", "pieces"),
    [((2, 90, 90), (4, 2, 3, 3), 1, 12), ((2, 8, 8), (3000, 2, 8, 8), 3, 3)],
)
def test_networks_that_are_too_big_run_in_pieces(
    writer, tmp_path, shape, kernels, images, pieces
) -> None:
    w = writer(shape=shape)
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(*kernels, density=0.02)))
    sizes = [size - window + 1 for size, window in zip(shape[1:], kernels[2:], strict=True)]
    result = run(
        w.save(w.quantised(y, 0.5), kernels[0], *sizes), "--strict", "--json", "--board", "sim"
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    (stage,) = report["pieces"]
    assert (stage["images"], stage["pieces"]) == (images, pieces)
    assert report["cycles"] == stage["cycles"] > stage["load_cycles"]
    assert report["overlay_share"] == 1


@pytest.mark.slow
def test_too_many_layers(writer, tmp_path) -> None:
    w = writer(shape=(10,))
    y = w.quantised("x")
    for _ in range(9):
        y = w.quantised(w.node("MatMul", y, w.integers(w.sparse(10, 10))))
    result = run(w.save(y, 10), "--strict", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [segment["place"] for segment in report["segments"]] == ["overlay"]
    assert [len(stage["layers"]) for stage in report["pieces"]] == [1, 8]


def test_windows_that_the_formats_cannot_hold(writer, tmp_path) -> None:
    w = writer(shape=(1, 20, 20))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 1, 1, 1, density=1)))
    y = w.quantised(w.node("MaxPool", y, kernel_shape=[20, 20]), 0.5)
    text = refused(tmp_path, w.save(y, 4, 1, 1), "--strict")
    assert "layer 'Conv3': the core does not hold it" in text


def test_k_wta_at_the_end(writer, tmp_path) -> None:
    w = writer(shape=(20,))
    y = w.quantised(w.node("MatMul", w.quantised("x"), w.integers(w.sparse(20, 9))))
    values, indices = w.top_k(y, 2, axis=1)
    zeros = w.node("ConstantOfShape", w.node("Shape", y))
    y = w.node("ScatterElements", zeros, indices, values, axis=1)
    text = refused(tmp_path, w.save(y, 9), "--strict")
    assert "a part of the model is left to the host" in text


@pytest.mark.parametrize(
    ("line", "changed", "message"),
    [
        (
            "sum_bits = 22",
            "sum_bits = 99",
            "EngineConfig.sum_bits must be an integer in 18..32, not 99",
        ),
        ("sum_bits = 22", 'sum_bits = "22"', "EngineConfig.sum_bits must be an integer in 18..32"),
        ("sum_bits = 22", "sum_bit = 22", "sum_bit"),
        ('routing = "banked"', 'routing = "bank"', "EngineConfig.routing must be "),
    ],
)
def test_a_kernel_that_is_not_possible(model, line, changed, message) -> None:
    text = resources.files("trencadis_boards").joinpath("sim.toml").read_text()
    assert line in text
    board = model.parent / "mine.toml"
    board.write_text(text.replace(line, changed))
    shown = refused(model.parent, model, "--board", str(board))
    assert "mine.toml: [kernel]: " in shown
    assert message in shown


def test_unknown_board(model) -> None:
    text = refused(model.parent, model, "--board", "u25O")
    assert "board 'u25O' is not known; did you mean " in text


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"text", "not an array of numbers"),
        (
            np.zeros((3, 2, 8), np.float32),
            "is nx2x8x8, or several of these along axis 0, not 3x2x8",
        ),
        (np.full((3, 2, 8, 8), np.nan, np.float32), "has numbers that are not finite"),
        (np.zeros((0, 2, 8, 8), np.float32), "takes 1 rows at a time, but there are 0"),
        (np.zeros((), np.float32), "not a single number"),
        (np.array(["a", "b"]), "not of numbers"),
        (
            np.zeros((3, 2, 8, 8), np.float32),
            "input 'x' is zero in the first 3 samples",
        ),
    ],
    ids=["missing", "text", "shape", "nan", "empty", "scalar", "strings", "zeros"],
)
def test_bad_calibration_data(model, array, message) -> None:
    path = model.with_name("x.npy")
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif array is not None:
        np.save(path, array)
    text = refused(model.parent, model, "--calibration", path)
    assert text.startswith(f"sparse-compile: {path}: ")
    assert message in text


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((3, 20), np.inf, np.float32), "input 'x' has numbers that are not finite"),
        (np.zeros((0, 20), np.float32), "input 'x' takes 1 rows at a time, but there are 0"),
    ],
    ids=["inf", "empty"],
)
def test_bad_calibration_data_for_a_float_model(writer, tmp_path, array, message) -> None:
    w = writer(shape=(20,))
    model = w.save(w.node("MatMul", "x", w.constant(np.ones((20, 5), np.float32))), 5)
    path = tmp_path / "calibration.npy"
    np.save(path, array)
    text = refused(tmp_path, model, "--calibration", path)
    assert text.startswith(f"sparse-compile: {path}: {message}")


def test_calibration_data_with_more_than_a_sparse_input_has(model) -> None:
    array = np.zeros((3, 2, 8, 8), np.float32)
    array[1, :, 4, 5] = 1
    path = model.with_name("x.npy")
    np.save(path, array)
    arguments = (model, "--calibration", path, "--input-nonzeros")
    assert run(*arguments, 2).exit_code == 0
    text = refused(model.parent, *arguments, 1)
    assert text == (
        f"sparse-compile: {path}: input 'x' has 2 values that are not zero at a position of "
        "sample 1, more than the 1 of --input-nonzeros; allow 2"
    )


def test_output_in_a_folder_that_is_not_there(model) -> None:
    text = refused(model.parent, model, "-o", model.parent / "none" / "out.tcd")
    assert "out.tcd: cannot be written: there is no folder" in text


def test_output_that_is_the_model(model) -> None:
    assert "which would be overwritten; give another name" in refused(
        model.parent, model, "-o", model
    )


def test_report_folder_that_is_a_file(model) -> None:
    text = refused(model.parent, model, "--report", model)
    assert "cannot be made: " in text


def without(package: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run in a process in which a package cannot be imported."""
    script = (
        f"import sys; sys.modules[{package!r}] = None; "
        "from trencadis_compiler.cli import main; main(prog_name='sparse-compile')"
    )
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("package", "options"),
    [("onnxruntime", ["--calibration"]), ("jinja2", ["--report"])],
)
def test_missing_packages(writer, tmp_path, package, options) -> None:
    w = writer(shape=(20,))
    if package == "onnxruntime":
        path = w.save(w.node("MatMul", "x", w.constant(np.ones((20, 5), np.float32))), 5)
        np.save(tmp_path / "x.npy", np.zeros((4, 20), np.float32))
        options = [*options, tmp_path / "x.npy"]
    else:
        path = w.save(w.node("MatMul", w.quantised("x"), w.integers(w.sparse(20, 5))), 5)
        options = [*options, tmp_path / "report"] if options else []
    result = without(package, path, *options)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert "pip install 'trencadis[compiler]'" in result.stderr
    assert package in result.stderr
    assert result.stdout == ""
    assert not path.with_suffix(".tcd").exists()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["amaranth", "torch", "onnxruntime", "cocotb"])
def test_packages_that_are_not_needed(model, package) -> None:
    result = without(package, model, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["layers"]


def test_where_nothing_may_be_written(model) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder = model.parent / "locked"
    folder.mkdir(mode=0o555)
    assert "Permission denied" in refused(model.parent, model, "-o", folder / "out.tcd")


@pytest.fixture
def float_model(writer, tmp_path) -> Path:
    """A float model with data for it: a folder of its own, as users have it."""
    rng = np.random.default_rng(4)
    w = writer(shape=(12,))
    weights = w.constant(rng.normal(size=(12, 5)).astype(np.float32))
    np.save(tmp_path / "data.npy", rng.normal(size=(9, 12)).astype(np.float32))
    return w.save(w.node("MatMul", "x", weights), 5)


def test_again_takes_options_and_data_from_an_old_file(float_model, tmp_path) -> None:
    data, old, new = tmp_path / "data.npy", tmp_path / "old.tcd", tmp_path / "new.tcd"
    first = run(float_model, "-o", old, "--calibration", data, "--method", "percentile", "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["quantised"]["calibrated"] == 7
    assert run(float_model, "-o", new, "--again", old).exit_code == 0
    assert new.read_bytes() == old.read_bytes()
    # Found beside the model, too; other data are not taken for them.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = float_model.rename(elsewhere / float_model.name)
    data.rename(elsewhere / data.name)
    assert run(moved, "-o", new, "--again", old).exit_code == 0
    np.save(elsewhere / data.name, np.zeros((9, 12), np.float32))
    message = f"{old}: was compiled with the calibration data {data}, which has changed since; "
    assert message in refused(tmp_path, moved, "-o", new, "--again", old)
    (elsewhere / data.name).unlink()
    message = f"the calibration data {data}, which is not there; give the same data by --calib"
    assert message in refused(tmp_path, moved, "-o", new, "--again", old)


def test_the_copy_that_is_judged_is_kept_with_the_report(float_model, tmp_path) -> None:
    folder, data = tmp_path / "report", tmp_path / "data.npy"
    assert run(float_model, "--calibration", data, "--report", folder).exit_code == 0
    kinds = [node.op_type for node in onnx.load(folder / "quantised.onnx").graph.node]
    assert kinds.count("QuantizeLinear") == 1


def test_what_cannot_be_judged_is_written_with_a_note(writer, monkeypatch) -> None:
    w = writer(shape=(12,))
    y = w.node("MatMul", w.quantised("x"), w.integers(w.sparse(12, 4)))
    path = w.save(w.quantised(y, 2**-2), 4)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise JudgeError("node 'MatMul' has no float64 rule")

    monkeypatch.setattr("trencadis_compiler.verify.check.judge", refuse)
    result = run(path)
    assert result.exit_code == 0, result.output
    note = "not verified: the file cannot be judged: node 'MatMul' has no float64 rule"
    assert note in " ".join(result.stdout.split())
    assert path.with_suffix(".tcd").exists()
