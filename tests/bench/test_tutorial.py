"""The tutorial's page: its commands exist, and the script that runs them compares figures."""

import importlib
import importlib.util
import json
import shlex
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from click.testing import CliRunner

from trencadis_format.errors import UserError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/tutorial"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorial_check", FOLDER / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def outputs(**changes: Any) -> dict[str, Any]:
    """Output of commands from which every figure can be made."""
    compiled = {
        "weights": 1000,
        "nonzero_weights": 100,
        "cycles_dense": 900,
        "cycles_sparse_weights": 500,
        "cycles": 200.0,
        "inferences_per_s": 1e6,
        "layers": [{"packing_efficiency": 0.5}] * 2,
        "advice": [
            {"change": "k-WTA after it", "gain": 2.0},
            {"change": "complementary masks, 8", "gain": 1.5},
        ],
    }
    accuracy = {"accuracy": {"image": {"top1": 0.98}, "float": {"top1": 0.99}}}
    return {
        "pruned": compiled | changes,
        "followed": compiled | {"cycles": 50},
        "pruned-accuracy": accuracy,
        "followed-accuracy": accuracy,
        "layers": {"layers": [{"nonzero": 0.5}, {"nonzero": 0.25}]},
    }


def command_of(entry: metadata.EntryPoint) -> click.Command:
    """The command of a program, past the module that tells which extra is missing."""
    command = entry.load()
    if not isinstance(command, click.Command):
        package = entry.module.rpartition(".")[0]
        command = importlib.import_module(f"{package}.cli").main
    assert isinstance(command, click.Command)
    return command


def test_commands_are_those_of_the_programs(check: ModuleType) -> None:
    commands = check.commands_of((ROOT / "docs/tutorial.md").read_text())
    assert len(commands) == 8
    programs = {entry.name: entry for entry in metadata.entry_points(group="console_scripts")}
    for command in commands:
        words = shlex.split(command.replace("\\\n", " "), comments=False)
        program, *rest = words[: words.index(">")] if ">" in words else words
        if program == "python":
            assert (ROOT / rest[0]).is_file()
            continue
        known = {
            option
            for parameter in command_of(programs[program]).params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
        }
        assert {word for word in rest if word.startswith("-")} <= known, command


def test_every_figure_of_the_page_is_made_and_every_one_made_is_on_it(check: ModuleType) -> None:
    page = (ROOT / "docs/tutorial.md").read_text()
    assert {name for name, _ in check.MARK.findall(page)} == set(check.FIGURES)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("<!--f:followed_cycles-->50<!--/-->", 0),
        ("<!--f:followed_cycles-->51<!--/-->", 1),
        ("<!--f:followed_cycles-->about 50<!--/-->", 1),
        ("<!--f:pruned_cycles-->219<!--/-->", 0),
        ("<!--f:pruned_cycles-->221<!--/-->", 1),
        ("<!--f:pruned_weights-->1,000<!--/-->", 0),
        ("<!--f:faster-->4.0<!--/--> <!--f:faster-->5.0<!--/-->", 1),
        ("<!--f:pruned_top1-->97.0<!--/-->", 0),
        ("<!--f:pruned_top1-->95.0<!--/-->", 1),
    ],
)
def test_figures_are_compared(check: ModuleType, text: str, wrong: int) -> None:
    changed, _, found = check.check_page(text, outputs())
    assert len(found) == wrong, found
    assert check.check_page(changed, outputs())[2] == []


def test_a_figure_of_no_name(check: ModuleType) -> None:
    with pytest.raises(UserError, match="no figure is called 'other'"):
        check.check_page("<!--f:other-->1<!--/-->", outputs())


def test_commands_of_several_lines(check: ModuleType) -> None:
    page = "$ no\n```console\n$ a \\\n    b\nprinted\n$ c\n```\n```\n$ no\n```\n"
    assert check.commands_of(page) == ["a \\\n    b", "c"]


@pytest.mark.slow
def test_all_of_it_runs(check: ModuleType, tmp_path: Path) -> None:
    more = "--epochs 1 --limit 120"
    arguments = ["--only-run", "--folder", str(tmp_path), "--more", more]
    result = CliRunner().invoke(check.main, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["followed_cycles"] == 1443
    assert set(figures) == set(check.FIGURES)
