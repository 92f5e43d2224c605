"""`sparse-train`."""

import importlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trencadis_format.command_line import INTERRUPTED, reported
from trencadis_train.data.datasets import open_data
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe, load_recipe
from trencadis_train.training.metrics import EpochMetrics

__all__ = ["main"]

FEATURES = "features"
"""Folder of the output in which features of recordings are kept."""

FILE = click.Path(path_type=Path)


@dataclass(frozen=True)
class _Workers:
    """Processes to train with, where they find this one, and their command line."""

    count: int
    listen: str
    arguments: list[str]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("recipe", type=FILE)
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    help="Folder for checkpoints, metrics, curves and the quantised ONNX file.",
)
@click.option("--data", default="", help="Folder or file of the data, in place of the recipe's.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="In place of the recipe's.")
@click.option("--epochs", type=click.IntRange(1), help="Of real numbers, in place of the recipe's.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the recipe, like training.batch=32 or layer.0.winners=8. May be repeated.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where to compute: cpu, cuda, cuda:1 and so on; auto takes a GPU if there is one.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    help='Processes to train with (engine "sparse"); 0: this one alone.',
)
@click.option(
    "--listen",
    default="127.0.0.1:0",
    metavar="HOST:PORT",
    show_default=True,
    help="Where workers find this process; any that reach it may join, so trust the network.",
)
@click.option(
    "--dense", is_flag=True, help='Write dense weights into the ONNX file (engine "sparse").'
)
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint, if it has one.")
@click.option(
    "--no-test",
    is_flag=True,
    help="Leave the test part alone; for as long as choices are made by validation.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.version_option(package_name="trencadis")
@reported("sparse-train")
def main(
    recipe: Path,
    output: Path,
    data: str,
    seed: int | None,
    epochs: int | None,
    overrides: tuple[str, ...],
    device: str,
    workers: int,
    listen: str,
    dense: bool,
    resume: bool,
    no_test: bool,
    as_json: bool,
) -> None:
    """Train the network of a RECIPE (.toml) and write it as quantised ONNX."""
    try:
        loaded = load_recipe(recipe, overrides)
        if seed is not None:
            loaded = replace(loaded, seed=seed)
        if epochs is not None:
            loaded = replace(loaded, training=replace(loaded.training, epochs=epochs))
        changes = [f"seed={loaded.seed}", f"training.epochs={loaded.training.epochs}"]
        arguments = [str(recipe), "--data", data]
        for change in [*overrides, *changes]:
            arguments += ["--set", change]
        pool = _Workers(workers, listen, arguments)
        summary = _train(
            loaded, data, output, device, pool, resume=resume, test=not no_test, dense=dense
        )
    except KeyboardInterrupt:
        print(
            f"sparse-train: stopped; {output} has all finished epochs, and the same command with "
            "--resume goes on",
            file=sys.stderr,
        )
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        _show(summary, output)


def _train(
    recipe: Recipe,
    data: str,
    output: Path,
    device: str,
    workers: _Workers,
    *,
    resume: bool,
    test: bool,
    dense: bool,
) -> dict[str, Any]:
    if dense and recipe.engine != "sparse":
        raise TrainingError(
            '--dense needs engine = "sparse"; the other engine\'s weights are dense'
        )
    if workers.count and recipe.engine != "sparse":
        raise TrainingError(
            f'--workers needs engine = "sparse" in the recipe, not {recipe.engine!r}'
        )
    _check_engine(recipe, device, resume=resume)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("preparing", total=1.0)

        def on_recording(done: int, total: int) -> None:
            progress.update(task, completed=done / max(total, 1), description="features")

        def on_batch(phase: str, epoch: int, part: float) -> None:
            progress.update(task, completed=part, description=f"{phase}, epoch {epoch}")

        def on_epoch(row: EpochMetrics) -> None:
            console.print(_line(row), highlight=False)

        splits = open_data(recipe.data, data, cache=output / FEATURES, progress=on_recording)
        if splits.scaling is not None:
            splits.scaling.save(output)
        calls = {"resume": resume, "test": test, "on_epoch": on_epoch, "on_batch": on_batch}
        if recipe.engine == "sparse":
            if workers.count:
                from trencadis_train.sparse.parallel.pool import Pool
                from trencadis_train.sparse.parallel.trainer import ParallelTrainer

                pool = Pool(workers.arguments, workers.count)
                parallel = ParallelTrainer(
                    recipe,
                    splits,
                    output,
                    pool=pool,
                    dense=dense,
                    parts=workers.count,
                    address=workers.listen,
                    **calls,
                )
                return dict(parallel.run().summary)
            from trencadis_train.sparse.trainer import SparseTrainer

            return dict(SparseTrainer(recipe, splits, output, dense=dense, **calls).run().summary)
        from trencadis_train.training.device import choose_device
        from trencadis_train.training.trainer import Trainer

        where = choose_device(device)
        return dict(Trainer(recipe, splits, output, device=where, **calls).run().summary)


def _check_engine(recipe: Recipe, device: str, *, resume: bool) -> None:
    """Refuse what would fail, before recordings are read, which takes long."""
    try:
        if recipe.engine == "sparse":
            importlib.import_module("trencadis_train.sparse.trainer")
            return
        from trencadis_train.training.device import choose_device
        from trencadis_train.training.finished import load_finished
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"training needs the package {error.name}; install it with: pip install "
            "'trencadis[train]'"
        ) from error
    choose_device(device)
    # What a resumed training began with is in its checkpoint.
    for folder in recipe.distillation.teachers if resume else recipe.trainings:
        load_finished(folder)


def _line(row: EpochMetrics) -> str:
    text = f"{row.phase:8} {row.epoch:3}  validation {100 * row.validation_accuracy:6.2f} %"
    if row.epoch:
        text += f"  loss {row.loss:.4f}  training {100 * row.accuracy:6.2f} %  {row.seconds:.1f} s"
    return text + ("  best" if row.best else "")


def _show(summary: dict[str, Any], output: Path) -> None:
    table = Table()
    table.add_column("")
    table.add_column("validation", justify="right")
    table.add_column("test", justify="right")
    for kind, scores in summary["accuracy"].items():
        cells = [
            f"{100 * scores[part]:.2f} %" if part in scores else "-"
            for part in ("validation", "test")
        ]
        table.add_row(kind, *cells)
    console = Console()
    # On lines of their own, since a title is broken where the table ends.
    console.print(output / f"{summary['name']}.onnx", soft_wrap=True, highlight=False)
    console.print(table)
    console.print(
        f"{summary['nonzeros']:,} of {summary['weights']:,} weights are not zero "
        f"({100 * summary['sparsity']:.1f} % sparse); seed {summary['seed']}",
        soft_wrap=True,
        highlight=False,
    )
