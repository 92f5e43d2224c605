"""`sparse-search`."""

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from trencadis_format.command_line import INTERRUPTED, reported
from trencadis_format.files import make_folder
from trencadis_train.data.datasets import open_data
from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe, load_recipe
from trencadis_train.search.space import Dimension, default_space, overrides, parse_dimension
from trencadis_train.training.metrics import EpochMetrics

if TYPE_CHECKING:
    from trencadis_train.search.search import Found, SearchPlan

__all__ = ["main"]

TABLE = "trials.csv"
PICTURE = "front.png"
JOURNAL = "trials.log"

FILE = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("recipe", type=FILE)
@click.option(
    "-o", "--output", type=FILE, required=True, help="Folder for the table, the picture, trials."
)
@click.option("--data", default="", help="Folder or file of the data, in place of the recipe's.")
@click.option(
    "--cache", type=FILE, help="Folder in which features of recordings are kept for other runs."
)
@click.option(
    "--vary",
    multiple=True,
    metavar="FIELD=VALUES",
    help="A field to vary, like training.learning_rate=0.01..0.3:log or layer.0.ways=1|2|4. May be "
    "repeated.  [default: learning rate, decay, and ways and winners of every layer]",
)
@click.option(
    "--set", "fixed", multiple=True, metavar="KEY=VALUE", help="Change the recipe for all trials."
)
@click.option(
    "--accuracy",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Least validation accuracy that is good enough.",
)
@click.option(
    "--density",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.15,
    show_default=True,
    help="Largest share of weights other than zero; denser networks are not trained.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Recipes to try, all processes together.",
)
@click.option(
    "--short-epochs",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Epochs of the first stage; the last has those of the recipe.",
)
@click.option("--stages", type=click.IntRange(1, 6), default=2, show_default=True)
@click.option(
    "--promote",
    type=click.IntRange(2),
    default=4,
    show_default=True,
    help="One of so many trials of a stage goes on to the next.",
)
@click.option(
    "--storage",
    default="",
    help="Where trials are, for several processes: a file, or the URL of a database.  [default: "
    f"{JOURNAL} in the output folder]",
)
@click.option("--name", default="", help="Of the search.  [default: the recipe's]")
@click.option(
    "--worker", type=click.IntRange(0), default=0, help="Number of this process among several."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
@click.option(
    "--reset-running",
    is_flag=True,
    help="Do again what a process that died has left; only when no other is at work.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where to compute: cpu, cuda, cuda:1 and so on; auto takes a GPU if there is one.",
)
@click.version_option(package_name="trencadis")
@reported("sparse-search")
def main(
    recipe: Path,
    output: Path,
    data: str,
    cache: Path | None,
    vary: tuple[str, ...],
    fixed: tuple[str, ...],
    accuracy: float,
    density: float,
    trials: int,
    short_epochs: int,
    stages: int,
    promote: int,
    storage: str,
    name: str,
    worker: int,
    seed: int,
    reset_running: bool,
    device: str,
) -> None:
    """Search for accurate and sparse variants of a RECIPE (.toml)."""
    try:
        from trencadis_train.search import search, search_plot
        from trencadis_train.search.trial import RecipeTrials
        from trencadis_train.training.device import choose_device
        from trencadis_train.training.finished import load_finished
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"searching needs the package {error.name}; install it with: "
            "pip install 'trencadis[train]'"
        ) from error
    console = Console(stderr=True)
    try:
        base = load_recipe(recipe, fixed)
        space = tuple(map(parse_dimension, vary)) or default_space(base)
        _check_space(recipe, fixed, space)
        where = choose_device(device)
        # Before recordings are read, which takes long.
        for folder in base.trainings:
            load_finished(folder)
        splits = open_data(base.data, data, cache=cache, progress=_progress(console))
        plan = search.SearchPlan(
            name=name or base.name,
            recipe=_digest(base, splits),
            space=space,
            least_accuracy=accuracy,
            most_density=density,
            epochs=_stages(short_epochs, base.training.epochs, stages),
            promoted=promote,
        )
        make_folder(output)
        search.quiet()
        runs = RecipeTrials(recipe, fixed, splits, device=where, on_epoch=_epoch_line(console))

        def on_trial(trial: "Found") -> None:
            console.print(_line(trial, plan), highlight=False, soft_wrap=True)
            search.write_found(output / TABLE, here.found())

        here = search.Search(
            plan,
            search.open_storage(storage or str(output / JOURNAL)),
            runs,
            seed=seed,
            worker=worker,
            on_trial=on_trial,
        )
        if reset_running:
            here.reset_running()
        found = here.run(trials)
        search.write_found(output / TABLE, found)
        search_plot.draw_found(output / PICTURE, found, plan)
    except KeyboardInterrupt:
        print(
            "sparse-search: stopped; the same command goes on, finished trials are kept",
            file=sys.stderr,
        )
        raise SystemExit(INTERRUPTED) from None
    out = Console()
    out.print(_render(found))
    out.print(_counts(found, plan), soft_wrap=True, highlight=False)
    for trial in _front(found):
        changed = (*fixed, *overrides(trial.values))
        changes = " ".join(f"--set {shlex.quote(text)}" for text in changed)
        out.print(f"trial {trial.number}: {changes}", highlight=False, soft_wrap=True)


