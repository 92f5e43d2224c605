"""Tensors of the file that the emulator holds."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_boards import load_board
from trencadis_boards.load import board_text
from trencadis_compiler.compile import compile_model, import_model
from trencadis_format.compiled import CompiledNetwork
from trencadis_host.held import held_tensors, host_tensors
from trencadis_judge import Judgement, judge, load_model

RNG = np.random.default_rng(2)


def convolution(pads: list[int]) -> onnx.ModelProto:
    """Two convolutions, the second padded."""
    constants = {
        "s": np.float32(0.25), "z": np.int8(-3), "ws": np.float32(2**-5), "wz": np.int8(0),
        "w1": RNG.integers(-9, 9, (4, 2, 1, 1)).astype(np.int8),
        "w2": RNG.integers(-9, 9, (3, 4, 3, 2)).astype(np.int8),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q0"]),
        node("DequantizeLinear", ["q0", "s", "z"], ["d0"]),
        node("DequantizeLinear", ["w1", "ws", "wz"], ["k1"]),
        node("Conv", ["d0", "k1"], ["c1"]),
        node("QuantizeLinear", ["c1", "s", "z"], ["q1"]),
        node("DequantizeLinear", ["q1", "s", "z"], ["d1"]),
        node("DequantizeLinear", ["w2", "ws", "wz"], ["k2"]),
        node("Conv", ["d1", "k2"], ["y"], pads=pads),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def judged(path: Path, model: onnx.ModelProto) -> tuple[dict[str, Any], Judgement]:
    onnx.save(model, path)
    compiled = compile_model(path, load_board("sim"))
    inputs = RNG.normal(0, 9, (5, 2, 4, 5)).astype(np.float32)
    held = held_tensors(compiled.compiled, {"x": inputs})
    return held, judge(path, held)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 3, 0], [2, 0, 0, 1]])
def test_padding_anywhere(tmp_path: Path, pads: list[int]) -> None:
    held, found = judged(tmp_path / "model.onnx", convolution(pads))
    assert found.ok
    assert set(held) == {"x", "d1", "y"}
    assert [unit.elements for unit in found.units] == [400, held["y"].size]
    assert [unit.runtime_unexplained for unit in found.units] == [0, 0]


def integer_convolution() -> onnx.ModelProto:
    """A QLinearConv that reads integers by another zero point than they were made with."""
    scale = np.float32(1.3322314)
    constants = {
        "s": scale, "z": np.int8(-26), "none": np.int8(0), "ws": np.float32(0.0217),
        "w": RNG.integers(-99, 99, (8, 8, 1, 1)).astype(np.int8), "s1": np.float32(2.46267),
        "ws2": np.float32(2**-6), "s2": np.float32(3.1),
        "w2": RNG.integers(-40, 40, (8, 8, 1, 1)).astype(np.int8),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q0"]),
        node("DequantizeLinear", ["q0", "s", "z"], ["d0"]),
        node("QLinearConv", ["q0", "s", "none", "w", "ws", "none", "s1", "none"], ["q1"]),
        node("DequantizeLinear", ["q1", "s1", "none"], ["d1"]),
        node("DequantizeLinear", ["w2", "ws2", "none"], ["k2"]),
        node("Conv", ["d1", "k2"], ["c2"]),
        node("QuantizeLinear", ["c2", "s2", "none"], ["q2"]),
        node("DequantizeLinear", ["q2", "s2", "none"], ["d2"]),
        node("Mul", ["d2", "d0"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 7, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_what_a_device_makes_of_a_tensor_that_no_file_has_is_the_hosts_too(tmp_path: Path) -> None:
    """The host divides in float32: next to a tie its integers may be one step off."""
    model = integer_convolution()
    onnx.save(model, tmp_path / "model.onnx")
    network = compile_model(tmp_path / "model.onnx", load_board("sim")).compiled
    step = np.float32(1.3322314)
    ties = (np.round(RNG.normal(0, 40, (8, 8, 7, 4))) * 2 + 1) * step / 2
    judged_model = load_model(model)
    known = judged_model.known(held_tensors(network, {"x": ties.astype(np.float32)}))
    by_host = host_tensors(network, known)
    assert "d2" in by_host
    assert by_host <= known.keys()
    assert judge(judged_model, known, host=by_host).ok
    assert not judge(judged_model, known, host=by_host - {"d2"}).ok


def test_paths_may_be_strings(tmp_path: Path) -> None:
    """And a board's description a path."""
    source, target, description = (tmp_path / name for name in ("m.onnx", "m.tcd", "b.toml"))
    onnx.save(convolution([0, 0, 0, 0]), source)
    description.write_text(board_text("sim"))
    compiled = compile_model(str(source), load_board(description), target=str(target))
    compiled.save(str(target))
    assert CompiledNetwork.load(str(target)) == CompiledNetwork.load(target)
    assert [layer.name for layer in import_model(str(source)).layers] == ["Conv_3", "Conv_7"]


def test_a_strings_calibration_is_a_path(tmp_path: Path) -> None:
    onnx.save(convolution([0, 0, 0, 0]), tmp_path / "m.onnx")
    inputs = RNG.normal(0, 9, (5, 2, 4, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", inputs)
    board = load_board("sim")
    by_text, by_path = (
        compile_model(tmp_path / "m.onnx", board, calibration=path)
        for path in (str(tmp_path / "x.npy"), tmp_path / "x.npy")
    )
    assert by_text.compiled == by_path.compiled
