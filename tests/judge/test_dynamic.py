"""Dynamic quantisation of numbers that are not exact: judged within its steps, and no further."""

from typing import Any

import numpy as np
import pytest
from fixtures.onnx_files import normal, run, save, value
from onnx import helper

from trencadis_format.onnxruntime_door import Mode, has_vnni
from trencadis_judge import judge


@pytest.fixture
def path(tmp_path: Any) -> Any:
    """Two layers, quantised as they run; what the second one reads is a Tanh."""
    nodes, tensor = [], "x"
    for name in ("a", "b"):
        parts = [f"{name}_{part}" for part in ("integers", "scale", "zero")]
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [tensor], parts),
            helper.make_node(
                "MatMulInteger", [parts[0], f"{name}_w", parts[2], f"{name}_wz"], [f"{name}_sums"]
            ),
            helper.make_node("Cast", [f"{name}_sums"], [f"{name}_real"], to=1),
            helper.make_node("Mul", [parts[1], f"{name}_ws"], [f"{name}_factor"]),
            helper.make_node("Mul", [f"{name}_real", f"{name}_factor"], [f"{name}_scaled"]),
            helper.make_node("Tanh", [f"{name}_scaled"], [name]),
        ]
        tensor = name
    constants: dict[str, Any] = {}
    for name, shape in (("a", (8, 16)), ("b", (16, 4))):
        constants[f"{name}_w"] = (40 * normal(*shape)).clip(-128, 127).astype(np.int8)
        constants[f"{name}_wz"] = np.int8(3)
        constants[f"{name}_ws"] = np.float32(0.007)
    return save(
        tmp_path, nodes, inputs=[value("x", 5, 8)], outputs=[value("b", 5, 4)], constants=constants
    )


def judged(path: Any, outputs: Any) -> Any:
    found = judge(path, {"x": normal(5, 8), "b": outputs}, host={"b"})
    (unit,) = found.units
    assert unit.reason == ""
    return unit


RIGHT = list(Mode) if has_vnni() else [Mode.INTEGER, Mode.BASELINE]
"""Modes whose products of bytes are exact on this processor: the others saturate without VNNI."""


@pytest.mark.parametrize("mode", RIGHT)
def test_every_mode_of_the_runtime_is_right(path: Any, mode: Mode) -> None:
    (outputs,) = run(path, {"x": normal(5, 8)}, mode)
    assert judged(path, outputs).differing == 0


def test_an_error_is_found(path: Any) -> None:
    (outputs,) = run(path, {"x": normal(5, 8)}, Mode.INTEGER)
    outputs[2, 1] += 0.004
    assert judged(path, outputs).differing == 1
