"""Results that the judge accepts, and those that it does not."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from trencadis_format.onnxruntime_door import exact_mode, open_session
from trencadis_judge import JudgeError, judge, load_model

RNG = np.random.default_rng(3)


def held(model: onnx.ModelProto, inputs: Any, names: list[str]) -> dict[str, Any]:
    """Values that onnxruntime computes of these tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    mode = exact_mode(node.op_type for node in model.graph.node)
    outputs = open_session(copy.SerializeToString(), mode, threads=1).run(names, {"x": inputs})
    return {"x": inputs, **dict(zip(names, outputs, strict=True))}


def product_model(graph: Any, scale: float, weights: Any) -> onnx.ModelProto:
    """x quantised, times weights, quantised: q and y are held."""
    x = graph.pair("x", "q", 0.5)
    graph.node("MatMul", [x, graph.weights(weights, 0.5)], "sums")
    graph.pair("sums", "y", scale)
    return graph.model(["N", len(weights)], "y.real")


def test_what_is_right_and_what_is_not(graph: Any) -> None:
    model = product_model(graph, 0.75, RNG.integers(-9, 9, (5, 4)))
    inputs = RNG.normal(0, 3, (6, 5)).astype(np.float32)
    values = held(model, inputs, ["q", "y", "y.real"])
    found = judge(model, values)
    assert found.ok
    assert [unit.tensor for unit in found.units] == ["q", "y", "y.real"]
    assert [unit.elements for unit in found.units] == [30, 24, 24]
    assert [unit.runtime_differing for unit in found.units] == [0, 0, 0]
    assert (found.outputs[0].elements, found.outputs[0].differing) == (24, 0)
    values["y"] = values["y"].copy()
    values["y"][2, 1] += 1
    found = judge(model, values)
    assert found.first_difference is not None
    assert found.first_difference.tensor == "y"
    assert found.first_difference.node == "QuantizeLinear 'y'"
    assert found.first_difference.differing == 1
    # The next unit is judged on what we hold, not on what would have been right.
    assert [unit.differing for unit in found.units] == [0, 1, 1]


def test_values_may_be_the_real_numbers_that_integers_stand_for(graph: Any) -> None:
    model = product_model(graph, 0.37, RNG.integers(-9, 9, (5, 4)))
    inputs = RNG.normal(0, 3, (6, 5)).astype(np.float32)
    values = held(model, inputs, ["q", "y", "y.real"])
    scale = float(np.float32(0.37))
    values["y.real"] = values.pop("y").astype(np.float64) * scale  # exact, not float32's rounding
    assert judge(model, values).ok
    values["y.real"] = values["y.real"] * (1 + 2**-50)
    assert not judge(model, values).ok


def test_ties_are_half_to_even_whatever_float32_says(graph: Any) -> None:
    """Averages of 36 numbers of any scale: a tie is exact although nothing is in float64."""
    scale = 0.1
    x = graph.pair("x", "q", scale)
    graph.node("GlobalAveragePool", [x], "mean")
    graph.pair("mean", "y", scale)
    model = graph.model(["N", 1, 6, 6], "y.real")
    integers = np.zeros((2, 1, 6, 6), np.int8)
    integers[0, 0, 0, 0], integers[1, 0, 0, 0] = 18, 54  # a half, and one and a half
    inputs = (integers * np.float32(scale)).astype(np.float32)
    right = {"x": inputs, "q": integers, "y": np.array([0, 2], np.int8).reshape(2, 1, 1, 1)}
    assert judge(model, right).ok
    wrong = right | {"y": np.array([1, 1], np.int8).reshape(2, 1, 1, 1)}
    assert judge(model, wrong).units[-1].differing == 2
    assert judge(model, wrong).units[-1].undecided == 0


