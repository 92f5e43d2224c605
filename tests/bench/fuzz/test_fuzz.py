"""A short run of the fuzzer, and whether it can find anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from trencadis_bench.fuzz.campaign import run_campaign
from trencadis_bench.fuzz.cli import main
from trencadis_bench.fuzz.networks import random_network
from trencadis_bench.fuzz.parsers import PARSERS, try_parser
from trencadis_bench.fuzz.trial import Class, Trial, try_network
from trencadis_boards import load_board
from trencadis_host.held import held_tensors

BOARD = load_board("sim")


def test_networks_are_equal_or_refused(tmp_path: Path) -> None:
    found = {seed: try_network(seed, BOARD, tmp_path) for seed in range(0, 40, 2)}
    bad = {seed: trial for seed, trial in found.items() if not trial.kind.good}
    assert not bad
    assert sum(trial.kind is Class.EQUAL for trial in found.values()) >= 10
    assert sum(trial.numbers for trial in found.values()) > 500


@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (1341, Class.EQUAL),  # the host's copy of an input next to a tie is a step off the device's
        (400473, Class.REFUSED),  # a batch normalisation makes what is no number
    ],
)
def test_seeds_that_were_found(tmp_path: Path, seed: int, kind: Class) -> None:
    found = try_network(seed, BOARD, tmp_path)
    assert found.kind is kind, found.detail


@pytest.mark.parametrize("kind", PARSERS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    found = {seed: try_parser(kind, seed, tmp_path) for seed in range(12)}
    assert not {seed: trial for seed, trial in found.items() if not trial.kind.good}


def test_a_seed_makes_the_same_network() -> None:
    first, second = (random_network(np.random.default_rng(5)) for _ in range(2))
    assert first.model.SerializeToString() == second.model.SerializeToString()
    assert all((first.inputs[name] == second.inputs[name]).all() for name in first.inputs)


def _wrong(function: Callable[..., Any]) -> Callable[..., Any]:
    def altered(*arguments: Any) -> Any:
        held = function(*arguments)
        name = list(held)[-1]
        return held | {name: held[name] + 1}

    return altered


def test_a_wrong_number_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis_bench.fuzz.trial.held_tensors", _wrong(held_tensors))
    kinds = {try_network(seed, BOARD, tmp_path).kind for seed in range(0, 12, 2)}
    assert Class.WRONG in kinds
    assert Class.EQUAL not in kinds


def test_a_traceback_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis_bench.fuzz.trial.compile_model", lambda *_, **__: 1 / 0)
    found = try_network(0, BOARD, tmp_path)
    assert found.kind is Class.CRASH
    assert "ZeroDivisionError" in found.detail


def test_a_child_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis_bench.fuzz.campaign.MAX_SECONDS", 0.01)
    found: list[tuple[str, int, Trial]] = []
    tally = run_campaign(
        ["array bytes"], 0.05, 7, lambda *finding: found.append(finding), seeds_per_child=5
    )
    kind, seed, first = found[0]
    assert (kind, seed, first.kind) == ("array bytes", 7, Class.HANG)
    assert tally.counts["array bytes", Class.HANG] == len(found)


def test_the_command(tmp_path: Path) -> None:
    output = tmp_path / "fuzz.json"
    arguments = ["--minutes", "0.1", "--seed", "3", "--kind", "array bytes", "-o", str(output)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "first seed 3" in done.output
    results = json.loads(output.read_text())
    assert results["findings"] == []
    assert sum(results["counts"]["array bytes"].values()) > 10
