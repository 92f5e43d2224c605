"""Element-wise operators as tables: every one of the 256 values, judged by the file."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.verify.check import check_compiled
from trencadis_format.compiled import OverlaySegment

ROOT = np.sqrt(0.5).astype(np.float32)


def silu(w: Any, x: str) -> str:
    return w.node("Mul", x, w.node("Sigmoid", x))


def quantised_silu(w: Any, x: str) -> str:
    return w.node("Mul", x, w.quantised(w.node("Sigmoid", x), 2**-7, -128))


def written_out_gelu(w: Any, x: str) -> str:
    one, half = w.constant(1, np.float32), w.constant(0.5, np.float32)
    y = w.node("Add", w.node("Erf", w.node("Mul", x, w.constant(ROOT))), one)
    return w.node("Mul", w.node("Mul", x, y), half)


def node(op_type: str, **attributes: Any) -> Callable[[Any, str], str]:
    return lambda w, x: w.node(op_type, x, **attributes)


FUNCTIONS = {
    "Abs": node("Abs"),
    "Celu": node("Celu", alpha=0.7),
    "Elu": node("Elu", alpha=1.3),
    "Erf": node("Erf"),
    "HardSigmoid": node("HardSigmoid"),
    "HardSwish": node("HardSwish"),
    "LeakyRelu": node("LeakyRelu", alpha=-0.6),
    "Neg": node("Neg"),
    "Selu": node("Selu"),
    "Softplus": node("Softplus"),
    "Softsign": node("Softsign"),
    "ThresholdedRelu": node("ThresholdedRelu", alpha=1.5),
    "GELU written out": written_out_gelu,
    "SiLU": silu,
    "SiLU, quantised inside": quantised_silu,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_values_of_a_table_are_those_of_the_file(writer, name) -> None:
    w = writer(shape=(1,), opset=14)
    weights = w.integers(np.full((1, 1), 64))
    y = w.quantised(w.node("MatMul", w.quantised("x"), weights), 2**-4)
    path = w.save(w.quantised(FUNCTIONS[name](w, y), 0.03, 5), 1)
    compiled = compile_model(path, load_board("sim"))
    (segment,) = compiled.compiled.segments
    assert isinstance(segment, OverlaySegment)
    assert compiled.network.layers[0].table is not None
    inputs = (np.arange(-128, 128, dtype=np.float32) / 16)[:, None]
    check = check_compiled(compiled, {"x": inputs})
    assert (check.samples, check.elements, check.reason) == (256, 256, "")


def test_a_function_of_what_no_layer_makes_is_left_to_the_host(writer) -> None:
    w = writer(shape=(4,))
    y = w.quantised(w.node("Erf", w.quantised("x")), 2**-7)
    path = w.save(w.node("MatMul", y, w.integers(w.sparse(4, 3))), 3)
    compiled = compile_model(path, load_board("sim")).compiled
    host, overlay = compiled.segments
    assert not isinstance(host, OverlaySegment)
    assert isinstance(overlay, OverlaySegment)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("function", [node("Neg"), node("LeakyRelu", alpha=-0.5)])
def test_pooling_after_a_function_that_decreases_is_left_to_the_host(
    writer, function, quantised
) -> None:
    w = writer()
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3))), 2**-3)
    y = function(w, y)
    y = w.quantised(y, 2**-3) if quantised else y
    path = w.save(w.node("MaxPool", y, kernel_shape=[2, 2]), 4, 5, 5)
    compiled = compile_model(path, load_board("sim"))
    assert len(compiled.compiled.segments) == 2
    assert check_compiled(compiled).reason == ""


def test_quantisers_without_a_constant_scale_are_no_part_of_a_table(writer) -> None:
    w = writer(shape=(1,), opset=14)
    y = w.quantised(w.node("MatMul", w.quantised("x"), w.integers(np.full((1, 1), 64))), 2**-4)
    scale = w.node("Squeeze", w.node("ReduceMax", w.node("Abs", y), keepdims=0))
    y = w.node("DequantizeLinear", w.node("QuantizeLinear", w.node("Elu", y), scale), scale)
    path = w.save(w.quantised(w.node("Elu", y), 0.03, 5), 1)
    compiled = compile_model(path, load_board("sim"))
    assert any(isinstance(s, OverlaySegment) for s in compiled.compiled.segments)
