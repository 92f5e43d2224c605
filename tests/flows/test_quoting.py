import subprocess
from pathlib import Path

import pytest

from trencadis_flows.plan import PlanError
from trencadis_flows.quoting import cfg_value, make_variable


@pytest.mark.parametrize("value", ["DDR[0]", "SLR0", "HP0_DDR-LOW"])
def test_plain_values_are_kept(value: str) -> None:
    assert cfg_value(value, separators=":", subject="x") == value


@pytest.mark.parametrize("value", ["", "a b", "a\nb", "a:b", "a=b", "a#b", "a\x00"])
def test_values_that_begin_something_else_are_refused(value: str) -> None:
    with pytest.raises(PlanError, match=r"^board b: name must be one word without : = #, not "):
        cfg_value(value, separators=":", subject="board b: name")


@pytest.mark.parametrize("value", ["a b.tcd", "$HOME", "$(shell id)", "it's", "a;b", "`x`"])
def test_make_reads_a_variable_as_it_was(tmp_path: Path, value: str) -> None:
    (tmp_path / "Makefile").write_text("all:\n\t@printenv MODEL\n")
    command = f"make --no-print-directory {make_variable('MODEL', value)}"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{value}\n"
