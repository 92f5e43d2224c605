"""Float models quantised by onnxruntime, in the forms its users have."""

import logging
from typing import Any

import numpy as np
import pytest

from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_format.layer_tables import Selection
from trencadis_format.onnxruntime_door import load_quantiser

quantiser = load_quantiser()

SHAPE = (1, 12, 12)


def calibration(words: int = 16) -> Any:
    return np.random.default_rng(1).normal(0, 1, (words, *SHAPE)).astype(np.float32)


class Reader(quantiser.CalibrationDataReader):
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
    "unsigned": {"activation_type": quantiser.QuantType.QUInt8},
    "unsigned weights": {
        "activation_type": quantiser.QuantType.QUInt8,
        "weight_type": quantiser.QuantType.QUInt8,
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
    quantiser.quantize_static(
        str(path), str(quantised), Reader(), quant_format=quantiser.QuantFormat.QDQ, **OPTIONS[name]
    )
    found = import_model(quantised)
    assert [layer.weights.shape[0] for layer in found.layers] == [8, 6, 10]
    first = found.layers[0].winners
    assert first is not None
    assert (first.k, first.selection) == (3, Selection.THRESHOLD)
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
    found = import_model(path, calibration())
    outputs = reference_outputs(found, calibration())
    expected = onnxruntime_outputs(path, calibration())
    error = np.abs(outputs - expected).mean() / np.abs(expected).mean()
    assert error < 0.1, "quantised and float network have little in common"
    assert sorted(file.name for file in path.parent.iterdir()) == ["net.onnx"]


def test_a_float_model_needs_calibration_data(writer) -> None:
    w = writer(shape=SHAPE)
    with pytest.raises(CompileError, match=r"or give --calibration data to have that done"):
        import_model(w.save(network(w, winners=False), 10))
