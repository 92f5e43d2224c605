"""Comparison of two kinds of networks, example by example.

`python -m trencadis_train.evaluation.compare RUN... --against RUN` prints it.

Networks are compared example by example. Most examples are right or wrong for both kinds, so the
difference of two accuracies is known better than either of them (McNemar, "Note on the sampling
error of the difference between correlated proportions or percentages", 1947).
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from trencadis_format.command_line import reported
from trencadis_train.data.datasets import open_data
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import DataSource
from trencadis_train.training.epoch import Examples, right_answers
from trencadis_train.training.finished import check_fits, load_finished

__all__ = ["Difference", "difference", "main"]


@dataclass(frozen=True)
class Difference:
    """Difference between some networks and others on the same examples.

    Attributes
    ----------
    part : str
        Part of the data.
    accuracy, baseline : float
        Mean shares of right answers.
    error : float
        Standard error of `accuracy - baseline`, for other examples of the same kind. What other
        seeds would give comes on top.
    """

    part: str
    accuracy: float
    baseline: float
    error: float


def difference(
    part: str, right: npt.NDArray[np.bool_], baseline: npt.NDArray[np.bool_]
) -> Difference:
    """Compare two groups of networks.

    Parameters
    ----------
    part : str
        Name of the examples.
    right, baseline : bool arrays, shape (networks, examples)
        Right and baseline from `right_answers`; the groups may be of different sizes.
    """
    ours, theirs = right.mean(axis=0), baseline.mean(axis=0)
    error = float((ours - theirs).std()) / math.sqrt(len(ours))
    return Difference(part, float(ours.mean()), float(theirs.mean()), error)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--against",
    "baselines",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of a finished training to compare with. May be repeated.",
)
@click.option("--data", default="", help="Folder or file of the data, in place of the recipe's.")
@click.option(
    "--no-test",
    is_flag=True,
    help="Leave the test part alone; for as long as choices are made by validation.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@reported("trencadis_train.evaluation.compare")
def main(
    runs: tuple[Path, ...], baselines: tuple[Path, ...], data: str, no_test: bool, as_json: bool
) -> None:
    """Compare the networks of finished trainings (folders RUNS) with others, in real numbers."""
    found = _compare(runs, baselines, data, test=not no_test)
    if as_json:
        print(json.dumps([vars(entry) for entry in found], indent=2))
    else:
        Console().print(_render(found))


def _compare(
    runs: Sequence[Path], baselines: Sequence[Path], data: str, *, test: bool
) -> list[Difference]:
    folders = (*runs, *baselines)
    loaded = [load_finished(run) for run in folders]
    source = loaded[0][1].data
    for folder, (_, recipe) in zip(folders, loaded, strict=True):
        if _examples(recipe.data) != _examples(source):
            raise TrainingError(
                f"{folder}: was trained on other data than {runs[0]} ({_examples(recipe.data)}, "
                f"not {_examples(source)}); compare networks of the same data"
            )
    splits = open_data(source, data)
    for folder, (model, _) in zip(folders, loaded, strict=True):
        check_fits(folder, model, splits)
    right = {
        name: np.stack(
            [right_answers(model, Examples.on(torch.device("cpu"), part)) for model, _ in loaded]
        )
        for name, part in splits.parts
        if name == "validation" or (name == "test" and test)
    }
    if test:
        right["both"] = np.concatenate(list(right.values()), axis=1)
    count = len(runs)
    return [difference(name, some[:count], some[count:]) for name, some in right.items()]


def _examples(source: DataSource) -> dict[str, Any]:
    """Settings that decide which examples there are, and in which part."""
    return {
        name: value
        for name, value in dataclasses.asdict(source).items()
        if name not in ("path", "noise")
    }


def _render(found: Sequence[Difference]) -> Table:
    table = Table(title="Accuracy on the same examples", title_justify="left")
    table.add_column("part")
    for name in ("networks", "against", "difference", "standard error"):
        table.add_column(name, justify="right")
    for entry in found:
        gap = entry.accuracy - entry.baseline
        table.add_row(
            entry.part,
            f"{100 * entry.accuracy:.2f} %",
            f"{100 * entry.baseline:.2f} %",
            f"{100 * gap:+.2f}",
            f"{100 * entry.error:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
