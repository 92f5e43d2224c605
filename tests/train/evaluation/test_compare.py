import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

import torch

from trencadis_train.data.labelled import Splits
from trencadis_train.evaluation.compare import difference, main
from trencadis_train.evaluation.noise import main as noise_main
from trencadis_train.recipe import Recipe
from trencadis_train.training.epoch import Examples, right_answers
from trencadis_train.training.finished import Finished
from trencadis_train.training.trainer import Trainer

MakeRecipe = Callable[..., Recipe]


def test_right_answers_make_the_accuracy(trained: Finished, quadrants: Splits) -> None:
    right = right_answers(trained.model, Examples.on(torch.device("cpu"), quadrants.test))
    assert right.shape == quadrants.test.labels.shape
    assert right.mean() == trained.summary["accuracy"]["float"]["test"]


def test_the_error_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(400) < 0.2
    ours, theirs = (hard & (rng.random((2, 400)) < 0.7) for _ in range(2))
    gaps = []
    for _ in range(2000):
        drawn = rng.integers(0, 400, 400)
        gaps.append((~ours[:, drawn]).mean() - (~theirs[:, drawn]).mean())
    found = difference("test", ~ours, ~theirs)
    assert found.accuracy == (~ours).mean()
    assert found.baseline == (~theirs).mean()
    assert found.error == pytest.approx(np.std(gaps), rel=0.1)
    # As if the examples of both were others, it would be much larger.
    apart = np.sqrt((~ours).mean(axis=0).var() / 400 + (~theirs).mean(axis=0).var() / 400)
    assert found.error < 0.8 * apart


def test_the_command_compares_finished_trainings(
    make_recipe: MakeRecipe, quadrants: Splits, quadrants_file: Path, tmp_path: Path
) -> None:
    one = Trainer(make_recipe(), quadrants, tmp_path / "a").run().summary["accuracy"]["float"]
    short = make_recipe(seed=3, training={"epochs": 1})
    other = Trainer(short, quadrants, tmp_path / "b").run().summary["accuracy"]["float"]
    assert one["test"] != other["test"]
    arguments = [
        *(str(tmp_path / "a"), "--against", str(tmp_path / "b")),
        *("--data", str(quadrants_file)),
    ]
    result = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    validation, test, both = json.loads(result.output)
    for found, part in ((validation, "validation"), (test, "test")):
        assert found["part"] == part
        assert found["accuracy"] == one[part]
        assert found["baseline"] == other[part]
    sizes = len(quadrants.validation), len(quadrants.test)
    mean = np.average([one["validation"], one["test"]], weights=sizes)
    assert both["accuracy"] == pytest.approx(mean)
    result = CliRunner().invoke(main, [*arguments, "--json", "--no-test"], catch_exceptions=False)
    assert json.loads(result.output) == [validation]
    table = CliRunner().invoke(main, arguments, catch_exceptions=False).output
    gap = 100 * (one["test"] - other["test"])
    assert f"{gap:+.2f}" in table


def test_other_data_are_refused_with_one_line(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    short = {"epochs": 1}
    Trainer(make_recipe(training=short), quadrants, tmp_path / "a").run()
    others = make_recipe(training=short, data={"set": "npz", "words": ["a", "b"]})
    Trainer(others, quadrants, tmp_path / "b").run()
    result = CliRunner().invoke(main, [str(tmp_path / "a"), "--against", str(tmp_path / "b")])
    assert result.exit_code == 2
    assert "b: was trained on other data than" in result.output
    assert result.output.count("\n") == 1


def test_data_of_another_shape_are_refused_with_one_line(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    Trainer(make_recipe(training={"epochs": 1}), quadrants, tmp_path / "a").run()
    images = np.zeros((40, 6, 6), np.uint8)
    labels = np.arange(40) % 4
    names = np.array(quadrants.classes)
    np.savez(tmp_path / "small.npz", images=images, labels=labels, class_names=names)
    data = ["--data", str(tmp_path / "small.npz")]
    run = str(tmp_path / "a")
    for command, options in ((main, ["--against", run]), (noise_main, [])):
        result = CliRunner().invoke(command, [run, *options, *data], catch_exceptions=False)
        assert result.exit_code == 2
        assert "a: its network takes no inputs of [1, 6, 6]" in result.output
        assert result.output.count("\n") == 1
