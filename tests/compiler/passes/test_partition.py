"""Models that run on overlay and host together, judged by their files."""

from typing import Any

import numpy as np
import onnx
import pytest
from fixtures.onnx_files import save, value
from onnx import helper

from trencadis_boards import load_board
from trencadis_compiler.compile import Options, compile_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.verify.check import check_compiled
from trencadis_format.compiled import CutSegment, HostSegment, OverlaySegment
from trencadis_host import Session

BOARD = load_board("sim")


def conv(w: Any, x: str, channels: int = 4) -> str:
    y = w.node("Conv", x, w.integers(w.sparse(channels, 2 if x == "x" else 4, 1, 1)))
    return w.quantised(y, 2**-3)


def residual(w: Any) -> Any:
    first = w.quantised(
        w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3)), pads=[1] * 4), 2**-3
    )
    second = conv(w, first)
    y = w.quantised(w.node("Add", first, second), 2**-2)
    y = w.node("MatMul", w.node("Flatten", y), w.integers(w.sparse(256, 5)))
    return w.save(w.node("Softmax", y, axis=1), 5)


def places(compiled: Any) -> list[str]:
    kinds = {OverlaySegment: "overlay", CutSegment: "pieces", HostSegment: "host"}
    return [kinds[type(segment)] for segment in compiled.compiled.segments]


def test_a_residual_block(writer, onnxruntime_outputs, tmp_path) -> None:
    path = residual(writer(shape=(2, 8, 8)))
    compiled = compile_model(path, BOARD)
    assert places(compiled) == ["overlay", "overlay", "host", "overlay", "host"]
    assert compiled.compiled.report["overlay_share"] == 1.0
    assert check_compiled(compiled).reason == ""
    compiled.save(tmp_path / "net.tcd")
    inputs = np.random.default_rng(1).normal(0, 3, (5, 2, 8, 8)).astype(np.float32)
    with Session(tmp_path / "net.tcd") as session:
        (found,) = session.run(None, {"x": inputs})
        (later,) = session.submit(None, {"x": inputs}).result()
    expected = onnxruntime_outputs(path, inputs)
    assert np.array_equal(found, later)
    # Sums are scaled by powers of two; Softmax is onnxruntime's own on both sides.
    assert np.array_equal(found, expected)


def test_nodes_can_be_placed(writer) -> None:
    w = writer(shape=(2, 8, 8))
    path = residual(w)
    names = [n.name for n in onnx.load(path).graph.node if n.op_type == "Conv"]
    compiled = compile_model(path, BOARD, options=Options(on_host=(names[1],)))
    assert places(compiled) == ["overlay", "host", "overlay", "host"]
    assert "placed on the host by --place" in compiled.compiled.segments[1].reason  # type: ignore[union-attr]
    assert check_compiled(compiled).reason == ""
    name = next(n.name for n in onnx.load(path).graph.node if n.op_type == "Softmax")
    with pytest.raises(CompileError, match=r"--place Softmax\d+=overlay: Softmax .* no such oper"):
        compile_model(path, BOARD, options=Options(on_overlay=(name,)))
    with pytest.raises(CompileError, match="--place nothing: the model has no node of that name"):
        compile_model(path, BOARD, options=Options(on_host=("nothing",)))


def test_strict_takes_a_final_softmax_alone(writer) -> None:
    w = writer(shape=(20,))
    y = w.node("MatMul", w.quantised("x"), w.integers(w.sparse(20, 9)))
    path = w.save(w.node("Softmax", y, axis=1), 9)
    strict = Options(strict=True)
    assert places(compile_model(path, BOARD, options=strict)) == ["overlay", "host"]
    with pytest.raises(CompileError, match="unsupported operators: Add"):
        compile_model(residual(writer(shape=(2, 8, 8))), BOARD, options=strict)


def test_token_wise_matrices(writer) -> None:
    w = writer(shape=(6, 8))
    y = w.node("MatMul", w.quantised("x"), w.integers(w.sparse(8, 12)))
    y = w.quantised(w.node("Relu", w.node("Add", y, w.constant(np.ones(12), np.float32))), 2**-3)
    path = w.save(w.node("MatMul", y, w.integers(w.sparse(12, 5))), 6, 5)
    compiled = compile_model(path, BOARD)
    assert places(compiled) == ["overlay"]
    assert compiled.network.output.axes == "WC"
    assert check_compiled(compiled).reason == ""