def test_sums_are_rounded_to_float32_once(graph: Any) -> None:
    x = graph.pair("x", "q", 0.1)
    graph.node("MatMul", [x, graph.weights(RNG.integers(-127, 128, (64, 40)), 0.013)], "y")
    model = graph.model(["N", 64], "y")
    inputs = RNG.normal(0, 5, (20, 64)).astype(np.float32)
    values = held(model, inputs, ["q"])
    matrix = numpy_helper.to_array(next(t for t in graph.constants if len(t.dims) == 2))
    exact = values["q"].astype(np.int64) @ matrix.astype(np.int64)
    product = Fraction(float(np.float32(0.1))) * Fraction(float(np.float32(0.013)))
    sums = np.array([[np.float32(float(product * int(s))) for s in row] for row in exact])
    values["y"] = sums
    found = judge(model, values)
    assert found.ok
    assert found.units[-1].runtime_differing is not None
    assert found.units[-1].runtime_differing > 0  # float32 sums differ in their last bits
    assert found.units[-1].runtime_unexplained == 0
    values["y"] = np.nextafter(sums, np.inf, dtype=np.float32)
    assert judge(model, values).units[-1].differing == sums.size
    # Made by the host's runtime they are as good as float32 can be.
    assert judge(model, values, host={"y"}).ok
    assert not judge(model, values | {"y": sums * np.float32(1.001)}, host={"y"}).ok


def test_integers_of_the_host_may_be_one_step_off_next_to_a_tie(graph: Any) -> None:
    x = graph.pair("x", "q", 1.0)
    graph.node("MatMul", [x, graph.weights(np.ones((2, 1)), 0.5)], "sums")
    graph.pair("sums", "y", 1.0)
    model = graph.model(["N", 2], "y.real")
    inputs = np.array([[1, 0], [2, 0]], np.float32)  # a half, a tie; and one
    values = {"x": inputs, "q": inputs.astype(np.int8), "y": np.array([[1], [1]], np.int8)}
    assert judge(model, values).units[-1].differing == 1
    assert judge(model, values, host={"y"}).units[-1].differing == 1  # float32 is exact here
    graph.constants[0].CopyFrom(numpy_helper.from_array(np.array(0.1, np.float32), "c0"))
    model = graph.model(["N", 2], "y.real")
    values["x"] = inputs * np.float32(0.1)
    values["y"] = np.array([[0], [1]], np.int8)
    assert judge(model, values).units[-1].differing == 1
    assert judge(model, values, host={"y"}).units[-1].differing == 1


@pytest.mark.parametrize("zero", [0, 3])
def test_qoperator_files(graph: Any, zero: int) -> None:
    kernels = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    bias = RNG.integers(-500, 500, 4).astype(np.int32)
    scales = [graph.constant(s, np.float32) for s in (0.1, 0.02, 0.31)]
    zeros = [graph.constant(z, np.uint8) for z in (zero, 128)]
    weight_zero = graph.constant(0, np.int8)
    graph.node("QuantizeLinear", ["x", scales[0], zeros[0]], "q")
    inputs = ["q", scales[0], zeros[0], graph.constant(kernels, np.int8), scales[1], weight_zero]
    inputs += [scales[2], zeros[1], graph.constant(bias, np.int32)]
    graph.node("QLinearConv", inputs, "y", pads=[1, 1, 1, 1])
    graph.node("DequantizeLinear", ["y", scales[2], zeros[1]], "z")
    model = graph.model(["N", 3, 8, 8], "z")
    values = held(model, RNG.normal(0, 9, (3, 3, 8, 8)).astype(np.float32), ["q", "y", "z"])
    found = judge(model, values)
    assert found.ok
    assert found.units[1].node == "QLinearConv 'y'"
    assert found.units[1].elements == 768


def test_integer_products(graph: Any) -> None:
    matrix = RNG.integers(-127, 128, (6, 4)).astype(np.int8)
    graph.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    product = ["q", graph.constant(matrix, np.int8), "z"]
    graph.node("MatMulInteger", product, "sums")
    graph.node("Cast", ["sums"], "real", to=1)
    graph.node("Mul", ["real", "s"], "y")
    model = graph.model(["N", 6], "y")
    inputs = RNG.normal(0, 1, (5, 6)).astype(np.float32)
    values = held(model, inputs, ["q", "sums", "y"])
    found = judge(model, values, host={"q", "sums", "y"})
    assert found.ok
    values["sums"] = values["sums"] + np.int32(1)
    assert not judge(model, values, host={"q", "sums", "y"}).ok


