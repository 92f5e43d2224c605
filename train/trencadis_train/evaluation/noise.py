"""Accuracy of trained networks against noise: `python -m trencadis_train.evaluation.noise RUN...`.

Two kinds of noise: a part of the features is replaced by random bytes, as published work does; and
recordings of noise are added at a ratio of word to noise. Both depend on a seed alone, so all
networks get the same examples.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from trencadis_format.command_line import reported
from trencadis_train.data.augment import Augmenter
from trencadis_train.data.datasets import open_data
from trencadis_train.data.labelled import Splits
from trencadis_train.recipe import Augmentation
from trencadis_train.training.epoch import Examples, evaluate
from trencadis_train.training.finished import check_fits, load_finished

__all__ = ["NoiseScore", "added", "main", "noise_scores", "replaced"]

PARTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Parts of the features that are replaced."""

RATIOS = (20.0, 10.0, 5.0, 0.0, -5.0)
"""Ratios of word to noise, in decibels."""


@dataclass(frozen=True)
class NoiseScore:
    """Share of right answers at a level of noise.

    Attributes
    ----------
    kind : str
        `replaced` or `added`.
    level : float
        Part of the features, or ratio of word to noise in decibels.
    accuracy : float
        Share of right answers.
    """

    kind: str
    level: float
    accuracy: float


def replaced(images: torch.Tensor, part: float, seed: int) -> torch.Tensor:
    """Images with a part of their features replaced by random bytes.

    Parameters
    ----------
    images : uint8 tensor, shape (examples, 1, rows, columns)
        Left as they are.
    part : float
        Chance of every feature to be replaced.
    seed : int
        Seed of the choice and of the bytes.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(images.shape, generator=generator) < part
    random = torch.randint(0, 256, images.shape, generator=generator, dtype=torch.uint8)
    return torch.where(chosen, random, images)


def added(images: torch.Tensor, noise: torch.Tensor, ratio: float, seed: int) -> torch.Tensor:
    """Images of words with a recording of noise added to each.

    Parameters
    ----------
    images : uint8 tensor, shape (examples, 1, frames, bands)
        Left as they are.
    noise : uint8 tensor, shape (clips, 1, frames, bands)
        Clips, of which one is chosen for every example.
    ratio : float
        Ratio of word to noise, in decibels.
    seed : int
        Seed of the choice.
    """
    add = Augmenter(Augmentation(noise=1.0, noise_snr_db=(ratio, ratio)), noise.float())
    return add(images.float(), torch.Generator().manual_seed(seed)).round().to(torch.uint8)


def noise_scores(model: nn.Module, splits: Splits, seed: int = 0) -> list[NoiseScore]:
    """Accuracy of a network on the test part, at all levels of noise.

    Parameters
    ----------
    model : nn.Module
        Trained; takes bytes divided by 255.
    splits : Splits
        Without recordings of noise, none are added.
    seed : int
        Seed of the noise.
    """
    test = Examples.on(torch.device("cpu"), splits.test)
    levels = [("replaced", part, replaced(test.images, part, seed)) for part in PARTS]
    if splits.noise is not None:
        clips = torch.tensor(splits.noise)[:, None]
        levels += [("added", ratio, added(test.images, clips, ratio, seed)) for ratio in RATIOS]
    return [
        NoiseScore(kind, level, evaluate(model, Examples(images, test.labels)).accuracy)
        for kind, level, images in levels
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", default="", help="Folder or file of the data, in place of the recipe's.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the noise.")
@click.option("--json", "as_json", is_flag=True, help="Print the accuracies as JSON.")
@reported("trencadis_train.evaluation.noise")
def main(runs: tuple[Path, ...], data: str, seed: int, as_json: bool) -> None:
    """Measure the networks of finished trainings (folders RUNS) against noise, on the test part."""
    results = _measure(runs, data, seed)
    if as_json:
        print(
            json.dumps(
                {
                    str(run): [vars(score) for score in scores]
                    for run, scores in zip(runs, results, strict=True)
                },
                indent=2,
            )
        )
    else:
        Console().print(_render(runs, results))


def _measure(runs: Sequence[Path], data: str, seed: int) -> list[list[NoiseScore]]:
    results, splits, source = [], None, None
    for run in runs:
        model, recipe = load_finished(run)
        if splits is None or recipe.data != source:
            splits, source = open_data(recipe.data, data), recipe.data
        check_fits(run, model, splits)
        results.append(noise_scores(model, splits, seed))
    return results


def _render(runs: Sequence[Path], results: Sequence[Sequence[NoiseScore]]) -> Table:
    table = Table(title="Accuracy against noise", title_justify="left")
    table.add_column("noise")
    for run in runs:
        table.add_column(run.name, justify="right")
    for row in zip(*results, strict=True):
        first = row[0]
        level = f"{100 * first.level:.0f} %" if first.kind == "replaced" else f"{first.level:g} dB"
        table.add_row(f"{first.kind} {level}", *(f"{100 * score.accuracy:.1f} %" for score in row))
    return table


if __name__ == "__main__":
    main()
