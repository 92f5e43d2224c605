"""Float models become int8 ones of the same function; what would spoil it stays in float."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fixtures.onnx_files import kinds, normal, run, save, value
from onnx import helper, numpy_helper

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.quantising.quantise_float import (
    QuantisedCopy,
    QuantiseOptions,
    is_float_model,
    quantise_float,
)
from trencadis_compiler.importer.samples import match_samples
from trencadis_compiler.importer.standard import load_standard


def quantised(path: Path, x: Any, **options: Any) -> QuantisedCopy:
    standard = load_standard(path)
    return quantise_float(standard, match_samples(x, standard.model), QuantiseOptions(**options))


def convolutions(folder: Path, last_bias: float = 0.0) -> Path:
    """Two convolutions with a residual sum, a pool and a classifier."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a"], "sum"),
        helper.make_node("Relu", ["a"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["m"], "classifier"),
        helper.make_node("Add", ["m", "b3"], ["y"]),
    ]
    constants = {
        "w1": rng.normal(size=(8, 3, 3, 3)),
        "b1": rng.normal(size=8),
        "w2": rng.normal(size=(8, 8, 3, 3)) / 9,
        "w3": rng.normal(size=(32, 5)) / 6,
        "b3": rng.normal(size=(1, 5)) + last_bias,
    }
    return save(
        folder,
        nodes,
        inputs=[value("x", "N", 3, 4, 4)],
        outputs=[value("y", "N", 5)],
        constants={name: array.astype(np.float32) for name, array in constants.items()},
    )


@pytest.mark.parametrize("method", ["min-max", "entropy", "percentile"])
def test_a_convolutional_network(tmp_path: Path, method: Any) -> None:
    path = convolutions(tmp_path)
    copy = quantised(path, normal(40, 3, 4, 4), method=method)
    assert copy.kept == copy.excluded == copy.notes == ()
    assert (copy.calibrated, copy.held_back) == (30, 10)
    [output] = copy.outputs
    assert output.tensor == "y"
    assert output.correlation > 0.99
    assert [layer.tensor for layer in copy.layers] == ["x", "r1", "c2", "r2", "p", "f"]
    assert max(layer.error for layer in copy.layers) < 0.02
    onnx.checker.check_model(copy.model)
    assert kinds(copy.standard)[-2:] == ["DequantizeLinear", "Gemm"]
    assert not is_float_model(copy.model)
    assert is_float_model(load_standard(path).model)


def test_weights_are_symmetric_for_each_kernel(tmp_path: Path) -> None:
    copy = quantised(convolutions(tmp_path), normal(8, 3, 4, 4))
    arrays = {t.name: numpy_helper.to_array(t) for t in copy.model.graph.initializer}
    weights, scales = arrays["first_weights"], arrays["first_weights_scale"]
    assert weights.dtype == np.int8
    assert np.abs(weights).max(axis=(1, 2, 3)).tolist() == [127] * 8
    assert scales.shape == (8,)
    assert not arrays["first_weights_zero_point"].any()
    assert arrays["first_bias"].dtype == np.int32


def test_an_excluded_node_stays_in_float(tmp_path: Path) -> None:
    copy = quantised(convolutions(tmp_path), normal(8, 3, 4, 4), exclude=("second",))
    assert copy.excluded == ("second",)
    names = {t.name for t in copy.model.graph.initializer}
    assert "second_weights" not in names
    assert "first_weights" in names


def test_a_node_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="no node or tensor 'third' to exclude"):
        quantised(convolutions(tmp_path), normal(8, 3, 4, 4), exclude=("third",))


def test_few_samples_are_said(tmp_path: Path) -> None:
    copy = quantised(convolutions(tmp_path), normal(3, 3, 4, 4))
    assert (copy.calibrated, copy.held_back) == (3, 3)
    assert "only 3 calibration samples" in copy.notes[0]


def test_a_layer_that_is_dead_on_the_data(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["a"]),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("Gemm", ["r", "w"], ["y"]),
        ],
        inputs=[value("x", "N", 4)],
        outputs=[value("y", "N", 4)],
        constants={"w": np.eye(4, dtype=np.float32), "b": np.full(4, -100, np.float32)},
    )
    x = np.random.default_rng(1).uniform(-1, 1, (32, 4)).astype(np.float32)
    copy = quantised(path, x)
    [y] = run(copy.model.SerializeToString(), {"x": x})
    assert not y.any()


