"""QONNX's quantisers as standard operators, against the package `qonnx` itself.

The package needs older packages than the project; it is found in the environment of the tests or
in `build/qonnx/`, an environment of its own (`make qonnx`).
"""

import importlib.util
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_judge import UnsupportedOperatorError, is_qonnx, judge, lower_qonnx

DOMAIN = "qonnx.custom_op.general"
SEPARATE = Path(__file__).parents[2] / "build/qonnx/bin/python"

INPUTS = np.concatenate(
    [np.arange(-24, 25) / 8, np.random.default_rng(0).normal(0, 4, 47), [-1e6, 1e6]]
).astype(np.float32)

EXECUTE = """
import sys, json
import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
folder = sys.argv[1]
inputs = np.load(folder + "/inputs.npy")
for name in json.loads(sys.argv[2]):
    outputs = execute_onnx(ModelWrapper(f"{folder}/{name}.onnx"), {"x": inputs})
    np.save(f"{folder}/{name}.npy", outputs["y"])
"""


def model(op_type: str, constants: list[Any], version: int = 1, **attributes: Any) -> Any:
    names = [f"c{i}" for i in range(len(constants))]
    node = helper.make_node(op_type, ["x", *names], ["y"], "quantiser", domain=DOMAIN, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(INPUTS)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(INPUTS)])],
        [
            numpy_helper.from_array(np.asarray(constant, np.float32), name)
            for name, constant in zip(names, constants, strict=True)
        ],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


ROUNDINGS = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


def models() -> dict[str, Any]:
    made = {}
    settings = product(ROUNDINGS, (0, 1), (0, 1), (0.0, 3.0, 0.5, -1.0))
    for number, (rounding, signed, narrow, zero) in enumerate(settings):
        for bits, scale in ((8, 0.25), (4, 0.125), (2, 0.3)):
            made[f"quant{number}_{bits}"] = model(
                "Quant",
                [scale, zero, bits],
                signed=signed,
                narrow=narrow,
                rounding_mode=rounding,
            )
    for signed, narrow in product((0, 1), (0, 1)):
        made[f"bit{signed}{narrow}"] = model(
            "Quant", [0.5, 0.0, 1], signed=signed, narrow=narrow, rounding_mode="ROUND"
        )
    made["bipolar"] = model("BipolarQuant", [0.75])
    for rounding in ("FLOOR", "ROUND", "CEIL"):
        made[f"trunc_{rounding}"] = model("Trunc", [0.125, 0.0, 8, 4], rounding_mode=rounding)
        for signed, narrow, zero in ((0, 0, 8.0), (1, 1, 0.0)):
            made[f"trunc2_{rounding}_{signed}"] = model(
                "Trunc",
                [0.125, zero, 8, 2.0, 4],
                version=2,
                rounding_mode=rounding,
                signed=signed,
                narrow=narrow,
            )
    return made


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Models, and what the package makes of them."""
    if importlib.util.find_spec("qonnx"):
        python = sys.executable
    elif SEPARATE.exists():
        python = str(SEPARATE)
    else:
        pytest.skip("the package qonnx is not installed")
    folder = tmp_path_factory.mktemp("qonnx")
    np.save(folder / "inputs.npy", INPUTS)
    made = models()
    for name, one in made.items():
        onnx.save(one, folder / f"{name}.onnx")
    subprocess.run(
        [python, "-c", EXECUTE, str(folder), json.dumps(list(made))], check=True, timeout=120
    )
    return {name: (one, np.load(folder / f"{name}.npy")) for name, one in made.items()}


@pytest.mark.slow
def test_lowered_models_compute_what_the_package_computes(
    executed: dict[str, tuple[Any, Any]],
) -> None:
    for name, (one, expected) in executed.items():
        session = open_session(lower_qonnx(one).SerializeToString(), Mode.PLAIN, threads=1)
        (outputs,) = session.run(None, {"x": INPUTS})
        assert (outputs == expected).all(), name


def test_lowering_leaves_no_operator_of_its_domain() -> None:
    one = model("Quant", [0.25, 0.0, 4], signed=1, narrow=0, rounding_mode="ROUND")
    assert is_qonnx(one)
    lowered = lower_qonnx(one)
    assert not is_qonnx(lowered)
    onnx.checker.check_model(lowered, full_check=True)
    assert [node.op_type for node in lowered.graph.node] == [
        "Div", "Add", "Clip", "Round", "Sub", "Mul",
    ]  # fmt: skip
    assert [entry.domain for entry in lowered.opset_import] == [""]
    assert lowered.graph.node[-1].output == ["y"]
    assert is_qonnx(one)  # what was given is as it was


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (model("Quant", [1, 0, 4], signed=1, narrow=0, rounding_mode="ODD"), "rounding_mode ODD"),
        (model("Quant", [1, 0, 4], signed=1), "'narrow' is missing"),
        (model("Quant", [1, 0, [4, 5]], signed=1, narrow=0), "must be one constant number"),
    ],
)
def test_what_is_not_lowered_is_refused(one: Any, message: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=message):
        lower_qonnx(one)


def test_names_that_are_taken_stay() -> None:
    one = model("Quant", [0.25, 0.0, 4], signed=1, narrow=0, rounding_mode="ROUND")
    one.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "y_scaled"))
    lowered = lower_qonnx(one)
    assert lowered.graph.node[0].output == ["y_scaled_1"]


def test_beside_an_old_opset_the_evaluator_judges_alone() -> None:
    """Round is of opset 11; the lowered model is none that onnxruntime loads."""
    old = model("Quant", [0.25, 0.0, 4], signed=1, narrow=0)
    right = np.clip(np.round(INPUTS / 0.25), -8, 7) * np.float32(0.25)
    for version, reason in ((11, ""), (9, "onnxruntime cannot run the nodes")):
        old.opset_import[0].version = version
        found = judge(old, {"x": INPUTS, "y": right})
        assert found.ok
        assert found.units[-1].elements == len(INPUTS)
        assert found.units[-1].reason.startswith(reason)
    old.opset_import[0].version = 6
    with pytest.raises(UnsupportedOperatorError, match=r"beside opset 6; convert .* to opset 7"):
        lower_qonnx(old)
