import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from trencadis_boards import BoardError
from trencadis_compiler.errors import CompileError
from trencadis_format.command_line import load_command, one_line, reported
from trencadis_format.errors import FailureError, UserError
from trencadis_host import DeviceError, InputError, MissingToolError


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "trencadis"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("typo"), 2),
        (FailureError("fire"), 1),
        (BoardError("no such board"), 2),
        (CompileError("no such operator"), 2),
        (InputError("no such input"), 2),
        (MissingToolError("no such tool"), 2),
        (DeviceError("no such luck"), 1),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    with pytest.raises(SystemExit) as end, reported("program"):
        raise error
    assert end.value.code == status
    assert capsys.readouterr().err == f"program: {error}\n"
    assert not cache.exists()


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "x.toml"), 2, "x.toml: No such file"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (OSError("odd"), 1, "odd"),
        (MemoryError(), 1, "not enough memory; use fewer inputs, or a smaller model"),
        (
            MemoryError("Unable to allocate 119. GiB"),
            1,
            "not enough memory (Unable to allocate 119. GiB); use fewer inputs, or a smaller model",
        ),
        (RecursionError("maximum"), 2, "the input is nested too deeply; simplify it"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (UserError("node 'a\nb\x1b[2J\u202e'"), 2, r"node 'a b\x1b[2J\u202e'"),
        (UserError("größe"), 2, "größe"),
    ],
)
def test_what_the_system_says(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, reported("program"):
        raise error
    assert end.value.code == status
    assert capsys.readouterr().err == f"program: {line}\n"


def test_a_bug_is_called_one_and_its_traceback_kept(
    capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    for _ in range(2):
        with pytest.raises(SystemExit) as end, reported("program"):
            raise KeyError("a\nbug")
        assert end.value.code == 1
    (kept,) = (cache / "bugs").iterdir()
    what = "this is a bug in Trencadis (KeyError: 'a\\nbug')"
    line = f"program: {what}; please report it with {kept}\n"
    assert capsys.readouterr().err == 2 * line
    assert kept.read_text().startswith("Traceback (most recent call last)")
    assert "KeyError" in kept.read_text()


def test_a_bug_when_nothing_can_be_kept(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    cache.write_text("in the way")
    with pytest.raises(SystemExit) as end, reported("program"):
        raise ZeroDivisionError
    assert end.value.code == 1
    assert (
        capsys.readouterr().err
        == "program: this is a bug in Trencadis (ZeroDivisionError); please report it\n"
    )


def test_a_command_is_guarded_as_a_whole() -> None:
    @click.command()
    @click.argument("how")
    @reported("program")
    def main(how: str) -> None:
        """Do it."""
        if how == "usage":
            raise click.UsageError("not like that")
        if how == "wrong":
            raise UserError("typo")
        click.echo(how)

    runner = CliRunner()
    for arguments, status, output in (
        (["well"], 0, "well\n"),
        (["wrong"], 2, "program: typo\n"),
        (["usage"], 2, "not like that"),
        ([], 2, "Missing argument"),
        (["--help"], 0, "Do it."),
    ):
        for _ in range(2):
            result = runner.invoke(main, arguments)
            assert result.exit_code == status
            assert output in result.output


PROGRAM = """
import sys
from trencadis_format.command_line import reported
with reported("program"):
    for _ in range(int(sys.argv[1])):
        print("line " + chr(0xdc80))
"""


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away(lines: int) -> None:
    """As `head` does; whether it is noticed at a write or at the end."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(lines)],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_output_that_is_full() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "1"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"program: No space left on device\n")


def test_names_that_are_no_text_are_printed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "1"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"line \\udc80\n", b"")


def test_long_lines_are_cut() -> None:
    assert one_line("x" * 1_000_000) == "x" * 2000 + " ..."


def test_a_missing_package_of_a_command_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needy_command.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as end:
        load_command("program", "needy_command", "compiler")
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "program: needs the package no_such_package, which is not installed; install it with: "
        "pip install 'trencadis[compiler]'\n"
    )


def test_a_missing_module_of_our_own_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        load_command("program", "trencadis_format.no_such_module", "compiler")
    assert end.value.code == 1
    assert "this is a bug in Trencadis" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("module", ["trencadis_compiler.command", "trencadis_bench.verify.command"])
def test_commands_load(module: str) -> None:
    text = f"import sys; sys.argv = ['x', '--help']; from {module} import main; main()"
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert result.returncode == 0
    assert "Usage: x" in result.stdout
