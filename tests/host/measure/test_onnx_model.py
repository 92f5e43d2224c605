"""ONNX files with the inputs of a compiled network."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_format.errors import InputError
from trencadis_host.measure.onnx_model import OnnxModel


def save(path: Path, *, batch: int | str = "N", external: bool = False) -> Path:
    """`y = relu(x + c)`, whose sum is `s`."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["s"]), helper.make_node("Relu", ["s"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(np.array([0, -1, -2], np.float32), "c")],
    )
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, path, save_as_external_data=external, size_threshold=0, location="c.bin")
    return path


@pytest.mark.parametrize("batch", ["N", 4, 1])
@pytest.mark.parametrize("samples", [1, 4, 70])
def test_batches_of_any_size(tmp_path: Path, batch: int | str, samples: int) -> None:
    model = OnnxModel(save(tmp_path / "m.onnx", batch=batch), ["x"], inner=["s", "none"])
    assert (model.outputs, model.inner) == (("y",), ("s",))
    inputs = np.arange(3 * samples, dtype=np.float32).reshape(samples, 3)
    made = model.run({"x": inputs}, ["s", "y"])
    sums = inputs - np.arange(3, dtype=np.float32)
    assert np.array_equal(made["s"], sums)
    assert np.array_equal(made["y"], np.maximum(sums, 0))


def test_data_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m.onnx", external=True)
    monkeypatch.chdir(tmp_path)
    inputs = np.ones((2, 3), np.float32)
    for name in (path, Path("m.onnx")):
        assert OnnxModel(name, ["x"]).run({"x": inputs}, ["y"])["y"].tolist() == [[1, 0, 0]] * 2


def test_the_only_input_may_have_another_name(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx")
    inputs = np.ones((1, 3), np.float32)
    assert OnnxModel(path, ["image"]).run({"image": inputs}, ["y"])["y"].tolist() == [[1, 0, 0]]
    with pytest.raises(
        InputError, match=r"its inputs are \['x'\], those of the image \['a', 'b'\]"
    ):
        OnnxModel(path, ["a", "b"])


def test_what_onnxruntime_refuses_is_one_line(tmp_path: Path) -> None:
    model = OnnxModel(save(tmp_path / "m.onnx"), ["x"])
    with pytest.raises(InputError, match=r"m\.onnx: onnxruntime refuses the inputs: ") as caught:
        model.run({"x": np.ones((1, 3))}, ["y"])
    assert "\n" not in str(caught.value)
    broken = onnx.load(save(tmp_path / "b.onnx"))
    broken.graph.node[0].op_type = "Nonsense"
    onnx.save(broken, tmp_path / "b.onnx")
    with pytest.raises(InputError, match=r"b\.onnx: onnxruntime cannot run it: ") as caught:
        OnnxModel(tmp_path / "b.onnx", ["x"])
    assert "\n" not in str(caught.value)