def test_nodes_that_spoil_the_copy_stay_in_float(tmp_path: Path) -> None:
    """A wide and a narrow map share a scale after a Concat; the narrow one is all that counts."""
    rng = np.random.default_rng(6)
    w3 = rng.normal(size=(16, 4)).astype(np.float32)
    w3[:8] = 0
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["wide"], "wide_layer"),
        helper.make_node("Gemm", ["x", "w2"], ["narrow"], "narrow_layer"),
        helper.make_node("Concat", ["wide", "narrow"], ["both"], "join", axis=1),
        helper.make_node("Gemm", ["both", "w3"], ["y"], "last"),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", "N", 6)],
        outputs=[value("y", "N", 4)],
        constants={
            "w1": 1e4 * normal(6, 8),
            "w2": rng.normal(size=(6, 8)).astype(np.float32),
            "w3": w3,
        },
    )
    x = normal(64, 6)
    copy = quantised(path, x)
    assert copy.kept
    assert set(copy.kept) <= {"wide_layer", "narrow_layer", "join", "last"}
    assert not any(result.spoilt for result in copy.outputs)
    assert "in float stay" in copy.notes[0]
    [want], [got] = run(path, {"x": x}), run(copy.model.SerializeToString(), {"x": x})
    assert np.corrcoef(want.reshape(-1), got.reshape(-1))[0, 1] > 0.95


def test_large_biases_hide_nothing(tmp_path: Path) -> None:
    """A copy that ignores its input correlates with large biases; less their means it does not."""
    copy = quantised(convolutions(tmp_path, last_bias=1e4), normal(40, 3, 4, 4))
    assert copy.outputs[0].correlation > 0.99
    blind = quantised(convolutions(tmp_path, last_bias=1e4), normal(1, 3, 4, 4).repeat(40, axis=0))
    assert not blind.outputs[0].correlation >= 0.95


def test_a_chain_of_functions_is_quantised_at_its_end(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["silu"]),
        helper.make_node("MatMul", ["silu", "w"], ["y"]),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", "N", 5, 4)],
        outputs=[value("y", "N", 5, 4)],
        constants={"w": normal(4, 4), "b": normal(4)},
    )
    copy = quantised(path, normal(8, 5, 4))
    assert kinds(copy.standard) == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
        "Add",
        "QuantizeLinear",
        "DequantizeLinear",
        "Sigmoid",
        "Mul",
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
    ]


def test_a_layer_that_reads_infinities_is_refused(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("Log", ["x"], ["l"]), helper.make_node("MatMul", ["l", "w"], ["y"])],
        inputs=[value("x", "N", 4)],
        outputs=[value("y", "N", 4)],
        constants={"w": normal(4, 4)},
    )
    with pytest.raises(CompileError, match="tensor 'l' is not finite on the calibration data"):
        quantised(path, np.zeros((8, 4), np.float32))


@pytest.mark.parametrize("method", ["min-max", "entropy", "percentile"])
def test_a_mask_of_infinities_stays_in_float(tmp_path: Path, method: Any) -> None:
    """Causal attention, whose masked scores are an output as well."""
    mask = np.triu(np.full((5, 5), -np.inf), 1).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "q"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "w"], ["y"]),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", 1, 5, 4)],
        outputs=[value("y", 1, 5, 4), value("masked", 1, 5, 5)],
        constants={"w": normal(4, 4), "mask": mask},
    )
    copy = quantised(path, normal(8, 5, 4), method=method)
    assert "'masked', are not finite on the calibration data" in " ".join(copy.notes)
    assert all(likeness.correlation > 0.95 for likeness in copy.outputs), copy.outputs
    assert kinds(copy.standard).count("QuantizeLinear") >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "best"}, "no such method"), ({"percentile": 20.0}, "more than 50")],
)
def test_options_that_are_wrong(options: Any, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        QuantiseOptions(**options)


def test_weights_that_are_only_stored_in_few_bits(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"], axis=1),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", "N", 4)],
        outputs=[value("y", "N", 4)],
        constants={
            "w": (100 * normal(4, 4)).clip(-128, 127).astype(np.int8),
            "s": np.full(4, 0.125, np.float32),
        },
    )
    assert is_float_model(load_standard(path).model)
    copy = quantised(path, normal(8, 4))
    assert kinds(copy.standard) == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
    ]
    assert copy.outputs[0].correlation > 0.99


def test_layers_on_tokens_keep_their_axes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    path = save(
        tmp_path,
        nodes,
        inputs=[value("x", 1, 5, 4)],
        outputs=[value("y", 1, 5, 4)],
        constants={"w": normal(4, 4), "b": normal(4)},
    )
    copy = quantised(path, normal(8, 5, 4))
    assert kinds(copy.standard)[-2:] == ["MatMul", "Add"]
