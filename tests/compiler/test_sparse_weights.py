"""Layers given as `sparse_initializer`, too large to be written out."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.steps import constants
from trencadis_compiler.options import Options
from trencadis_compiler.verify.check import check_compiled
from trencadis_host.session import Session

SIZE = 1100
"""Inputs and outputs."""


@pytest.fixture(autouse=True)
def _few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit what is written out to less than these layers take."""
    monkeypatch.setattr(constants, "MAX_SPARSE_BYTES", SIZE * SIZE - 1)


def sparse_model(*, flat: np.ndarray, read: str = "Gemm", zero: int = 0) -> onnx.ModelProto:
    """A layer with some weights at positions `flat` of shape (outputs, inputs)."""
    values = (np.arange(len(flat)) % 120 + 1).astype(np.int8)
    weights = helper.make_sparse_tensor(
        numpy_helper.from_array(values, "w"),
        numpy_helper.from_array(flat.astype(np.int64), "positions"),
        [SIZE, SIZE],
    )
    numbers = {"s": np.float32(0.5), "z": np.int8(0), "zw": np.int8(zero), "t": np.float32(0.25)}
    attributes: dict[str, Any] = {"transB": 1} if read == "Gemm" else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "t", "zw"], ["v"]),
        helper.make_node(read, ["d", "v"], ["y"], name="large", **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "sparse",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", SIZE])],
        [numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()],
        sparse_initializer=[weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "sparse.onnx"
    onnx.save(model, path)
    return path


def positions() -> np.ndarray:
    return np.unique(np.random.default_rng(5).integers(0, SIZE * SIZE, 3000))


@pytest.mark.parametrize("read", ["Gemm", "MatMul"])
def test_a_large_layer_is_compiled_and_judged_from_its_nonzeros(read: str, tmp_path: Path) -> None:
    flat = positions()
    path = saved(sparse_model(flat=flat, read=read), tmp_path)
    compiled = compile_model(path, load_board("sim"), options=Options(sized=True, strict=True))
    compiled.save(tmp_path / "sparse.tcd")
    assert check_compiled(compiled).elements >= 2 * SIZE
    # Multiples of the input's scale, so that nothing is rounded.
    inputs = np.random.default_rng(7).integers(-60, 61, (2, SIZE)).astype(np.float32) / 2
    (found,) = Session(tmp_path / "sparse.tcd", device="emulator").run(None, {"x": inputs})
    rows, columns = np.divmod(flat, SIZE)
    outputs, sources = (rows, columns) if read == "Gemm" else (columns, rows)
    expected = np.zeros((SIZE, 2))
    products = inputs[:, sources].astype(np.float64) * (np.arange(len(flat)) % 120 + 1) * 0.25
    np.add.at(expected, outputs, products.T)
    assert np.array_equal(found, expected.T.astype(np.float32))


def test_what_would_have_to_be_written_out_is_refused(tmp_path: Path) -> None:
    model = sparse_model(flat=positions(), read="Add")
    with pytest.raises(CompileError, match=r"'w' of shape \(1100, 1100\) takes more than"):
        compile_model(saved(model, tmp_path), load_board("sim"), options=Options(sized=True))


def test_positions_twice_unordered_or_outside_are_refused(tmp_path: Path) -> None:
    cases = {(5, 5): "do not rise", (7, 5): "do not rise", (SIZE * SIZE,): "values outside it"}
    for flat, problem in cases.items():
        model = sparse_model(flat=np.array(flat))
        with pytest.raises(CompileError, match=problem):
            compile_model(saved(model, tmp_path), load_board("sim"), options=Options(sized=True))


def test_a_zero_point_that_is_not_zero_is_refused(tmp_path: Path) -> None:
    path = saved(sparse_model(flat=positions(), zero=3), tmp_path)
    with pytest.raises(CompileError, match="zero point that is not zero"):
        compile_model(path, load_board("sim"), options=Options(sized=True))
