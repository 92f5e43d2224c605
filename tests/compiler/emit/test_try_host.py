"""Models whose host segments cannot run are refused while compiling."""

from typing import Any

import numpy as np
import pytest
from fixtures.onnx_files import save, value
from onnx import TensorProto, helper

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.errors import CompileError
from trencadis_host.held import held_tensors

BOARD = load_board("sim")


def refusal(path: Any) -> str:
    with pytest.raises(CompileError) as caught:
        compile_model(path, BOARD)
    (line,) = str(caught.value).splitlines()
    return line


def test_types_that_do_not_fit(writer: Any) -> None:
    w = writer()
    y = w.node("Mul", w.node("Exp", "x"), w.constant(2, np.int16))
    assert "Mul 'Mul1' does not take tensor(int16) as input 1" in refusal(w.save(y, 2, 8, 8))


def test_shapes_that_only_a_run_finds(writer: Any) -> None:
    w = writer()
    bias = w.constant(np.zeros((3, 1)), np.float32)
    kernels = w.constant(np.ones((3, 2, 1, 1)), np.float32)
    y = w.node("Conv", w.node("Exp", "x"), kernels, bias)
    assert "bias" in refusal(w.save(w.quantised(y), "a", "b", "c"))


def test_too_few_inputs(writer: Any) -> None:
    w = writer(shape=(4,))
    line = refusal(w.save(w.node("Gemm", w.quantised("x")), 4))
    assert "Gemm 'Gemm2' has no input 1 (B), which Gemm requires" in line


def test_a_declared_type_that_the_output_has_not(writer: Any) -> None:
    w = writer(shape=(4,))
    y = w.quantised(w.node("Gemm", w.quantised("x"), w.integers(w.sparse(4, 3))))
    model = w.model(y, (3,))
    model.graph.output[0].type.tensor_type.elem_type = 10  # float16
    path = w.save(y, 3)
    path.write_bytes(model.SerializeToString())
    assert "float16" in refusal(path)


def test_a_network_that_reads_constants_alone_runs(writer: Any) -> None:
    w = writer(shape=(4,))
    summed = w.node("Gemm", w.integers(w.sparse(1, 5)), w.integers(w.sparse(5, 3)))
    y = w.quantised(w.node("MatMul", w.quantised(summed), w.integers(w.sparse(3, 2))))
    path = w.save(w.node("Add", y, w.node("ReduceSum", "x", keepdims=0)), 2)
    compiled = compile_model(path, BOARD).compiled
    inputs = np.zeros((1, 4), np.float32)
    made = held_tensors(compiled, {"x": inputs})
    assert made[compiled.outputs[0].name].shape[-1] == 2


def test_a_top_k_of_several_numbers_is_refused_in_one_line(writer: Any) -> None:
    w = writer(shape=(4,))
    x = w.quantised("x")
    values, indices = w.nodes("TopK", 2, x, w.constant([1, 2], np.int64), axis=1)
    zeros = w.node("ConstantOfShape", w.node("Shape", x))
    assert refusal(w.save(w.node("ScatterElements", zeros, indices, values, axis=1), 4))


def test_inputs_that_an_opset_has_not(writer: Any) -> None:
    """A Clip's bounds were attributes before opset 11."""
    w = writer(opset=10, shape=(4,))
    bounds = [w.constant(number, np.float32) for number in (-1, 1)]
    assert "it has 3 inputs; opset 10" in refusal(w.save(w.node("Clip", "x", *bounds), 4))


def test_inputs_that_divide_and_scale_are_not_taken_for_zero(tmp_path: Any) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest"),
        helper.make_node("Div", ["n", "d"], ["q"]),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[
            value("x", 1, 2, 4, 4),
            value("scales", 4),
            value("n", 3, dtype=TensorProto.UINT8),
            value("d", 3, dtype=TensorProto.UINT8),
        ],
        outputs=[value("y", "a", "b", "c", "d"), value("q", 3, dtype=TensorProto.UINT8)],
    )
    (segment,) = compile_model(path, BOARD).compiled.segments
    assert segment.nodes == ("Resize_0", "Div_1")
