"""The device beside onnxruntime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.errors import InputError
from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_host.measure import beside
from trencadis_host.measure.beside import BATCHES, beside_others


def test_figures_of_every_batch(compiled: Callable[..., tuple[Path, Path]]) -> None:
    model, image = compiled()
    rows = beside_others(image, model, "cpu", all_threads=2, seconds=0.001)
    assert [(row["threads"], row["batch"]) for row in rows] == [
        (threads, batch) for threads in (1, 2) for batch in BATCHES
    ]
    assert all(row["onnxruntime_exact_different"] == 0 for row in rows)
    assert all(row["device"] > 0 and row["onnxruntime_default"] > 0 for row in rows)


def test_another_model(compiled: Callable[..., tuple[Path, Path]], image: Path) -> None:
    model, _ = compiled()
    with pytest.raises(InputError, match="give the model that the image was compiled from"):
        beside_others(image, model, "cpu", all_threads=1, seconds=0.001)


def test_a_batch_that_the_model_fixes(compiled: Callable[..., tuple[Path, Path]]) -> None:
    model, image = compiled(batch=2)
    rows = beside_others(image, model, "cpu", all_threads=1, seconds=0.001)
    assert [row["batch"] for row in rows] == [2]
    assert rows[0]["onnxruntime_exact_different"] == 0


def test_several_segments(tmp_path: Path, compiled: Callable[..., tuple[Path, Path]]) -> None:
    model, _ = compiled()
    graph = onnx.load(model).graph
    last = next(node for node in graph.node if node.output[0] == graph.output[0].name)
    changed = onnx.load(model)
    changed.graph.node[len(graph.node) - 1].output[0] = "scores"
    changed.graph.node.append(onnx.helper.make_node("Softmax", ["scores"], ["logits"], axis=1))
    assert last == graph.node[-1]
    onnx.save(changed, tmp_path / "two.onnx")
    compile_model(tmp_path / "two.onnx", load_board("sim")).save(tmp_path / "two.tcd")
    two = tmp_path / "two.tcd", tmp_path / "two.onnx"
    rows = beside_others(*two, "cpu", all_threads=1, seconds=0.001)
    assert [row["batch"] for row in rows] == list(BATCHES)
    assert all(row["onnxruntime_exact_different"] == 0 for row in rows)


def test_what_is_no_model(image: Path) -> None:
    with pytest.raises(InputError, match="onnxruntime cannot run it"):
        beside_others(image, image, "cpu", all_threads=1, seconds=0.001)


def test_openvino_where_it_is_installed(
    compiled: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = compiled()
    made: list[tuple[Path, int]] = []

    class Fake:
        def __init__(self, path: Path, threads: int) -> None:
            made.append((path, threads))
            self._session = open_session(path, Mode.INTEGER, threads=1)

        def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.asarray(array) + 1 for array in self._session.run(names, feed)]

    monkeypatch.setattr(beside, "has_openvino", lambda: True)
    monkeypatch.setattr(beside, "OpenvinoModel", Fake)
    rows = beside_others(image, model, "cpu", all_threads=1, seconds=0.001)
    assert made == [(model, 1)]
    outputs = open_session(model, Mode.INTEGER, threads=1).get_outputs()[0].shape[1]
    assert [row["openvino_different"] for row in rows] == [batch * outputs for batch in BATCHES]
