"""Models without a defined result are refused before anything is rewritten."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.onnx_files import kinds, save, value
from onnx import TensorProto, helper

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.standard import load_standard

ZERO = np.int8(0)
QONNX = "qonnx.custom_op.general"


def model(folder: Path, nodes: list[Any], **fields: Any) -> Path:
    form: dict[str, Any] = {
        "inputs": [value("x", "N", 3, 4, 4)],
        "outputs": [value("y", "N", "A", "B", "C")],
    }
    return save(folder, nodes, **(form | fields))


def quantisers(scale: Any, zero: Any = ZERO, **attributes: Any) -> dict[str, Any]:
    return {
        "nodes": [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes),
        ],
        "constants": {"s": scale, "z": zero},
    }


def quant(bits: tuple[str, str] = ("", ""), zero: float = 0, **attributes: Any) -> dict[str, Any]:
    """A Quant; of a bit width that an operator makes of a constant, if one is named."""
    nodes = [helper.make_node(bits[0], [bits[1]], ["bits"])] if bits[0] else []
    inputs = ["x", "s", "z", "bits" if bits[0] else "b"]
    nodes.append(helper.make_node("Quant", inputs, ["y"], domain=QONNX, **attributes))
    numbers = {"s": np.float32(0.5), "z": np.float32(zero), "b": np.float32(8)}
    return {"nodes": nodes, "constants": numbers, "domains": (QONNX,)}


def sliced(*before: Any, **constants: Any) -> dict[str, Any]:
    ends = {"from": np.array([5]), "to": np.array([6]), "axes": np.array([1])}
    node = helper.make_node("Slice", ["v", "from", "to", "axes"], ["y"])
    return {"nodes": [*before, node], "constants": ends | constants}


def normalised(variance: float, **attributes: Any) -> dict[str, Any]:
    numbers = {name: np.ones(3, np.float32) for name in "gom"}
    names = ["x", "g", "o", "m", "v"]
    node = helper.make_node("BatchNormalization", names, ["y"], **attributes)
    return {"nodes": [node], "constants": numbers | {"v": np.array([1, variance, 1], np.float32)}}


VECTOR, COLUMN = np.ones(3, np.float32), np.ones((3, 1), np.float32)
WEIGHTS = {"w": np.ones((2, 3, 3, 3), np.float32)}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "variance": (
        normalised(-1),
        "BatchNormalization .*: its variance 'v' has -1, and a variance is not negative; export",
    ),
    "clip-nan": (
        {
            "nodes": [helper.make_node("Clip", ["x", "", "most"], ["y"])],
            "constants": {"most": np.float32(np.nan)},
        },
        "Clip .*: its bound 'most' is nan; export the model again",
    ),
    "quant-of-integers": (
        {
            "nodes": [
                helper.make_node(
                    "Quant", ["w", "s", "z", "b"], ["v"], domain=QONNX, narrow=0, signed=1
                ),
                helper.make_node("Add", ["x", "v"], ["y"]),
            ],
            "constants": {"w": np.ones(3, np.int8)} | {name: np.float32(8) for name in "szb"},
            "domains": (QONNX,),
        },
        r"Quant .*does not take tensor.int8. as input 0 .'w'., but real numbers; export",
    ),
    "variance-nan": (normalised(np.nan), "its variance 'v' has nan, and a variance is not neg"),
    "scale-nan": (quantisers(np.float32(np.nan)), "QuantizeLinear 'q': its scale 's' is nan; "),
    "scale-inf": (quantisers(-np.float32(np.inf)), "its scale 's' is -inf; calibrate and export"),
    "scale-shape": (quantisers(COLUMN, axis=1), "its scale 's' has shape .3, 1.; it needs one"),
    "zero-shape": (
        quantisers(VECTOR, np.zeros((3, 1), np.int8), axis=1),
        "its zero point 'z' has shape .3, 1.; it needs one number, a vector along its axis",
    ),
    "scale-type": (
        quantisers(np.float16(1)) | {"opset": 17},
        r"does not take tensor\(float16\) as input 1 \('s'\), but tensor\(float\); export",
    ),
    "two-types": (
        {
            "nodes": [helper.make_node("Add", ["x", "c"], ["y"])],
            "constants": {"c": np.float64(1)},
        },
        r"Add 'y' does not take tensor\(double\) as input 1 \('c'\), but tensor\(float\); ",
    ),
    "quant-narrow": (quant(signed=1), "Quant 'y' has no attribute 'narrow', which QONNX requires"),
    "quant-signed": (quant(narrow=1), "Quant 'y' has no attribute 'signed', which QONNX requires"),
    "quant-zero": (
        quant(narrow=1, signed=1, zero=np.inf),
        "Quant 'y': its zero point 'z' is inf; calibrate and export the model again",
    ),
    "quant-bits": (
        quant(("Abs", "b"), narrow=1, signed=1),
        "Quant 'y': its bit width 'bits' is no constant; export the model with constant bit",
    ),
    "quant-opset": (
        quant(narrow=1, signed=1) | {"opset": 6},
        "stand beside opset 6; convert the model to opset 7 or later",
    ),
    "attribute": (
        {"nodes": [helper.make_node("Relu", ["x"], ["y"], alpha=0.5)]},
        "Relu 'y' has attribute 'alpha', which Relu does not have in opset ",
    ),
    "attribute-later": (
        quantisers(np.float32(1), precision=1),
        "QuantizeLinear 'q' has attribute 'precision', which QuantizeLinear does not have in opset",
    ),
    "input": (
        {"nodes": [helper.make_node("Where", ["", "x", "x"], ["y"])]},
        r"Where 'y' has no input 0 \(condition\), which Where requires; export the model again",
    ),
    "pool": (
        {"nodes": [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 5])]},
        "MaxPool 'y': its window of 5 is larger than the 4 numbers on axis 3, padding included",
    ),
    "convolution": (
        {
            "nodes": [helper.make_node("Conv", ["x", "w"], ["y"], dilations=[2, 1])],
            "constants": WEIGHTS,
        },
        "Conv 'y': its window of 5 is larger than the 4 numbers on axis 2, padding included",
    ),
    "batch": (
        {
            "nodes": [helper.make_node("Relu", ["x"], ["y"])],
            "inputs": [value("x", 0, 3, 4, 4)],
        },
        "input 'x' has size 0 on axis 0; export the model with sizes of 1 or more",
    ),
    "memory": (
        {
            "nodes": [helper.make_node("Tile", ["x", "n"], ["y"])],
            "constants": {"n": np.array([1, 1 << 20, 1 << 10, 1])},
        },
        r"tensor 'y' has shape \[1, 3145728, 4096, 4\], 192 GiB; at most 8 are computed: give",
    ),
    "slice": (
        sliced(helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=1), k=np.array([-2])),
        "tensor 'v' would have a size of -2; export the model again",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    fields, message = REFUSED[name]
    with pytest.raises(CompileError, match=message) as error:
        load_standard(model(tmp_path, **fields))
    assert str(error.value).startswith(f"{tmp_path / 'net.onnx'}: ")
    assert "\n" not in str(error.value)


def test_taken(tmp_path: Path) -> None:
    """The nearest that are allowed."""
    pair = ["QuantizeLinear", "DequantizeLinear"]
    normalisation = model(tmp_path, **normalised(-0.25, epsilon=0.25))
    assert kinds(load_standard(normalisation)) == ["BatchNormalization"]
    for scale, zero in ((VECTOR, np.zeros(3, np.int8)), (np.ones((1, 1), np.float32), np.int8(0))):
        assert kinds(load_standard(model(tmp_path, **quantisers(scale, zero, axis=1)))) == pair
    half = quantisers(np.float16(1)) | {"opset": 19, "outputs": [value("y", dtype=10)]}
    half["inputs"] = [value("x", "N", 3, dtype=TensorProto.FLOAT16)]
    assert kinds(load_standard(model(tmp_path, **half))) == pair
    assert kinds(load_standard(model(tmp_path, **quant(narrow=1, signed=1)))) == ["Clip", *pair]
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 5], pads=[0, 0, 0, 1])
    assert kinds(load_standard(model(tmp_path, [pool]))) == ["MaxPool"]
    largest = helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=1)
    assert "Slice" in kinds(load_standard(model(tmp_path, **sliced(largest, k=np.array([2])))))
    shape = {"x": (2, 3, 4, 4)}
    zero_batch = model(
        tmp_path, [helper.make_node("Relu", ["x"], ["y"])], inputs=[value("x", 0, 3, 4, 4)]
    )
    assert kinds(load_standard(zero_batch, input_shapes=shape)) == ["Relu"]
