from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fixtures.onnx_files import value
from onnx import TensorProto, helper

from trencadis_compiler.importer.calibration import CalibrationError
from trencadis_compiler.importer.samples import load_samples, match_samples


def model(*inputs: onnx.ValueInfoProto) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", [entry.name], [f"{entry.name}_out"]) for entry in inputs]
    outputs = [value(node.output[0], "N") for node in nodes]
    return helper.make_model(helper.make_graph(nodes, "net", list(inputs), outputs))


def test_an_array_is_inputs_one_after_the_other(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.save(tmp_path / "x.npy", x)
    samples = load_samples(tmp_path / "x.npy", model(value("x", 3, 4)))
    assert samples.count == 2
    assert [sample["x"].tolist() for sample in samples] == [x[:3].tolist(), x[3:].tolist()]
    assert load_samples(tmp_path / "x.npy", model(value("x", "N", 4))).count == 6


def test_several_inputs_by_name(tmp_path: Path) -> None:
    x, k = np.ones((4, 3), np.float32), np.arange(2)
    np.savez(tmp_path / "data.npz", x=x, k=k)
    proto = model(value("x", 2, 3), value("k", dtype=TensorProto.INT64))
    samples = load_samples(tmp_path / "data.npz", proto)
    assert [sample["k"].shape for sample in samples] == [(), ()]
    assert [int(sample["k"]) for sample in samples] == [0, 1]
    assert [s["x"].shape for s in samples.part(1, 2)] == [(2, 3)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (np.ones((4, 5)), "input 'x' is nx3, or several of these along axis 0, not 4x5"),
        (np.ones(3), "input 'x' is nx3, or several of these along axis 0, not 3"),
        (np.ones((0, 3)), "takes 1 rows at a time, but there are 0"),
        (np.full((2, 3), np.nan), "has numbers that are not finite"),
        (np.full((2, 3), "a"), "has type float32, not <U1"),
        ({"y": np.ones((2, 3))}, "no array for input 'x'; the file has y"),
        ({"x": np.ones((2, 3)), "y": np.ones(2)}, "array 'y' is no input of the model"),
    ],
)
def test_arrays_that_do_not_fit(arrays: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        match_samples(arrays, model(value("x", "n", 3)))


def test_samples_that_do_not_match() -> None:
    proto = model(value("a", "n", 3), value("b", "n", 2))
    with pytest.raises(CalibrationError, match="input 'b' has 3 samples, another input 2"):
        match_samples({"a": np.ones((2, 3)), "b": np.ones((3, 2))}, proto)
    with pytest.raises(CalibrationError, match=r"the model has 2 inputs; give an \.npz file"):
        match_samples(np.ones((2, 3)), proto)


def test_not_a_multiple() -> None:
    with pytest.raises(CalibrationError, match="takes 2 rows at a time, but there are 3"):
        match_samples(np.ones((3, 3)), model(value("x", 2, 3)))


def test_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(CalibrationError, match=r"x\.npz: not an archive of arrays"):
        load_samples(tmp_path / "x.npz", model(value("x", 2, 3)))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8])
def test_a_folder_of_images(tmp_path: Path, last: bool, dtype: int) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = (255, 128, 0)
    for name in ("b.png", "a.png"):
        image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    shape = ("N", 4, 4, 3) if last else ("N", 3, 4, 4)
    samples = load_samples(tmp_path, model(value("x", *shape, dtype=dtype)))
    assert samples.count == 2
    x = next(iter(samples))["x"]
    middle = x[0, 1, 1] if last else x[0, :, 1, 1]
    expected: dict[int, list[float]] = {
        TensorProto.FLOAT: [1.0, float(np.float32(128) / np.float32(255)), 0.0],
        TensorProto.UINT8: [255, 128, 0],
        TensorProto.INT8: [127, 0, -128],
    }
    assert middle.tolist() == expected[dtype]


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no images"):
        load_samples(tmp_path, model(value("x", "N", 3, 4, 4)))
    with pytest.raises(CalibrationError, match="one input of 1 or 3 channels"):
        load_samples(tmp_path, model(value("x", "N", 4)))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(CalibrationError, match=r"a\.png: not an image that can be read"):
        load_samples(tmp_path, model(value("x", "N", 3, 4, 4)))
