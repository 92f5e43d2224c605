"""Float models whose inputs are scalars, or of which nothing can be quantised."""

from pathlib import Path

import numpy as np
import onnx
from fixtures.onnx_files import normal, run, save, value
from onnx import helper

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.verify.check import check_compiled
from trencadis_host import Session

BOARD = load_board("sim")


def test_scalars_and_booleans(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Div", ["m", "t"], ["d"]),
        helper.make_node("Where", ["flag", "d", "m"], ["y"]),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", 1, 4), value("t"), value("flag", dtype=onnx.TensorProto.BOOL)],
        outputs=[value("y", 1, 3)],
        constants={"w": normal(4, 3)},
    )
    data = {"x": normal(6, 4), "t": np.full(6, 2, np.float32), "flag": np.arange(6) % 2 == 0}
    compiled = compile_model(path, BOARD, calibration=data)
    assert compiled.compiled.report["overlay_share"] == 1.0
    assert check_compiled(compiled).reason == ""
    compiled.save(tmp_path / "net.tcd")
    x, t = normal(1, 4), np.array(4, np.float32)
    with Session(tmp_path / "net.tcd") as session:
        (plain,) = session.run(None, {"x": x, "t": t, "flag": np.array(False)})
        (divided,) = session.run(None, {"x": x, "t": t, "flag": np.array(True)})
    assert np.array_equal(divided, plain / 4)


def test_a_copy_of_which_all_stays_in_float(tmp_path: Path) -> None:
    """Steps finer than 8 bits have: no layer can be quantised, and the host runs the model."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Sin", ["m"], ["y"]),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", 1, 4)],
        outputs=[value("y", 1, 4)],
        constants={"w": 1e4 * normal(4, 4)},
    )
    compiled = compile_model(path, BOARD, calibration=normal(16, 4))
    assert compiled.compiled.report["quantised"]["kept_in_float"]
    assert compiled.compiled.report["overlay_share"] == 0
    compiled.save(tmp_path / "net.tcd")
    with Session(tmp_path / "net.tcd") as session:
        (found,) = session.run(None, {"x": normal(1, 4)})
    assert np.array_equal(found, run(path, {"x": normal(1, 4)})[0])


def test_half_precision(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    half = onnx.TensorProto.FLOAT16
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", "N", 6, dtype=half)],
        outputs=[value("y", "N", 3, dtype=half)],
        constants={
            "w": normal(6, 8).astype(np.float16),
            "v": normal(8, 3).astype(np.float16),
        },
    )
    compiled = compile_model(path, BOARD, calibration=normal(8, 6).astype(np.float16))
    assert compiled.compiled.report["overlay_share"] == 1.0
    assert check_compiled(compiled).reason == ""


def test_layers_that_read_what_no_standard_operator_makes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.5], scale=[2.0]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", "N", 4)],
        outputs=[value("y", "N", 3)],
        constants={"w": normal(4, 3)},
        domains=("ai.onnx.ml",),
    )
    compiled = compile_model(path, BOARD, calibration=normal(8, 4))
    assert {segment["place"] for segment in compiled.compiled.report["segments"]} == {"host"}
    compiled.save(tmp_path / "net.tcd")
    with Session(tmp_path / "net.tcd") as session:
        (found,) = session.run(None, {"x": normal(2, 4)})
    assert np.array_equal(found, run(path, {"x": normal(2, 4)})[0])