def test_sparse_constants_are_not_written_out(graph: Any) -> None:
    size = 1 << 14
    places = np.sort(RNG.choice(size * size, 4000, replace=False))
    numbers = RNG.integers(1, 9, 4000).astype(np.float32)
    graph.node("MatMul", ["x", "w"], "y")
    model = graph.model(["N", size], "y")
    values = numpy_helper.from_array(numbers, "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            values, numpy_helper.from_array(places.astype(np.int64)), [size, size]
        )
    )
    inputs = RNG.integers(-9, 9, (2, size)).astype(np.float32)
    expected = np.zeros((2, size), np.float32)
    for place, number in zip(places.tolist(), numbers, strict=True):
        row, column = divmod(place, size)
        expected[:, column] += inputs[:, row] * number
    found = judge(model, {"x": inputs, "y": expected}, max_runtime_bytes=1 << 20)
    assert found.ok
    assert found.units[0].runtime_differing is None
    assert "1,073,741,824 bytes of constants, more than 1,048,576" in found.units[0].reason
    expected[0, 5] += 1
    assert not judge(model, {"x": inputs, "y": expected}, max_runtime_bytes=1 << 20).ok


def test_batches_are_those_of_the_model(graph: Any) -> None:
    x = graph.pair("x", "q", 0.5)
    graph.node("Reshape", [x, graph.constant([3, 4], np.int64)], "flat")
    graph.node("Softmax", ["flat"], "y", axis=1)
    model = graph.model([3, 2, 2], "y")
    inputs = RNG.normal(0, 3, (3, 2, 2)).astype(np.float32)
    parts = [held(model, inputs * sign, ["q", "y"]) for sign in (1, -1)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert judge(model, values, host={"y"}).ok
    with pytest.raises(JudgeError, match="takes 3 samples at a time; 4 are no multiple"):
        judge(model, {name: array[:4] for name, array in values.items()})


def test_operators_that_are_not_evaluated_are_judged_by_the_runtime_alone(graph: Any) -> None:
    graph.node("Det", ["x"], "y")
    model = graph.model(["N", 2, 2], "y")
    values = held(model, RNG.normal(size=(3, 2, 2)).astype(np.float32), ["y"])
    found = judge(model, values, host={"y"})
    assert found.ok
    assert "Det 'y': the evaluator has no such operator" in found.units[0].reason
    assert not judge(model, values | {"y": values["y"] + 1}, host={"y"}).ok


def test_names_and_shapes_must_be_the_files(graph: Any) -> None:
    model = product_model(graph, 0.75, RNG.integers(-9, 9, (5, 4)))
    inputs = RNG.normal(0, 3, (6, 5)).astype(np.float32)
    with pytest.raises(JudgeError, match="no tensor 'z'"):
        judge(model, {"x": inputs, "z": inputs})
    with pytest.raises(JudgeError, match="input 'x' are missing"):
        judge(model, {"y.real": inputs})
    found = judge(model, {"x": inputs, "y": np.zeros((6, 3), np.int8), "y.real": inputs})
    assert not found.ok
    assert [unit.differing for unit in found.units] == [24]  # what follows cannot be judged
    assert "has shape [6, 3], but the file's nodes make [6, 4]" in found.units[0].reason


def test_integers_of_a_tensor_that_the_file_keeps_as_real_numbers(graph: Any) -> None:
    """QONNX's lowering rounds to integers and leaves them float32; a device holds bytes."""
    half, zero = graph.constant(0.5, np.float32), graph.constant(128, np.float32)
    shifted = graph.node("Add", [graph.node("Div", ["x", half], "scaled"), zero], "shifted")
    bounds = [graph.constant(number, np.float32) for number in (0, 255)]
    graph.node("Round", [graph.node("Clip", [shifted, *bounds], "clipped")], "integers")
    graph.node("Mul", [graph.node("Sub", ["integers", zero], "centred"), half], "y")
    model = graph.model(["N", 3], "y")
    inputs = np.array([[-1.0, 0.26, 100.0]], np.float32)
    bytes_ = np.array([[126, 129, 255]], np.uint8)
    right = {"x": inputs, "integers": bytes_, "y": np.array([[-1.0, 0.5, 63.5]], np.float32)}
    found = judge(model, right)
    assert found.ok
    assert [unit.runtime_differing for unit in found.units] == [0, 0]


def test_tensors_that_the_file_has_not_are_set_aside(graph: Any) -> None:
    model = load_model(product_model(graph, 0.75, RNG.integers(-9, 9, (5, 4))))
    values = {name: np.zeros((2, 5), np.float32) for name in ("x", "q", "y", "q_written_out")}
    assert set(model.known(values)) == {"x", "q", "y"}


@pytest.mark.parametrize(("steps", "ok"), [(0, True), (1, True), (40, False)])
def test_a_function_of_constants_is_right_to_its_type(graph: Any, steps: int, ok: bool) -> None:
    two, zero = graph.constant(2.0, np.float32), graph.constant(0, np.int8)
    graph.node("QuantizeLinear", ["x", two, zero], "q")
    graph.node("Sigmoid", [two], "scale")
    graph.node("DequantizeLinear", ["q", "scale", zero], "y")
    values = held(graph.model(["N", 3], "y"), np.array([[2.0, 6.0, -14.0]], np.float32), ["q", "y"])
    values["y"] = values["y"] * np.float32(1 + steps * 2.0**-23)
    assert judge(graph.model(["N", 3], "y"), values).ok == ok


def test_dequantised_numbers_are_taken_up_again_as_what_they_stand_for(graph: Any) -> None:
    """0.1f * 7 is no float32 number: a device adds the multiples of the scale, exactly."""
    graph.pair("x", "q", 0.1)
    graph.node("Flatten", ["q.real"], "flat")
    graph.node("MatMul", ["flat", graph.weights(np.ones((3, 1)), 1.0)], "y")
    model = graph.model(["N", 3], "y")
    scale = np.float32(0.1)
    flat = np.full((1, 3), 7, np.float32) * scale
    exact = Fraction(float(scale)) * 21
    assert np.float32(float(exact)) != np.float32(sum(float(number) for number in flat[0]))
    values = {"x": flat, "flat": flat, "y": np.array([[float(exact)]], np.float32)}
    assert judge(model, values).ok


def test_what_is_left_where_much_cancels_is_rounded_as_well(graph: Any) -> None:
    """The error of float64 spans many float32 numbers there: not one of two, the nearest."""
    x = graph.pair("x", "q", 0.1)
    graph.node("Mul", [x, graph.constant(1e9, np.float32)], "large")
    graph.node("Mul", ["large", graph.constant(1.1, np.float32)], "left0")
    left = 3 * math.prod(Fraction(float(np.float32(number))) for number in (0.1, 1e9, 1.1))
    for number in range(2):
        part = np.float32(float(left))
        graph.node("Sub", [f"left{number}", graph.constant(part, np.float32)], f"left{number + 1}")
        left -= Fraction(float(part))
    model = graph.model(["N", 1], "left2")
    right = np.array([[float(left)]], np.float32)
    assert 0 < abs(float(left)) < 1e-6
    inputs = np.full((1, 1), 0.3, np.float32)
    values = {"x": inputs, "q": np.full((1, 1), 3, np.int8), "left2": right}
    assert judge(model, values).units[-1].differing == 0
    for end in (-np.inf, np.inf):
        values["left2"] = np.nextafter(right, end, dtype=np.float32)
        assert judge(model, values).units[-1].differing == 1


def test_a_square_root_is_bounded_next_to_its_end(graph: Any) -> None:
    """The host's number under the root may be a little above zero; the root is of that, no NaN."""
    graph.node("Mul", ["x", graph.constant(0.1, np.float32)], "product")
    graph.node("Sub", ["product", graph.constant(0.3, np.float32)], "left")
    graph.node("Relu", ["left"], "under")
    graph.node("Sqrt", ["under"], "y")
    model = graph.model(["N", 1], "y")
    inputs = np.array([[3.0], [2.0]], np.float32)
    for number, right in ((0.0, True), (1e-4, True), (1e-2, False)):
        values = {"x": inputs, "y": np.array([[number], [0.0]], np.float32)}
        assert (judge(model, values, host={"y"}).units[-1].differing == 0) is right


def test_what_overflows_on_the_host_has_no_bound(graph: Any) -> None:
    """1e38 * 39 is infinite in float32, and 0 times that is no number: whatever a runtime makes."""
    x = graph.pair("x", "q", 1.0)
    graph.node("MatMul", [x, graph.weights(np.array([[39], [1]]), 1e38)], "sums")
    model = graph.model(["N", 2], "sums")
    inputs = np.array([[0, 1], [1, 1]], np.float32)
    values = held(model, inputs, ["q", "sums"])
    assert not np.isfinite(values["sums"]).all()
    assert judge(model, values, host={"sums"}).ok
    # A device has the exact sums; onnxruntime is not blamed for its own.
    values["sums"] = np.array([[1e38], [np.inf]], np.float32)
    assert judge(model, values).ok
    values["sums"] = np.array([[2e38], [np.inf]], np.float32)
    assert judge(model, values).units[-1].differing == 1


def test_an_axis_that_is_named_twice_is_reduced_once(graph: Any) -> None:
    graph.node("ReduceSum", ["x", graph.constant([1, 2, 1], np.int64)], "y", keepdims=0)
    model = graph.model(["N", 2, 3], "y")
    inputs = RNG.integers(-9, 9, (4, 2, 3)).astype(np.float32)
    assert judge(model, {"x": inputs, "y": inputs.sum((1, 2))}).units[0].differing == 0


def test_integers_that_only_the_runtime_can_judge(graph: Any) -> None:
    """They stay float32 in the file, as QONNX's lowering leaves them."""
    graph.node("Det", ["x"], "det")
    graph.node("Round", ["det"], "y")
    model = graph.model(["N", 2, 2], "y")
    inputs = RNG.normal(0, 3, (5, 2, 2)).astype(np.float32)
    values = held(model, inputs, ["y"])
    found = judge(model, values | {"y": values["y"].astype(np.int8)}, host={"y"})
    assert found.ok
    assert found.units[0].elements == 5


def test_integers_wrap_around_as_in_their_type(graph: Any) -> None:
    graph.node("Cast", ["x"], "q", to=3)
    graph.node("Abs", ["q"], "y")
    model = graph.model(["N"], "y")
    inputs = np.array([-128, -3, 127], np.float32)
    right = np.array([-128, 3, 127], np.int8)
    assert judge(model, {"x": inputs, "y": right}).ok


def test_no_number_becomes_any_integer(graph: Any) -> None:
    graph.node("Div", ["x", graph.constant(0, np.float32)], "ratio")
    graph.node("QuantizeLinear", ["ratio", graph.constant(1, np.float32)], "y")
    model = graph.model(["N"], "y")
    inputs = np.array([0, 1], np.float32)
    for first in (0, 77):
        assert judge(model, {"x": inputs, "y": np.array([first, 255], np.uint8)}, host={"y"}).ok
    assert not judge(model, {"x": inputs, "y": np.array([0, 254], np.uint8)}, host={"y"}).ok


def test_numbers_that_a_host_hands_on_in_float32_are_their_integers(graph: Any) -> None:
    """k-WTA on the host: the device takes multiples of the scale up again, not their roundings."""
    scale = float(np.float32(0.0137))
    x = graph.pair("x", "q", scale)
    graph.nodes.append(
        helper.make_node("TopK", [x, graph.constant([2], np.int64)], ["best", "places"], axis=1)
    )
    shape = graph.node("Shape", [x], "shape")
    zeros = graph.node("ConstantOfShape", [shape], "zeros")
    graph.node("ScatterElements", [zeros, "places", "best"], "winners", axis=1)
    graph.node("MatMul", ["winners", graph.weights(RNG.integers(-99, 99, (5, 4)), 0.37)], "y")
    model = graph.model(["N", 5], "y")
    inputs = RNG.normal(0, 1, (40, 5)).astype(np.float32)
    values = held(model, inputs, ["q", "winners", "y"])
    winners = np.rint(values["winners"].astype(np.float64) / scale) * scale
    weights = numpy_helper.to_array(model.graph.initializer[-1]).astype(np.float64)
    weights *= float(np.float32(0.37))
    values["y"] = (winners @ weights).astype(np.float32)
    rounded = (values["winners"].astype(np.float64) @ weights).astype(np.float32)
    assert (rounded != values["y"]).any(), "a weak test"
    assert judge(model, values, host=["winners"]).ok


@pytest.mark.parametrize("fine", [True, False])
def test_a_runtime_may_begin_with_the_bias(graph: Any, fine: bool) -> None:
    """Sums that are exact without the bias, or at their end, are rounded at every step with it."""
    x = graph.pair("x", "q", 0.25)
    half = RNG.integers(-127, 128, (32, 8))  # what the first half adds, the second takes away
    weights = graph.weights(np.concatenate([half, -half]), 2.0**-6)
    biases = RNG.normal(0, 900, 8) if fine else RNG.integers(-999, 999, 8) * 2.0**-20
    graph.node("Gemm", [x, weights, graph.constant(biases, np.float32)], "y")
    model = graph.model(["N", 64], "y")
    inputs = np.repeat(RNG.normal(0, 9, (50, 1, 32)), 2, axis=1).reshape(50, 64)
    values = held(model, inputs.astype(np.float32), ["q"])
    integers = values["q"].astype(np.float32) * np.float32(0.25)
    kernels = numpy_helper.to_array(model.graph.initializer[-2]).astype(np.float32) / 64
    bias = numpy_helper.to_array(model.graph.initializer[-1])
    sums = np.repeat(bias[None], len(inputs), axis=0)
    for number in range(64):
        sums += integers[:, number, None] * kernels[number]
    assert (sums != bias).any(), "a weak test"
    assert judge(model, values | {"y": sums}, host=["y"], run_runtime=False).ok
    wrong = sums + np.float32(1)
    assert not judge(model, values | {"y": wrong}, host=["y"], run_runtime=False).ok


def test_a_normalisation_may_subtract_larger_terms(graph: Any) -> None:
    """A runtime computes x * factor - mean * factor, which of one position is not zero."""
    x = graph.pair("x", "q", 1024.0)
    numbers = [graph.constant(array, np.float32) for array in ([1.3, 1.1], [0.7, 0.2])]
    graph.node("InstanceNormalization", [x, *numbers], "y")
    model = graph.model(["N", 2, 1, 1], "y")
    inputs = (RNG.integers(-100, 100, (9, 2, 1, 1)) * 1024).astype(np.float32)
    values = held(model, inputs, ["q", "y"])
    assert judge(model, values, host=["y"]).ok


def test_files_of_both_quantisations_are_computed_as_they_are(graph: Any) -> None:
    """A bias keeps its own scale beside operators on integers."""
    x = graph.pair("x", "q", 0.0625)
    bias = graph.constant(RNG.integers(-2000, 2000, 6), np.int32)
    real = graph.node("DequantizeLinear", [bias, graph.constant(0.00125, np.float32)], "bias")
    weights = graph.weights(RNG.integers(-90, 90, (8, 6)), 0.0183)
    graph.node("Gemm", [x, weights, real], "sums")
    graph.pair("sums", "r", 0.245)
    numbers = [(0.245, np.float32), (0, np.int8)]
    kernels = [(RNG.integers(-3, 4, (6, 3)), np.int8), (0.0191, np.float32), (0, np.int8)]
    names = [graph.constant(*pair) for pair in (*numbers, *kernels, (0.0108, np.float32))]
    zero = graph.constant(0, np.int8)
    graph.node("QLinearMatMul", ["r", *names, zero], "z")
    graph.node("DequantizeLinear", ["z", names[-1], zero], "y")
    model = graph.model(["N", 8], "y", opset=13)
    inputs = RNG.normal(0, 4, (200, 8)).astype(np.float32)
    values = held(model, inputs, ["q", "y"])
    assert judge(model, values, host=["y"]).ok


def test_what_a_device_makes_for_itself_is_not_judged_by_the_hosts(graph: Any) -> None:
    """float32 divides -11.36792 by the scale to -10.5, a tie; the exact quotient lies below it."""
    scale = float(np.float32(1.082659))
    graph.node("Neg", [graph.pair("x", "q", scale)], "y")
    values = {
        "x": np.array([[-11.36792]], np.float32),
        "q.real": np.array([[-10 * scale]], np.float32),
        "y": np.array([[11 * scale]], np.float32),
    }
    model = graph.model(["N", 1], "y")
    assert judge(model, values, host={"q.real"}, aside={"y": {"q.real"}}).ok
    found = judge(model, values, host={"q.real"})
    assert [unit.differing for unit in found.units] == [0, 1]


@pytest.mark.parametrize(("logit", "ok"), [(-88.0, True), (-80.0, False)])
def test_powers_that_are_not_normal_may_be_zero(graph: Any, logit: float, ok: bool) -> None:
    graph.node("Softmax", ["x"], "y", axis=1)
    values = {"x": np.array([[0, logit]], np.float32), "y": np.array([[1, 0]], np.float32)}
    assert judge(graph.model(["N", 2], "y"), values, host={"y"}, run_runtime=False).ok is ok
