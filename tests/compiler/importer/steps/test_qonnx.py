"""Constants and maps of QONNX files; expected values are those of its definition, in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.onnx_files import kinds, normal, run, save, value
from onnx import helper, numpy_helper

from trencadis_compiler.importer.standard import StandardModel, load_standard

DOMAIN = "qonnx.custom_op.general"


def quant(name: str, output: str, **attributes: Any) -> Any:
    options = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
    return helper.make_node("Quant", [name, "s", "z", "n"], [output], domain=DOMAIN, **options)


def expected(x: Any, s: Any, z: float, bits: float, signed: int, narrow: int) -> Any:
    low, high = (
        (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1)
        if signed
        else (
            0,
            2**bits - 1 - narrow,
        )
    )
    scaled = x.astype(np.float64) / np.asarray(s, np.float64) + z
    return ((np.rint(np.clip(scaled, low, high)) - z) * s).astype(np.float32)


def model(folder: Path, s: Any, z: float, bits: float, **attributes: Any) -> StandardModel:
    path = save(
        folder,
        [quant("x", "y", **attributes)],
        inputs=[value("x", "N", 4)],
        outputs=[value("y", "N", 4)],
        constants={"s": np.float32(s), "z": np.float32(z), "n": np.float32(bits)},
        domains=(DOMAIN,),
        opset=13,
    )
    return load_standard(path)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("bits", [8, 4, 2, 3.5])
@pytest.mark.parametrize("zero", [0.0, 2.0, 3.0, 0.5])
def test_a_map(tmp_path: Path, signed: int, narrow: int, bits: float, zero: float) -> None:
    standard = model(tmp_path, 0.25, zero, bits, signed=signed, narrow=narrow)
    x = (np.arange(-800, 800).reshape(-1, 4) / 16).astype(np.float32)
    [got] = run(standard.model.SerializeToString(), {"x": x})
    assert got.tolist() == expected(x, 0.25, zero, bits, signed, narrow).tolist()
    exact = zero in (0.0, 2.0) and bits != 3.5
    whole = bits == 8 and not narrow
    start = [] if whole else ["Clip"]
    if exact:
        assert kinds(standard) == [*start, "QuantizeLinear", "DequantizeLinear"]
    else:
        assert kinds(standard)[0] == "Div"


@pytest.mark.parametrize("sizes", [(), (1,), (3, 1, 1, 1)])
@pytest.mark.parametrize("bits", [8, 4, 16])
def test_a_constant(tmp_path: Path, sizes: tuple[int, ...], bits: int) -> None:
    scale = np.random.default_rng(2).uniform(0.05, 0.3, sizes).astype(np.float32)
    weights = normal(3, 2, 1, 1)
    path = save(
        tmp_path,
        [quant("w", "q", narrow=1), helper.make_node("Conv", ["x", "q"], ["y"])],
        inputs=[value("x", 1, 2, 4, 4)],
        outputs=[value("y", 1, 3, 4, 4)],
        constants={"w": weights, "s": scale, "z": np.float32(0), "n": np.float32(bits)},
        domains=(DOMAIN,),
        opset=11,
    )
    standard = load_standard(path)
    assert kinds(standard) == ["DequantizeLinear", "Conv"]
    node = standard.model.graph.node[0]
    assert node.output[0] == "q"
    arrays = {t.name: numpy_helper.to_array(t) for t in standard.model.graph.initializer}
    real = arrays[node.input[0]] * arrays[node.input[1]].reshape(
        -1, *[1] * (3 * bool(len(sizes) == 4))
    )
    want = expected(weights, scale, 0, bits, 1, 1)
    assert np.array_equal(real.astype(np.float32).reshape(want.shape), want)


def test_bipolar_constants(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [
            helper.make_node("BipolarQuant", ["w", "s"], ["q"], domain=DOMAIN),
            helper.make_node("MatMul", ["x", "q"], ["y"]),
        ],
        inputs=[value("x", "N", 4)],
        outputs=[value("y", "N", 4)],
        constants={"w": normal(4, 4), "s": np.float32(0.5)},
        domains=(DOMAIN,),
    )
    standard = load_standard(path)
    assert kinds(standard) == ["DequantizeLinear", "MatMul"]
    [got] = run(standard.model.SerializeToString(), {"x": np.eye(4, dtype=np.float32)})
    assert got.tolist() == np.where(normal(4, 4) >= 0, 0.5, -0.5).tolist()


def test_channels_last(tmp_path: Path) -> None:
    constants = {"w": normal(3, 2, 3, 3)}
    path = save(
        tmp_path,
        [
            helper.make_node(
                "Conv",
                ["x", "w"],
                ["y"],
                domain="qonnx.custom_op.channels_last",
                kernel_shape=[3, 3],
            )
        ],
        inputs=[value("x", 1, 6, 6, 2)],
        outputs=[value("y", 1, 4, 4, 3)],
        constants=constants,
        domains=("qonnx.custom_op.channels_last",),
    )
    standard = load_standard(path)
    assert kinds(standard) == ["Transpose", "Conv", "Transpose"]
    x = normal(1, 6, 6, 2)
    [got] = run(standard.model.SerializeToString(), {"x": x})
    plain = save(
        tmp_path,
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        inputs=[value("x", 1, 2, 6, 6)],
        outputs=[value("y", 1, 3, 4, 4)],
        constants=constants,
    )
    [want] = run(plain, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
    assert np.array_equal(got, want.transpose(0, 2, 3, 1))
