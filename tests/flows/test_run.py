import errno
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trencadis_boards import Tool
from trencadis_flows import run as run_module
from trencadis_flows.plan import BuildPlan, Program, Step
from trencadis_flows.run import (
    BuildError,
    MissingToolError,
    find_program,
    run_steps,
    write_files,
)

RESUME = "make bitstream BOARD=x"


class Tools:
    """Programs in a folder of their own; each notes that it ran."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ran = folder / "ran"

    def write(self, name: str, body: str, version: str = "Tool v1.2.3") -> None:
        path = self._folder / name
        path.write_text(
            f"#!/bin/sh\nif [ $1 = --version ]; then echo '{version}'; exit 0; fi\n"
            f"echo {name} >> {self.ran}\n{body}\n"
        )
        path.chmod(0o755)

    def runs(self) -> list[str]:
        return self.ran.read_text().split() if self.ran.exists() else []


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    made = Tools(folder)
    made.write("first", "cat in > middle")
    made.write("second", "cat middle middle > out")
    return made


def plan(text: str = "text", versions: Tool | None = None) -> BuildPlan:
    def make(name: str, source: str, target: str) -> Step:
        program = Program(name=name, product="The Tool", versions=versions)
        return Step(
            name=name,
            title=f"makes {target}",
            program=program,
            arguments=("go",),
            inputs=(source,),
            outputs=(target,),
        )

    return BuildPlan(
        files={"in": text},
        steps=(make("first", "in", "middle"), make("second", "middle", "out")),
        results=("out",),
    )


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    def go(made: BuildPlan) -> Path:
        out = tmp_path / "out"
        write_files(made, out)
        run_steps(made, out, RESUME)
        return out

    return go


def test_steps_run_once(tools: Tools, build: Callable[..., Path]) -> None:
    out = build(plan())
    assert (out / "out").read_text() == "texttext"
    build(plan())
    assert tools.runs() == ["first", "second"]


def test_changed_input_runs_what_depends_on_it(tools: Tools, build: Callable[..., Path]) -> None:
    build(plan())
    out = build(plan("other"))
    assert (out / "out").read_text() == "otherother"
    assert tools.runs() == ["first", "second"] * 2


def test_other_version_of_a_tool_changes_nothing_that_is_finished(
    tools: Tools, build: Callable[..., Path]
) -> None:
    """A finished step needs no tool at all: a build may go on where the tools are not."""
    build(plan())
    (tools.ran.parent / "first").unlink()
    (tools.ran.parent / "second").unlink()
    build(plan())
    assert tools.runs() == ["first", "second"]


@pytest.mark.parametrize("content", [None, "", "damaged"])
def test_damaged_output_is_made_again(
    tools: Tools, build: Callable[..., Path], content: str | None
) -> None:
    out = build(plan())
    if content is None:
        (out / "out").unlink()
    else:
        (out / "out").write_text(content)
    build(plan())
    assert (out / "out").read_text() == "texttext"
    assert tools.runs() == ["first", "second", "second"]


def test_damaged_stamp_is_no_stamp(tools: Tools, build: Callable[..., Path]) -> None:
    out = build(plan())
    (out / ".steps" / "second.json").write_text("{")
    build(plan())
    assert tools.runs() == ["first", "second", "second"]


def test_crash_leaves_nothing_that_counts_as_finished(
    tools: Tools, build: Callable[..., Path]
) -> None:
    tools.write("second", "echo half > out; echo 'ERROR: no licence'; exit 7")
    with pytest.raises(BuildError) as caught:
        build(plan())
    message = str(caught.value)
    assert "step second failed: second ended with exit status 7: ERROR: no licence" in message
    assert "logs/second.log" in message
    assert message.endswith(RESUME)
    assert "\n" not in message
    tools.write("second", "cat middle middle > out")
    out = build(plan())
    assert (out / "out").read_text() == "texttext"
    assert tools.runs() == ["first", "second", "second"]


def test_of_a_build_that_fails_there_is_no_older_result(
    tools: Tools, build: Callable[..., Path], tmp_path: Path
) -> None:
    out = build(plan())
    tools.write("first", "exit 1")
    with pytest.raises(BuildError, match="step first failed"):
        build(plan("other"))
    assert not (out / "out").exists()
    tools.write("first", "cat in > middle")
    assert (build(plan("other")) / "out").read_text() == "otherother"


def test_module_of_ours_is_run_by_this_python(tmp_path: Path) -> None:
    program = Program(name="python", product="Python", module="trencadis_flows.lattice.fill")
    step = Step(name="s", title="t", program=program, arguments=("in",), inputs=(), outputs=("x",))
    with pytest.raises(BuildError, match=r"step s failed: python ended with exit status 1: .*"):
        run_steps(BuildPlan(files={}, steps=(step,)), tmp_path, RESUME)
    log = (tmp_path / "logs" / "s.log").read_text()
    assert "not enough values" in log


def test_killed_tool(tools: Tools, build: Callable[..., Path]) -> None:
    tools.write("second", "echo half > out; kill -9 $$")
    with pytest.raises(BuildError, match="second ended with signal 9"):
        build(plan())


@pytest.mark.parametrize("body", ["true", ": > out"])
def test_tool_that_dies_silently(tools: Tools, build: Callable[..., Path], body: str) -> None:
    tools.write("second", body)
    with pytest.raises(BuildError, match="second ended well but left no out"):
        build(plan())


def test_old_output_is_not_taken_for_new(tools: Tools, build: Callable[..., Path]) -> None:
    build(plan())
    tools.write("second", "true")
    with pytest.raises(BuildError, match="left no out"):
        build(plan("other"))


def test_missing_tool(tools: Tools, build: Callable[..., Path]) -> None:
    (tools.ran.parent / "second").unlink()
    expected = (
        "second is not installed or not on the PATH; install The Tool 2022.1 to 2024.2, then go on "
        f"with: {RESUME}"
    )
    tools.write("first", "cat in > middle", "first v2022.2 (64-bit)")
    with pytest.raises(MissingToolError, match=f"^{re.escape(expected)}$"):
        build(plan(versions=Tool(oldest="2022.1", newest="2024.2")))
    assert tools.runs() == []


def test_all_tools_that_lack_are_named(tools: Tools, build: Callable[..., Path]) -> None:
    for name in ("first", "second"):
        (tools.ran.parent / name).unlink()
    with pytest.raises(MissingToolError, match=r"^first, second are not installed or not on the"):
        build(plan())


def test_a_tool_of_a_package_is_not_asked(
    tools: Tools, build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might compile WebAssembly for minutes before it answers."""
    folder = tools.ran.parent
    tools.write("first", "cat in > middle", "no number")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    program = Program(
        name="first",
        product="The Tool",
        versions=Tool(oldest="1.0", newest="999.0"),
        distribution="numpy",
    )
    assert find_program(program, RESUME) == np.__version__
    with pytest.raises(MissingToolError, match="first is version unknown"):
        find_program(replace(program, distribution="no-such-package"), RESUME)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("vivado v2022.1 (64-bit)", True),
        ("****** v++ v2024.2.1 (64-bit)", True),
        ("Vivado v2021.2", False),
        ("Vivado v2025.1", False),
        ("no number", False),
    ],
)
def test_version_of_a_tool(
    tools: Tools, build: Callable[..., Path], version: str, good: bool
) -> None:
    tools.write("first", "cat in > middle", version)
    tools.write("second", "cat middle > out", version)
    made = plan(versions=Tool(oldest="2022.1", newest="2024.2"))
    if good:
        build(made)
        return
    with pytest.raises(MissingToolError, match=r"first is version .*; install The Tool 2022.1 to"):
        build(made)
    assert tools.runs() == []


def test_full_disk(
    tools: Tools, build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    build(plan())
    monkeypatch.setattr(run_module, "write_atomically", full)
    with pytest.raises(BuildError, match="in: cannot be written: the disk is full; make room"):
        build(plan("other"))


def test_program_beside_python_is_found(
    tools: Tools, build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of an environment that has not been activated."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(MissingToolError):
        build(plan())
    monkeypatch.setattr(sys, "executable", str(tools.ran.parent / "python"))
    build(plan())
    assert tools.runs() == ["first", "second"]


def test_files_that_are_right_are_not_touched(tmp_path: Path) -> None:
    write_files(plan(), tmp_path)
    before = (tmp_path / "in").stat().st_mtime_ns
    write_files(plan(), tmp_path)
    assert (tmp_path / "in").stat().st_mtime_ns == before
    write_files(plan("other"), tmp_path)
    assert (tmp_path / "in").read_text() == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