def test_several_inputs_and_outputs_and_a_fixed_batch(tmp_path, writer) -> None:
    w = writer(batch=2, shape=(8,))
    first = w.quantised(w.node("MatMul", w.quantised("x"), w.integers(w.sparse(8, 6))), 2**-3)
    both = w.node("Add", first, "shift")
    model = w.model(both, (6,))
    model.graph.input.append(helper.make_tensor_value_info("shift", 1, [2, 6]))
    model.graph.output.append(helper.make_tensor_value_info(first, 1, [2, 6]))
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    compiled = compile_model(path, BOARD)
    assert check_compiled(compiled).reason == ""
    compiled.save(tmp_path / "net.tcd")
    rng = np.random.default_rng(0)
    feed = {"x": rng.normal(size=(6, 8)), "shift": rng.normal(size=(6, 6))}
    feed = {name: array.astype(np.float32) for name, array in feed.items()}
    with Session(tmp_path / "net.tcd") as session:
        assert [form.name for form in session.get_inputs()] == ["x", "shift"]
        whole = session.run(None, feed)
        part = session.run([first], {name: array[:2] for name, array in feed.items()})
        with pytest.raises(ValueError, match="takes 2 samples at a time, but there are 3"):
            session.run(None, {name: array[:3] for name, array in feed.items()})
        with pytest.raises(ValueError, match=r"inputs must be \['x', 'shift'\], not \['x'\]"):
            session.run(None, {"x": feed["x"]})
    assert np.array_equal(whole[1][:2], part[0])
    assert np.array_equal(whole[0], whole[1] + feed["shift"])


@pytest.mark.slow
def test_a_chain_that_is_too_long_is_cut(writer) -> None:
    w = writer(shape=(10,))
    y = w.quantised("x")
    for _ in range(9):
        y = w.quantised(w.node("MatMul", y, w.integers(w.sparse(10, 10))))
    compiled = compile_model(w.save(y, 10), BOARD)
    assert places(compiled) == ["pieces"]
    (segment,) = compiled.compiled.segments
    assert isinstance(segment, CutSegment)
    assert len(segment.stages) == 2
    assert check_compiled(compiled).reason == ""


def test_a_layer_alone_on_a_chain_of_engines(writer) -> None:
    # The first engines hand the input on.
    w = writer(shape=(2, 6, 6))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3))), 2**-3)
    compiled = compile_model(w.save(y, 4, 4, 4), load_board("zu3eg"))
    assert compiled.compiled.report["overlay_share"] == 1.0
    assert check_compiled(compiled).reason == ""


def test_winners_are_selected_by_the_host_where_they_leave_the_device(writer) -> None:
    w = writer(shape=(20,))
    y = w.quantised(w.node("MatMul", w.quantised("x"), w.integers(w.sparse(20, 9))))
    values, indices = w.top_k(y, 2, axis=1)
    zeros = w.node("ConstantOfShape", w.node("Shape", y))
    compiled = compile_model(
        w.save(w.node("ScatterElements", zeros, indices, values, axis=1), 9), BOARD
    )
    assert places(compiled) == ["overlay", "host"]
    assert check_compiled(compiled).reason == ""


def test_biases_in_units_of_a_product_of_scales(tmp_path) -> None:
    # As QLinearConv has them; the product of these scales is no number of float32.
    rng = np.random.default_rng(4)
    constants: dict[str, Any] = {
        "xs": np.float32(0.0123),
        "xz": np.uint8(117),
        "w": rng.integers(-99, 99, (4, 2, 3, 3)).astype(np.int8),
        "ws": np.array([0.011, 0.0173, 0.0091, 0.01], np.float32),
        "wz": np.zeros(4, np.int8),
        "ys": np.float32(0.037),
        "yz": np.uint8(99),
        "b": rng.integers(-9999, 9999, 4).astype(np.int32),
    }
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    path = save(
        tmp_path,
        [helper.make_node("QLinearConv", names, ["y"], "layer")],
        inputs=[value("x", "N", 2, 8, 8, dtype=onnx.TensorProto.UINT8)],
        outputs=[value("y", "N", 4, 6, 6, dtype=onnx.TensorProto.UINT8)],
        constants=constants,
        opset=10,
    )
    compiled = compile_model(path, BOARD)
    assert places(compiled) == ["overlay"]
    assert check_compiled(compiled).reason == ""


def test_a_model_without_inputs(tmp_path) -> None:
    constant = helper.make_tensor("value", onnx.TensorProto.FLOAT, [2, 3], np.arange(6.0))
    nodes = [helper.make_node("Constant", [], ["y"], value=constant)]
    path = save(tmp_path, nodes, inputs=[], outputs=[value("y", 2, 3)])
    compile_model(path, BOARD).save(tmp_path / "net.tcd")
    with Session(tmp_path / "net.tcd") as session:
        (found,) = session.run(None, {})
    assert np.array_equal(found, np.arange(6, dtype=np.float32).reshape(2, 3))


def test_a_vector_becomes_a_token(writer, tmp_path) -> None:
    """As attention whose first axis is the tokens': rows, then rows of one token each."""
    w = writer(shape=(12,))
    y = w.quantised(w.node("MatMul", w.quantised("x"), w.integers(w.sparse(12, 9))), 2**-3)
    y = w.node("Reshape", y, w.constant([-1, 1, 9], np.int64))
    y = w.node("MatMul", y, w.integers(w.sparse(9, 5)))
    path = w.save(w.node("Softmax", y, axis=2), 1, 5)
    compiled = compile_model(path, BOARD)
    assert compiled.compiled.report["overlay_share"] == 1.0
    assert check_compiled(compiled).reason == ""
    compiled.save(tmp_path / "net.tcd")
    with Session(tmp_path / "net.tcd") as session:
        (found,) = session.run(None, {"x": np.ones((3, 12), np.float32)})
    assert found.shape == (3, 1, 5)
