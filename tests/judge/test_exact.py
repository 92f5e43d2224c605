"""Rational rules of elements against the evaluator's float64, operator by operator."""

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_judge import load_model
from trencadis_judge.evaluation import Evaluation
from trencadis_judge.exact import exact_element
from trencadis_judge.values import Precision, value_of

RNG = np.random.default_rng(5)


def evaluation(op_type: str, arrays: list[Any], **attributes: Any) -> tuple[Evaluation, Any, Any]:
    """An operator on constants, its node, and its output."""
    names = [f"i{i}" for i in range(len(arrays))]
    node = helper.make_node(op_type, names, ["y"], "node", **attributes)
    constants = [
        numpy_helper.from_array(np.asarray(array), name)
        for array, name in zip(arrays[1:], names[1:], strict=True)
    ]
    first = np.asarray(arrays[0])
    kind = helper.np_dtype_to_tensor_dtype(first.dtype)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("i0", kind, first.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = load_model(helper.make_model(graph, opset_imports=[opset], ir_version=8))
    made = Evaluation(model, {"i0": value_of(first)}, Precision(float64=True))
    return made, model.nodes[0], made.run(["y"])["y"]


def real(*shape: int) -> Any:
    return RNG.normal(0, 2, shape).astype(np.float32)


CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "Abs": ([real(2, 3)], {}),
    "Add": ([real(2, 3), real(3)], {}),
    "AveragePool": (
        [real(1, 2, 5, 4)],
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
    ),
    "BatchNormalization": (
        [real(2, 3, 2), real(3), real(3), real(3), np.abs(real(3))],
        {"epsilon": 1e-3},
    ),
    "Clip": ([real(2, 5), np.float32(-1), np.float32(0.5)], {}),
    "Concat": ([real(2, 3), real(2, 2)], {"axis": 1}),
    "Conv": (
        [real(2, 4, 5, 4), real(6, 2, 2, 3), real(6)],
        {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]},
    ),
    "DequantizeLinear": (
        [
            RNG.integers(-9, 9, (2, 3)).astype(np.int8),
            np.abs(real(3)),
            np.array([1, 2, 3], np.int8),
        ],
        {"axis": 1},
    ),
    "Div": ([real(2, 3), real(2, 1)], {}),
    "Exp": ([real(2, 3)], {}),
    "Flatten": ([real(2, 3, 2)], {}),
    "Gemm": ([real(3, 4), real(5, 4), real(5)], {"transB": 1, "alpha": 0.3, "beta": 2.0}),
    "GlobalAveragePool": ([real(2, 3, 4, 2)], {}),
    "GlobalMaxPool": ([real(2, 3, 4, 2)], {}),
    "Identity": ([real(2, 3)], {}),
    "LeakyRelu": ([real(2, 3)], {"alpha": 0.1}),
    "MatMul": ([real(2, 3, 4), real(4, 5)], {}),
    "Max": ([real(2, 3), real(3)], {}),
    "MaxPool": (
        [real(1, 2, 5, 4)],
        {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [0, 1, 1, 1]},
    ),
    "Min": ([real(2, 3), real(3)], {}),
    "Mul": ([real(2, 3), real(2, 1)], {}),
    "Neg": ([real(2, 3)], {}),
    "ReduceMax": ([real(2, 3, 4)], {"axes": [1], "keepdims": 0}),
    "ReduceMean": ([real(2, 3, 4)], {"axes": [2, 1]}),
    "ReduceMin": ([real(2, 3, 4)], {"axes": [0], "keepdims": 1}),
    "ReduceSum": ([real(2, 3, 4), np.array([1])], {"keepdims": 0}),
    "Relu": ([real(2, 3)], {}),
    "Reshape": ([real(2, 6), np.array([3, 4])], {}),
    "Sigmoid": ([real(2, 3)], {}),
    "Sqrt": ([np.abs(real(2, 3))], {}),
    "Squeeze": ([real(2, 1, 3), np.array([1])], {}),
    "Sub": ([real(2, 3), real(3)], {}),
    "Sum": ([real(2, 3), real(3)], {}),
    "Tanh": ([real(2, 3)], {}),
    "Transpose": ([real(2, 3, 4)], {"perm": [2, 0, 1]}),
    "Unsqueeze": ([real(2, 3), np.array([0])], {}),
}


@pytest.mark.parametrize("op_type", CASES)
def test_rules_agree_with_float64(op_type: str) -> None:
    arrays, attributes = CASES[op_type]
    made, node, output = evaluation(op_type, arrays, **attributes)
    assert output.array.size
    for index in np.ndindex(*output.shape):
        exact = exact_element(made, node, index)
        error = abs(Fraction(float(output.array[index])) - exact)
        assert error <= Fraction(float(output.errors[index])), index


def test_square_roots_and_functions_are_exact_where_they_can_be() -> None:
    made, node, _ = evaluation("Sqrt", [np.array([2.25, 2], np.float32)])
    assert exact_element(made, node, (0,)) == Fraction(3, 2)
    assert 0 < abs(exact_element(made, node, (1,)) ** 2 - 2) < Fraction(1, 1 << 190)
    made, node, _ = evaluation("Sigmoid", [np.zeros(1, np.float32)])
    assert exact_element(made, node, (0,)) == Fraction(1, 2)
