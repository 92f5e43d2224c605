import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from trencadis_bench.models.nodes import main

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")


def test_some_operator_tests(tmp_path: Path) -> None:
    output = tmp_path / "nodes.json"
    result = CliRunner().invoke(main, ["--output", str(output), "--only", "test_matmul"])
    assert result.exit_code == 0, result.output
    outcomes = {trial["test"]: trial["outcome"] for trial in json.loads(output.read_text())}
    assert outcomes["test_matmul_2d"] == "host"
    assert "wrong" not in outcomes.values()
