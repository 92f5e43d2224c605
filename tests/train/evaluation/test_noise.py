import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

import torch

from trencadis_train.data.labelled import Splits
from trencadis_train.evaluation.noise import PARTS, RATIOS, added, main, noise_scores, replaced
from trencadis_train.recipe import Recipe
from trencadis_train.training.finished import Finished
from trencadis_train.training.trainer import Trainer

MakeRecipe = Callable[..., Recipe]

IMAGES = torch.full((40, 1, 32, 32), 100, dtype=torch.uint8)


def test_a_part_of_the_features_is_replaced() -> None:
    before = IMAGES.clone()
    noisy = replaced(IMAGES, 0.3, seed=1)
    assert noisy.dtype == torch.uint8
    assert torch.equal(IMAGES, before)
    # A replaced feature has its old value by chance, once in 256.
    changed = (noisy != IMAGES).float().mean().item()
    assert changed == pytest.approx(0.3 * 255 / 256, abs=0.01)
    assert (noisy[noisy != IMAGES].float().mean() - 127.5).abs() < 2
    assert torch.equal(replaced(IMAGES, 0.3, seed=1), noisy)
    assert not torch.equal(replaced(IMAGES, 0.3, seed=2), noisy)
    assert torch.equal(replaced(IMAGES, 0.0, seed=1), IMAGES)


def test_noise_is_as_loud_as_the_ratio_says() -> None:
    noise = torch.full((3, 1, 32, 32), 10, dtype=torch.uint8)
    # At 0 dB both are equally loud: together 3.01 dB more, 8.5 steps of 0.353 dB.
    assert (added(IMAGES, noise, 0.0, seed=1) == 109).all()
    assert (added(IMAGES, noise, 40.0, seed=1) == 100).all()
    assert (added(IMAGES, noise, -20.0, seed=1) == 157).all()


def test_noise_makes_networks_worse(trained: Finished, quadrants: Splits) -> None:
    scores = noise_scores(trained.model, quadrants)
    assert [(score.kind, score.level) for score in scores] == [("replaced", part) for part in PARTS]
    assert scores[0].accuracy == trained.summary["accuracy"]["float"]["test"]
    assert scores[-1].accuracy < scores[0].accuracy
    loud = np.random.default_rng(1).integers(0, 256, (4, 12, 12)).astype(np.uint8)
    scores = noise_scores(trained.model, replace(quadrants, noise=loud))
    assert [score.level for score in scores if score.kind == "added"] == list(RATIOS)


def test_the_command_measures_finished_trainings(
    make_recipe: MakeRecipe, quadrants: Splits, quadrants_file: Path, tmp_path: Path
) -> None:
    summary = Trainer(make_recipe(), quadrants, tmp_path / "run").run().summary
    arguments = [str(tmp_path / "run"), str(tmp_path / "run"), "--data", str(quadrants_file)]
    result = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    (scores,) = json.loads(result.output).values()
    assert len(scores) == len(PARTS)
    assert scores[0]["accuracy"] == summary["accuracy"]["float"]["test"]
    table = CliRunner().invoke(main, arguments, catch_exceptions=False).output
    assert "replaced 50 %" in table


def test_what_is_no_training_is_refused_with_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 2
    assert "holds no finished training (there is no float.safetensors)" in result.output
    assert result.output.count("\n") == 1
