"""onnxruntime reports nothing, and computes in the mode that is exact."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trencadis_format.onnxruntime_door import Mode, exact_mode, has_vnni, open_session


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)


@pytest.fixture
def set_by_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")


LOADING = """
import os
from trencadis_format import onnxruntime_door
{before}
onnxruntime_door.load_onnxruntime()
print(os.environ.get("ORT_DISABLE_TELEMETRY"))
"""


@pytest.mark.usefixtures("unset")
def test_reports_are_off_before_onnxruntime_is_imported() -> None:
    assert run(LOADING.format(before="")) == ["1"]
    assert run(LOADING.format(before="onnxruntime_door.load_quantiser()")) == ["1"]


@pytest.mark.usefixtures("set_by_the_user")
def test_what_a_user_has_set_stays() -> None:
    assert run(LOADING.format(before="")) == ["0"]


STANDING_IN = """
import sys, types
sys.modules["onnxruntime"] = types.SimpleNamespace(
    disable_telemetry_events=lambda: print("disabled"))
"""


@pytest.mark.usefixtures("unset")
def test_reports_of_an_onnxruntime_that_is_loaded_are_disabled() -> None:
    assert run(LOADING.format(before=STANDING_IN)) == ["disabled", "None"]


@pytest.mark.usefixtures("set_by_the_user")
def test_a_loaded_onnxruntime_reports_if_a_user_wants_it() -> None:
    assert run(LOADING.format(before=STANDING_IN)) == ["0"]


@pytest.mark.parametrize(
    ("operators", "mode"),
    [
        (["QuantizeLinear", "Conv", "DequantizeLinear"], Mode.PLAIN),
        (["Conv", "Softmax"], Mode.PLAIN),
        (["QuantizeLinear", "QLinearConv"], Mode.INTEGER),
        (["com.microsoft.QGemm"], Mode.INTEGER),
        (["DynamicQuantizeLinear", "MatMulInteger"], Mode.INTEGER),
        (["com.microsoft.QLinearGlobalAveragePool"], Mode.INTEGER),
    ],
)
def test_the_mode_follows_from_the_operators(operators: list[str], mode: Mode) -> None:
    assert exact_mode(operators) is mode


@pytest.mark.parametrize(
    ("lines", "has"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\nflags\t\t: fpu avx512_vnni\n", True),
        ("flags : fpu avx_vnni\n", True),
        ("flags : avx512_vnni\nflags : avx2\n", False),
        ("flags : avx512_vnni2\n", False),
        ("Features : asimd\n", False),
        ("", False),
    ],
)
def test_whether_the_processor_has_vnni(tmp_path: Path, lines: str, has: bool) -> None:
    (tmp_path / "cpuinfo").write_text(lines)
    assert has_vnni(tmp_path / "cpuinfo") is has
    assert not has_vnni(tmp_path / "none")


def test_a_session_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    for source in (model.SerializeToString(), tmp_path / "m.onnx"):
        for mode in Mode:
            session = open_session(source, mode, threads=1)
            (outputs,) = session.run(None, {"x": np.array([-1, 2], np.float32)})
            assert outputs.tolist() == [0, 2]


@pytest.mark.usefixtures("unset")
def test_nothing_is_written_into_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, home = tmp_path / "net.onnx", tmp_path / "home"
    home.mkdir()
    identity = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([identity], "net", values[:1], values[1:])
    opset = [helper.make_opsetid("", 16)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    program = f"""
from pathlib import Path
from trencadis_format.onnxruntime_door import Mode, open_session
open_session(Path({str(path)!r}), Mode.PLAIN)
"""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    run(program)
    assert list(home.iterdir()) == []
