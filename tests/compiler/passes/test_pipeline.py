"""Lowering: a network of every accepted operator computes what onnxruntime computes."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from trencadis_compiler.compile import import_model
from trencadis_compiler.exact.reference import evaluate
from trencadis_compiler.ir.network import Pool

# Scales are powers of two, so that onnxruntime's float32 arithmetic is exact, ties and all, and
# must agree in every bit.


@pytest.fixture
def check(onnxruntime_outputs, reference_outputs):
    """Import a file; its outputs must be those of onnxruntime. Returns the network."""

    def run(path, shape, *, dtype="float32", samples=5, seed=0) -> Any:
        rng = np.random.default_rng(seed)
        inputs = rng.normal(0, 3, (samples, *shape)).astype(np.float32)
        if dtype != "float32":
            inputs = rng.integers(0, 256, (samples, *shape)).astype(np.uint8).view(dtype)
        network = import_model(path)
        expected = onnxruntime_outputs(path, inputs)
        found = reference_outputs(network, inputs)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        assert len(np.unique(expected)) > 8, "the outputs hardly differ: a weak test"
        return network

    return run


WINDOWS = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"pads": [0, 2, 1, 0]},
    {"strides": [2, 1]},
    {"dilations": [2, 1]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    {"auto_pad": "VALID"},
    {"group": 2},
]


@pytest.mark.parametrize("opset", [13, 17, 19, 21])
@pytest.mark.parametrize(
    ("dtype", "zero"), [(np.int8, 0), (np.int8, -128), (np.int8, 5), (np.uint8, 0), (np.uint8, 90)]
)
def test_convolution_in_every_quantisation(writer, check, dtype, zero, opset) -> None:
    w = writer(opset=opset)
    x = w.quantised("x", 2**-4, 3, np.int8)
    scales = 2.0 ** -w.rng.integers(5, 8, 6)
    bias = w.integers(w.rng.integers(-500, 500, 6), scales * 2**-4, dtype=np.int32)
    y = w.node("Conv", x, w.integers(w.sparse(6, 2, 3, 3), scales), bias, pads=[1, 1, 1, 1])
    network = check(w.save(w.quantised(y, 2**-3, zero, dtype), 6, 8, 8), (2, 8, 8))
    assert network.layers[0].out_shape == (6, 8, 8)
    assert network.layers[0].output.zero_point == zero


@pytest.mark.parametrize("attributes", WINDOWS, ids=str)
def test_windows(writer, check, attributes) -> None:
    w = writer()
    x = w.quantised("x", 2**-4, -7)
    kernels = w.sparse(4, 2 // attributes.get("group", 1), 3, 2)
    y = w.quantised(w.node("Conv", x, w.integers(kernels), **attributes), 2**-2, -128)
    probe = w.save(y, 4, "H", "W", name="probe.onnx")
    network = import_model(probe)
    check(w.save(y, *network.layers[0].out_shape), (2, 8, 8))


def test_one_dimensional_convolution(writer, check) -> None:
    w = writer(shape=(3, 20))
    x = w.quantised("x")
    y = w.node("Conv", x, w.integers(w.sparse(4, 3, 5)), pads=[2, 2], strides=[2])
    y = w.node("MaxPool", y, kernel_shape=[2], strides=[2])
    check(w.save(w.quantised(y, 2**-2), 4, 5), (3, 20))


@pytest.mark.parametrize("relu", ["Relu", "Clip"])
@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_relu_around_quantisers(writer, check, relu, place) -> None:
    w = writer()

    def apply(value: str) -> str:
        if relu == "Relu":
            return w.node("Relu", value)
        return w.node("Clip", value, w.constant(0, np.float32), w.constant(6, np.float32))

    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3)))
    if place == "before":
        y = w.quantised(apply(y), 2**-4)
    elif place == "between":
        y = w.quantised(apply(w.quantised(y, 2**-3)), 2**-4, -100)
    else:
        y = w.quantised(y, 2**-3)
        if relu == "Clip":
            y = w.node("Relu", y)
        else:
            y = apply(y)
    network = check(w.save(y, 4, 6, 6), (2, 8, 8))
    assert network.layers[0].low > 0 or place == "between"


@pytest.mark.parametrize(
    ("function", "attributes"),
    [
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("LeakyRelu", {"alpha": 0.25}),
        ("LeakyRelu", {"alpha": -0.75}),
    ],
)
def test_functions_become_tables(writer, check, function, attributes) -> None:
    w = writer()
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3))), 2**-4)
    y = w.quantised(w.node(function, y, **attributes), 2**-6, 7)
    network = check(w.save(y, 4, 6, 6), (2, 8, 8))
    assert network.layers[0].table is not None


@pytest.mark.parametrize("quantisers", [False, True])
@pytest.mark.parametrize(
    ("windows", "pool"),
    [
        ([(2, 2)], Pool((2, 2), (2, 2))),
        ([(3, 2)], Pool((3, 3), (2, 2))),
        ([(2, 2), (2, 2)], Pool((4, 4), (4, 4))),
        ([(3, 1), (2, 2)], Pool((4, 4), (2, 2))),
    ],
)
def test_pooling(writer, check, windows, pool, quantisers) -> None:
    w = writer(shape=(2, 15, 13))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3)))
    for size, step in windows:
        y = w.quantised(y, 2**-3) if quantisers else y
        y = w.node("MaxPool", y, kernel_shape=[size] * 2, strides=[step] * 2)
    y = w.quantised(y, 2**-3)
    network = import_model(w.save(y, 4, "H", "W", name="probe.onnx"))
    assert network.layers[0].pool == pool
    check(w.save(y, *network.layers[0].out_shape), (2, 15, 13))


def test_global_pooling(writer, check) -> None:
    w = writer()
    y = w.node("GlobalMaxPool", w.node("Conv", w.quantised("x"), w.integers(w.sparse(9, 2, 3, 3))))
    check(w.save(w.quantised(y, 2**-4), 9, 1, 1), (2, 8, 8))


AVERAGES = {
    "global": ("GlobalAveragePool", {}, (1, 1)),
    "windows": ("AveragePool", {"kernel_shape": [2, 4], "strides": [1, 2]}, (7, 3)),
    "padded": (
        "AveragePool",
        {"kernel_shape": [2, 2], "pads": [1, 1, 0, 1], "count_include_pad": 1},
        (8, 9),
    ),
    "mean": ("ReduceMean", {"axes": [2, 3]}, (1, 1)),
    "mean of an axis counted from the end": ("ReduceMean", {"axes": [-1, -2]}, (1, 1)),
}


@pytest.mark.parametrize("zero", [-128, 5])
@pytest.mark.parametrize("kind", AVERAGES)
def test_averages(writer, check, kind, zero) -> None:
    # Windows of 2**n values, so that onnxruntime's averages are exact too.
    operator, attributes, size = AVERAGES[kind]
    w = writer(shape=(6, 10, 10))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 6, 3, 3))), 2**-3, 5)
    y = w.quantised(w.node(operator, y, **attributes), 2**-5, zero)
    network = check(w.save(y, 12, *size), (6, 10, 10), samples=9)
    assert [layer.weights.shape[0] for layer in network.layers] == [12, 12]


def test_a_mean_without_its_axes_is_a_vector(writer, check) -> None:
    w = writer(shape=(6, 10, 10))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 6, 3, 3))), 2**-3)
    y = w.quantised(w.node("ReduceMean", y, axes=[2, 3], keepdims=0), 2**-6)
    y = w.node("MatMul", y, w.integers(w.sparse(12, 7)))
    check(w.save(w.quantised(y, 2**-3), 7), (6, 10, 10))


@pytest.mark.parametrize("axes", [None, []], ids=["left out", "empty"])
def test_a_mean_over_no_axes_is_an_identity(writer, check, axes) -> None:
    w = writer(opset=18)
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 2, 3, 3))), 2**-3)
    inputs = [] if axes is None else [w.constant(axes, np.int64)]
    y = w.node("ReduceMean", y, *inputs, noop_with_empty_axes=1)
    network = check(w.save(y, 6, 6, 6), (2, 8, 8))
    assert len(network.layers) == 1


def test_averages_of_one_dimension(writer, check) -> None:
    w = writer(shape=(3, 20))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 3, 5))), 2**-3)
    y = w.node("AveragePool", y, kernel_shape=[4], strides=[2])
    check(w.save(w.quantised(y, 2**-5), 6, 7), (3, 20))


def test_an_average_of_49_is_exact(writer) -> None:
    # Averages that are odd numbers are ties when they are halved, and 1/49 is no float.
    w = writer(shape=(1, 7, 7))
    y = w.node("GlobalAveragePool", w.quantised("x", 1.0, 0))
    network = import_model(w.save(w.quantised(y, 2.0, 0), 1, 1, 1))
    sums = (np.arange(-40, 41) * 49 + np.array([[-1], [0], [1]])).ravel()
    keys = np.empty((sums.size, 1, 7, 7), np.int64)
    for sample, total in enumerate(sums):
        keys[sample] = (128 + total // 49 + (np.arange(49) < total % 49)).reshape(1, 7, 7)
    expected = [round(Fraction(int(total), 98)) + 128 for total in sums]
    assert evaluate(network, keys).ravel().tolist() == expected


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}], ids=str)
@pytest.mark.parametrize("bias", [None, "integers", "float", "row", "scalar"])
def test_gemm(writer, check, attributes, bias) -> None:
    w = writer(shape=(30,))
    matrix = w.sparse(30, 12)
    scales = 2.0 ** -w.rng.integers(4, 8, 12)
    axis = 1
    if attributes.get("transB"):
        matrix, axis = matrix.T.copy(), 0
    inputs = [w.quantised("x", 2**-3, -9), w.integers(matrix, scales, axis)]
    numbers = w.rng.integers(-200, 200, 12)
    if bias == "integers":
        inputs.append(w.integers(numbers, scales / 8, dtype=np.int32))
    elif bias is not None:
        real = numbers / 64 if bias == "float" else numbers[None] / 64
        inputs.append(w.constant(3.5 if bias == "scalar" else real, np.float32))
    y = w.quantised(w.node("Gemm", *inputs, **attributes), 2**-1)
    check(w.save(y, 12), (30,))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize("quantised", [False, True])
def test_matmul_and_bias(writer, check, op, swapped, quantised) -> None:
    if swapped and op == "Sub":
        pytest.skip("only sums commute")
    w = writer(shape=(20,))
    numbers = w.rng.integers(-100, 100, 10)
    bias = w.integers(numbers, 2**-4) if quantised else w.constant(numbers / 16, np.float32)
    y = w.node("MatMul", w.quantised("x"), w.integers(w.sparse(20, 10)))
    y = w.node(op, *((bias, y) if swapped else (y, bias)))
    check(w.save(w.quantised(y, 2**-2), 10), (20,))


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_factor_a_channel(writer, check, op) -> None:
    w = writer()
    factors = 2.0 ** w.rng.integers(-2, 3, (3, 1, 1)) * [[[1]], [[-1]], [[1]]]
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(3, 2, 3, 3)))
    y = w.node(op, y, w.constant(factors, np.float32))
    check(w.save(w.quantised(y, 2**-2), 3, 6, 6), (2, 8, 8))


def test_a_third_is_exact(writer) -> None:
    """Sums that are odd multiples of three steps are ties; float64 has no third."""
    w = writer(shape=(1,))
    y = w.node("MatMul", w.quantised("x", 1.0, 0), w.integers(np.full((1, 1), 3), 1.0))
    y = w.node("Div", y, w.constant(3, np.float32))
    network = import_model(w.save(w.quantised(y, 2.0, 0), 1))
    keys = np.arange(256).reshape(-1, 1, 1, 1)
    expected = [round(Fraction(key - 128, 2)) + 128 for key in range(256)]
    assert evaluate(network, keys).ravel().tolist() == expected


def test_batch_normalisation(writer, check) -> None:
    w = writer()
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3)))
    gain, offset, mean = ([1, -2, 0, 0.5], [1, 2, 1.5, 0], [0.5, -1, 3, 0.25])
    variance = [4, 1, 16, 0.25]
    numbers = [w.constant(values, np.float32) for values in (gain, offset, mean, variance)]
    y = w.node("BatchNormalization", y, *numbers, epsilon=0.0)
    network = check(w.save(w.quantised(w.node("Relu", y), 2**-4), 4, 6, 6), (2, 8, 8))
    assert not network.layers[0].weights.dense()[2].any()


@pytest.mark.parametrize("how", ["Flatten", "Reshape", "Reshape0", "Squeeze", "Shape"])
def test_flattening(writer, check, how) -> None:
    size = 1 if how == "Squeeze" else 3
    w = writer(shape=(2, 2 + size, 2 + size))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3))), 2**-3)
    outputs = 4 * size * size
    if how == "Flatten":
        y = w.node("Flatten", y)
    elif how == "Squeeze":
        y = w.node("Squeeze", y, w.constant([2, 3], np.int64))
    elif how == "Shape":
        batch = w.node("Gather", w.node("Shape", y), w.constant(0, np.int64), axis=0)
        batch = w.node("Unsqueeze", batch, w.constant([0], np.int64))
        shape = w.node("Concat", batch, w.constant([-1], np.int64), axis=0)
        y = w.node("Reshape", y, shape)
    else:
        shape = [-1, outputs] if how == "Reshape" else [0, -1]
        y = w.node("Reshape", y, w.constant(shape, np.int64))
    y = w.node("MatMul", w.quantised(y, 2**-3), w.integers(w.sparse(outputs, 9)))
    check(w.save(w.quantised(y, 2**-2), 9), (2, 2 + size, 2 + size))


def test_an_axis_of_size_1_that_comes_and_goes(writer, check) -> None:
    w = writer(shape=(2, 3))
    y = w.node("Reshape", w.quantised("x"), w.constant([-1, 2, 1, 3], np.int64))
    y = w.node("Transpose", y, perm=[0, 2, 1, 3])
    y = w.node("Reshape", y, w.constant([-1, 2, 3], np.int64))
    y = w.node("Conv", y, w.integers(w.sparse(4, 2, 3)))
    check(w.save(w.quantised(y, 2**-3), 4, 1), (2, 3))


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_one_number_on_flattened_sums(writer, check, op) -> None:
    w = writer(shape=(4, 3))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(5, 4, 3)))
    y = w.node(op, w.node("Flatten", y), w.constant([0.75], np.float32))
    check(w.save(w.quantised(y, 2**-4), 5), (4, 3))


@pytest.mark.parametrize("batch", [1, 4])
def test_fixed_batch(writer, onnxruntime_outputs, reference_outputs, batch) -> None:
    w = writer(batch=batch, shape=(2, 4, 4))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3))), 2**-3)
    y = w.node("Reshape", y, w.constant([batch, 16], np.int64))
    y = w.quantised(w.node("MatMul", y, w.integers(w.sparse(16, 9))), 2**-1)
    path = w.save(y, 9)
    inputs = w.rng.normal(0, 3, (8, 2, 4, 4)).astype(np.float32)
    network = import_model(path)
    assert np.array_equal(reference_outputs(network, inputs), onnxruntime_outputs(path, inputs))
    assert network.output.tensor.shape == (batch, 9)


def test_channels_last_input_and_output(writer, check) -> None:
    w = writer(shape=(8, 7, 2))
    x = w.node("Transpose", w.quantised("x"), perm=[0, 3, 1, 2])
    y = w.quantised(w.node("Conv", x, w.integers(w.sparse(4, 2, 3, 3))), 2**-3)
    network = check(w.save(w.node("Transpose", y, perm=[0, 2, 3, 1]), 6, 5, 4), (8, 7, 2))
    assert (network.input.axes, network.output.axes) == ("HWC", "HWC")


def test_flattened_channels_last(writer, check) -> None:
    w = writer(shape=(2, 5, 4))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3))), 2**-3)
    y = w.node("Flatten", w.node("Transpose", y, perm=[0, 2, 3, 1]))
    check(w.save(w.node("MatMul", y, w.integers(w.sparse(24, 9))), 9), (2, 5, 4))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantised_input_and_output(writer, check, dtype) -> None:
    w = writer(shape=(20,), dtype=dtype)
    zero = -3 if dtype == "int8" else 120
    x = w.node("DequantizeLinear", "x", w.constant(0.25, np.float32), w.constant(zero, dtype))
    y = w.node("MatMul", x, w.integers(w.sparse(20, 10)))
    y = w.node("QuantizeLinear", y, w.constant(0.5, np.float32), w.constant(zero, dtype))
    network = check(w.save(y, 10, dtype=dtype), (20,), dtype=dtype)
    assert network.output.integer


def test_no_zero_point_means_uint8(writer, check) -> None:
    w = writer(shape=(20,))
    scale = w.constant(2**-3, np.float32)
    x = w.node("DequantizeLinear", w.node("QuantizeLinear", "x", scale), scale)
    network = check(w.save(w.node("MatMul", x, w.integers(w.sparse(20, 10))), 10), (20,))
    assert not network.layers[0].input.signed


def test_output_type_attribute(writer, check) -> None:
    w = writer(shape=(20,), opset=21)
    scale = w.constant(2**-3, np.float32)
    x = w.node("QuantizeLinear", "x", scale, output_dtype=3)
    x = w.node("DequantizeLinear", x, scale)
    network = check(w.save(w.node("MatMul", x, w.integers(w.sparse(20, 10))), 10), (20,))
    assert network.layers[0].input.signed


def test_clipped_weights(writer, check) -> None:
    # Brevitas: integers, a narrow range, dequantised.
    w = writer()
    kernels = w.node(
        "Clip",
        w.constant(w.sparse(4, 2, 3, 3)),
        w.constant(-31, np.int8),
        w.constant(31, np.int8),
    )
    scales = w.constant([2**-4, 2**-5, 2**-4, 2**-6], np.float32)
    zeros = w.constant(np.zeros(4, np.int8))
    kernels = w.node("DequantizeLinear", kernels, scales, zeros, axis=0)
    y = w.node("Relu", w.node("Conv", w.quantised("x"), kernels))
    network = check(w.save(w.quantised(y, 2**-4, 0, np.uint8), 4, 6, 6), (2, 8, 8))
    assert network.layers[0].weights.values.max() == 31


def test_weights_that_the_model_quantises(writer, check) -> None:
    w = writer()
    numbers = w.constant([2**-4, 2**-5, 2**-4], np.float32), w.constant(np.zeros(3, np.int8))
    kernels = w.constant(w.rng.normal(0, 1, (3, 2, 3, 3)), np.float32)
    kernels = w.node("QuantizeLinear", kernels, *numbers, axis=0)
    kernels = w.node("DequantizeLinear", kernels, *numbers, axis=0)
    check(w.save(w.quantised(w.node("Conv", w.quantised("x"), kernels)), 3, 6, 6), (2, 8, 8))


def test_unsigned_weights_with_a_zero_point(writer, check) -> None:
    w = writer(shape=(20,))
    matrix = w.node(
        "DequantizeLinear",
        w.constant(w.rng.integers(0, 256, (20, 10)), np.uint8),
        w.constant(2**-6, np.float32),
        w.constant(128, np.uint8),
    )
    check(w.save(w.quantised(w.node("MatMul", w.quantised("x"), matrix), 2**-1), 10), (20,))


def test_transposed_weights(writer, check) -> None:
    w = writer(shape=(20,))
    matrix = w.integers(w.sparse(10, 20), 2.0 ** -w.rng.integers(4, 7, 10))
    matrix = w.node("Transpose", matrix, perm=[1, 0])
    check(w.save(w.quantised(w.node("MatMul", w.quantised("x"), matrix), 2**-2), 10), (20,))


def test_nodes_without_effect(writer, check) -> None:
    w = writer(shape=(20,))
    x = w.node("Identity", w.node("Cast", w.quantised("x"), to=1))
    y = w.node("Dropout", w.node("MatMul", x, w.integers(w.sparse(20, 10))))
    w.node("Softmax", y)  # nobody needs it
    check(w.save(w.quantised(y, 2**-2), 10), (20,))


def test_sums_leave_the_network_as_they_are(writer, check) -> None:
    w = writer(shape=(20,))
    bias = w.integers(w.rng.integers(-50, 50, 10), 2**-9, dtype=np.int32)
    y = w.node("Gemm", w.quantised("x"), w.integers(w.sparse(20, 10)), bias)
    network = check(w.save(y, 10), (20,))
    assert network.layers[0].requantised is None


def quant(w, value: str, scale: Any, bits: int, *, signed: int = 1, narrow: int = 0) -> str:
    return w.node(
        "Quant",
        value,
        w.constant(scale, np.float32),
        w.constant(0, np.float32),
        w.constant(bits, np.float32),
        domain="qonnx.custom_op.general",
        signed=signed,
        narrow=narrow,
        rounding_mode="ROUND",
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_qonnx_is_the_same_as_quantise_and_dequantise(
    writer, onnxruntime_outputs, reference_outputs, bits
) -> None:
    weights = np.random.default_rng(3).normal(0, 1, (4, 2, 3, 3)).astype(np.float32)
    scales = np.array([2**-3, 2**-4, 2**-5, 2**-4]).reshape(4, 1, 1, 1)
    w = writer()
    kernels = quant(w, w.constant(weights), scales, bits, narrow=1)
    y = w.node("Relu", w.node("Conv", quant(w, "x", 2**-4, 8), kernels))
    network = import_model(w.save(quant(w, y, 2**-2, bits, signed=0), 4, 6, 6))

    w = writer()
    most = (1 << (bits - 1)) - 1
    kernels = w.integers(np.clip(np.rint(weights / scales), -most, most), scales.ravel())
    y = w.node("Relu", w.node("Conv", w.quantised("x", 2**-4), kernels))
    low, high = w.constant(0, np.float32), w.constant(((1 << bits) - 1) / 4, np.float32)
    y = w.quantised(w.node("Clip", y, low, high), 2**-2, 0, np.uint8)
    path = w.save(y, 4, 6, 6, name="qdq.onnx")
    inputs = w.rng.normal(0, 3, (5, 2, 8, 8)).astype(np.float32)
    assert np.array_equal(reference_outputs(network, inputs), onnxruntime_outputs(path, inputs))
    assert network.layers[0].weights.values.min() == (-most if bits == 4 else -91)
