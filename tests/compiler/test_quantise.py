"""Float models quantised by onnxruntime, in the forms its users have."""

import logging
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from trencadis_compiler.calibration import CalibrationError
from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.frontend import load_graph
from trencadis_compiler.quantise import is_quantised
from trencadis_hw import abi

SHAPE = (1, 12, 12)


def calibration(words: int = 16) -> Any:
    return np.random.default_rng(1).normal(0, 1, (words, *SHAPE)).astype(np.float32)


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self._batches = iter([{"x": calibration()}])

    def get_next(self) -> Any:
        return next(self._batches, None)


def masked(w: Any, *shape: int) -> Any:
    weights = w.rng.normal(0, 0.5, shape) * (w.rng.random(shape) < 0.3)
    return w.constant(weights, np.float32)


def network(
    w: Any,
    *,
    matmul: bool = False,
    normalised: bool = False,
    winners: bool = True,
    average: bool = False,
) -> str:
    bias = w.constant(w.rng.normal(0, 0.2, 8), np.float32)
    y = w.node("Conv", "x", masked(w, 8, 1, 3, 3), bias)
    if normalised:
        numbers = (w.constant(w.rng.random(8) + 0.5, np.float32) for _ in range(4))
        y = w.node("BatchNormalization", y, *numbers)
    y = w.node("Relu", y)
    y = w.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    if winners:
        values = w.top_k(y, 3, axis=1)[0]
        numbers = (w.constant([number], np.int64) for number in (-1, 2**31 - 1, 1, 1))
        kth = w.node("Slice", values, *numbers)
        y = w.node("Where", w.node("GreaterOrEqual", y, kth), y, w.constant(0, np.float32))
    y = w.node("Relu", w.node("Conv", y, masked(w, 6, 8, 3, 3)))
    if average:
        y = w.node("Flatten", w.node("GlobalAveragePool", y))
        return w.node("Gemm", y, masked(w, 10, 6), transB=1)
    y = w.node("Flatten", y)
    if matmul:
        y = w.node("MatMul", y, masked(w, 54, 10))
        return w.node("Add", y, w.constant(w.rng.normal(0, 1, 10), np.float32))
    return w.node(
        "Gemm", y, masked(w, 10, 54), w.constant(w.rng.normal(0, 1, 10), np.float32), transB=1
    )


@pytest.fixture
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


OPTIONS = {
    "default": {},
    "per channel": {"per_channel": True},
    "symmetric": {"extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True}},
    "unsigned": {"activation_type": QuantType.QUInt8},
    "unsigned weights": {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QUInt8,
        "extra_options": {"WeightSymmetric": True},
    },
    "reduced range": {"reduce_range": True, "per_channel": True},
}


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("name", OPTIONS)
def test_quantised_by_onnxruntime(
    writer, quiet, onnxruntime_outputs, reference_outputs, name, opset
) -> None:
    w = writer(shape=SHAPE, opset=opset)
    path = w.save(network(w), 10, name="float.onnx")
    quantised = path.with_name("quantised.onnx")
    quantize_static(
        str(path), str(quantised), Reader(), quant_format=QuantFormat.QDQ, **OPTIONS[name]
    )
    found = import_model(quantised)
    assert [layer.weights.shape[0] for layer in found.layers] == [8, 6, 10]
    first = found.layers[0].winners
    assert first is not None
    assert (first.k, first.selection) == (3, abi.Selection.THRESHOLD)
    inputs = np.random.default_rng(2).normal(0, 1, (40, *SHAPE)).astype(np.float32)
    expected = onnxruntime_outputs(quantised, inputs)
    outputs = reference_outputs(found, inputs)
    quantisation = found.layers[-1].output
    assert quantisation is not None
    scale = quantisation.scale
    steps = np.rint(np.abs(outputs - expected) / scale)
    # Ties of exact arithmetic that float32 rounds the other way; there are hardly any.
    assert steps.max() <= 1
    assert np.count_nonzero(steps) <= 2, f"{np.count_nonzero(steps)} of {steps.size} differ"
    assert len(np.unique(expected)) > 30


@pytest.mark.parametrize(
    "options", [{}, {"matmul": True}, {"normalised": True}, {"average": True}], ids=str
)
def test_float_models_are_quantised_with_calibration_data(
    writer, onnxruntime_outputs, reference_outputs, options
) -> None:
    w = writer(shape=SHAPE)
    path = w.save(network(w, **options), 10)
    assert not is_quantised(load_graph(path))
    found = import_model(path, calibration())
    outputs = reference_outputs(found, calibration())
    expected = onnxruntime_outputs(path, calibration())
    error = np.abs(outputs - expected).mean() / np.abs(expected).mean()
    assert error < 0.1, "quantised and float network have little in common"
    assert sorted(file.name for file in path.parent.iterdir()) == ["net.onnx"]


def test_fixed_batch(writer) -> None:
    w = writer(shape=SHAPE, batch=4)
    found = import_model(w.save(network(w, winners=False), 10), calibration(10))
    assert len(found.layers) == 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            calibration()[:, 0],
            r"^input 'x' must have shape \['N', 1, 12, 12\], not \[16, 12, 12\]; N is any number",
        ),
        (calibration()[:, :, :5], "must have shape"),
        (calibration(0), "has no words"),
        (calibration().astype(np.float64), "must be float32, not float64"),
        (np.full_like(calibration(), np.nan), "must be finite, but is nan"),
    ],
    ids=["axes", "sizes", "none", "type", "nan"],
)
def test_calibration_data_is_checked(writer, inputs, message) -> None:
    w = writer(shape=SHAPE)
    with pytest.raises(CalibrationError, match=message):
        import_model(w.save(network(w), 10), inputs)


def test_an_input_that_is_a_number_is_refused(writer) -> None:
    w = writer(shape=SHAPE)
    path = w.save(network(w), 10)
    model = onnx.load(path)
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    onnx.save(model, path)
    with pytest.raises(CompileError, match=r"input 'x' is a single number; the overlay takes maps"):
        import_model(path, np.array(1, np.float32))


def test_less_calibration_data_than_a_batch(writer) -> None:
    w = writer(shape=SHAPE, batch=4)
    with pytest.raises(
        CalibrationError, match=r"^input 'x' takes 4 words at a time, but there are 3"
    ):
        import_model(w.save(network(w, winners=False), 10), calibration(3))


def test_what_onnxruntime_cannot_quantise_is_one_line(writer) -> None:
    w = writer(shape=SHAPE)
    path = w.save(w.node("Conv", "x", w.constant(np.ones((2, 3, 3, 3)), np.float32)), 2, 10, 10)
    with pytest.raises(CompileError, match="onnxruntime cannot quantise the model: ") as error:
        import_model(path, calibration())
    assert "\n" not in str(error.value)


def test_unsupported_operators_are_named_before_quantising(writer) -> None:
    w = writer(shape=SHAPE)
    with pytest.raises(CompileError, match="unsupported operators: NoSuchOperator"):
        import_model(w.save(w.node("NoSuchOperator", "x"), 10), calibration())


def test_a_float_model_needs_calibration_data(writer) -> None:
    w = writer(shape=SHAPE)
    with pytest.raises(CompileError, match=r"or give --calibration data to have that done"):
        import_model(w.save(network(w, winners=False), 10))


def test_int8_files_are_recognised(writer) -> None:
    w = writer(shape=(20,))
    path = w.save(w.node("MatMul", w.quantised("x"), w.integers(w.sparse(20, 10))), 10)
    assert is_quantised(load_graph(path))
    onnx.checker.check_model(str(path))
