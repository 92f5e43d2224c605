import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fixtures.onnx_files import kinds, run, value
from onnx import TensorProto, helper

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.standard import load_standard

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def external(name: str, *dims: int, **entries: Any) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=str(text))
    return tensor


def save(folder: Path, *tensors: onnx.TensorProto) -> Path:
    names = [tensor.name for tensor in tensors]
    nodes = [
        helper.make_node("MatMul" if not i else "Add", [last, name], [f"y{i}"])
        for i, (last, name) in enumerate(
            zip(["x", *(f"y{i}" for i in range(len(names)))], names, strict=False)
        )
    ]
    output = value(nodes[-1].output[0], "N", 3)
    graph = helper.make_graph(nodes, "net", [value("x", "N", 2)], [output], list(tensors))
    path = folder / "net.onnx"
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
        ).SerializeToString()
    )
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CompileError) as caught:
        load_standard(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def test_data_beside_the_model(tmp_path: Path) -> None:
    data = bytes(8) + WEIGHTS.tobytes()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/net.data").write_bytes(data)
    path = save(tmp_path, external("w", 2, 3, location="deep/net.data", offset=8, length=24))
    standard = load_standard(path)
    x = np.ones((1, 2), np.float32)
    assert run(standard.model.SerializeToString(), {"x": x})[0].tolist() == [[3, 5, 7]]
    assert kinds(standard) == ["MatMul"]
    together = path.read_bytes() + WEIGHTS.tobytes()
    assert standard.sha256 == hashlib.sha256(together).hexdigest()


def test_link_that_stays_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/1").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "net.data").symlink_to("blobs/1")
    load_standard(save(tmp_path, external("w", 2, 3, location="net.data")))


@pytest.mark.parametrize(
    "location", ["../net.data", "/etc/passwd", "", "a\\b", "link", "up/net.data"]
)
def test_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "net.data").write_bytes(WEIGHTS.tobytes())
    (folder / "link").symlink_to("../net.data")
    (folder / "up").symlink_to("..")
    text = refusal(save(folder, external("w", 2, 3, location=location)))
    assert "which is not below the model's folder" in text


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"length": 20}, "of 24 bytes has external data of 20 bytes"),
        ({"offset": -1}, "has external data of 24 bytes at -1"),
        ({"offset": "x"}, "has external data at no number"),
        ({"offset": 1}, "end at byte 25 of 'net.data', which has 24"),
        ({"offset": 1 << 60}, "which has 24"),
    ],
)
def test_data_that_are_not_where_they_should_be(
    tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    (tmp_path / "net.data").write_bytes(WEIGHTS.tobytes())
    text = refusal(save(tmp_path, external("w", 2, 3, location="net.data", **entries)))
    assert message in text


def test_missing_file(tmp_path: Path) -> None:
    text = refusal(save(tmp_path, external("w", 2, 3, location="net.data")))
    assert "'net.data' cannot be read: No such file" in text


def test_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.data")
    text = refusal(save(tmp_path, external("w", 2, 3, location="net.data")))
    assert "not a regular file" in text


def test_overlapping_data(tmp_path: Path) -> None:
    (tmp_path / "net.data").write_bytes(bytes(100))
    place = {"location": "net.data"}
    path = save(tmp_path, external("w", 2, 3, **place), external("b", 3, offset=20, **place))
    assert "constants 'w' and 'b' share data in 'net.data'" in refusal(path)


def test_too_much_data(tmp_path: Path) -> None:
    path = save(tmp_path, external("w", 1 << 17, 1 << 17, location="net.data"))
    assert "bytes of external data, more than the" in refusal(path)