def _check_space(recipe: Path, fixed: Sequence[str], space: Sequence[Dimension]) -> None:
    """Refuse fields that the recipe does not have, and values that it cannot take."""
    for dimension in space:
        if dimension.field == "training.epochs":
            raise TrainingError(
                "training.epochs cannot be varied, stages do that; see --short-epochs"
            )
        for value in dimension.ends:
            load_recipe(recipe, [*fixed, *overrides({dimension.field: value})])


def _digest(recipe: Recipe, splits: Splits) -> str:
    """Digest of the recipe and its data, which may be elsewhere on another machine."""
    data = recipe.to_dict()
    del data["data"]
    text = json.dumps([data, splits.fingerprint()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stages(short: int, full: int, stages: int) -> tuple[int, ...]:
    """Epochs of every stage, in equal ratios."""
    if stages == 1 or short >= full:
        return (full,)
    ratios = [i / (stages - 1) for i in range(stages)]
    return tuple(dict.fromkeys(round(short * (full / short) ** ratio) for ratio in ratios))


def _progress(console: Console) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if console.is_terminal or done == total:
            console.print(f"features of {done} of {total} recordings", end="\r", highlight=False)

    return report


def _epoch_line(console: Console) -> Callable[[EpochMetrics], None]:
    def report(row: EpochMetrics) -> None:
        if console.is_terminal:
            console.print(
                f"  {row.phase} {row.epoch}: {100 * row.validation_accuracy:.2f} %",
                end="\r",
                highlight=False,
            )

    return report


def _line(trial: "Found", plan: "SearchPlan") -> str:
    start = f"stage {trial.stage + 1}/{len(plan.epochs)}  trial {trial.number:4}"
    if trial.state == "failed":
        return f"{start}  failed: {trial.error or 'stopped'}"
    density = f"density {100 * (trial.density or 0):6.2f} %"
    if trial.state == "dense":
        return f"{start}  {density}  too dense, not trained"
    accuracy = f"accuracy {100 * (trial.accuracy or 0):6.2f} %"
    meets = "  meets both thresholds" if trial.meets else ""
    return f"{start}  {density}  {accuracy}  {trial.seconds:.0f} s{meets}"


def _front(found: Sequence["Found"]) -> list["Found"]:
    """Trials of the front, the most accurate first."""
    return sorted((trial for trial in found if trial.front), key=lambda t: -(t.accuracy or 0))


def _counts(found: Sequence["Found"], plan: "SearchPlan") -> str:
    last = [t for t in found if t.stage == len(plan.epochs) - 1 and t.state == "complete"]
    short = sum(trial.stage == 0 for trial in found)
    return (
        f"{short} recipes tried, {len(last)} trained to the end, "
        f"{sum(trial.meets for trial in last)} meet both thresholds"
    )


def _render(found: Sequence["Found"]) -> Table:
    table = Table(title="The front", title_justify="left")
    for column in ("trial", "accuracy", "density"):
        table.add_column(column, justify="right")
    table.add_column("meets")
    for trial in _front(found):
        table.add_row(
            str(trial.number),
            f"{100 * (trial.accuracy or 0):.2f} %",
            f"{100 * (trial.density or 0):.2f} %",
            "yes" if trial.meets else "no",
        )
    return table
