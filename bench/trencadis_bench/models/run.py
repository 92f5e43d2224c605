"""`make bench-models`: try models that others made, and write what became of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path

import click
from rich.console import Console

from trencadis_bench.models.board import write_large_board
from trencadis_bench.models.collection import collect
from trencadis_bench.models.trial import Trial, attempt
from trencadis_format.command_line import reported
from trencadis_format.files import read_text, write_atomically
from trencadis_format.user_cache import default_folder

__all__ = ["main", "table"]

BEGIN, END = "<!-- bench-models: begin -->", "<!-- bench-models: end -->"

MAX_REASON = 160
"""Characters of a reason in the table; the JSON has all."""

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--output", type=FILE, default=Path("build/bench/models.json"), show_default=True)
@click.option("--work", type=FILE, default=Path("build/bench/models"), show_default=True)
@click.option("--models", "given", type=FILE, multiple=True, help="Files or folders of others.")
@click.option("--only", default="", help="Models whose name has this in it.")
@click.option("--board", type=FILE, help="A board's file.  [default: with the largest memories]")
@click.option("--docs", type=FILE, help="Page whose table is rebuilt.")
@click.option("--timeout-s", type=float, default=600, show_default=True)
@click.option("--resume", is_flag=True, help="Keep what OUTPUT has of earlier runs.")
@reported("bench-models")
def main(
    output: Path,
    work: Path,
    given: tuple[Path, ...],
    only: str,
    board: Path | None,
    docs: Path | None,
    timeout_s: float,
    resume: bool,
) -> None:
    """Try every model, write JSON, and a table into a page of the documentation."""
    console = Console(stderr=True, highlight=False)
    if board is None:
        with as_file(files("trencadis_boards") / "sim.toml") as source:
            board = write_large_board(source, work / "large.toml")
    kept: dict[str, Trial] = {}
    if resume and output.exists():
        kept = {entry["model"]: Trial(**entry) for entry in json.loads(read_text(output))}
    trials: list[Trial] = []
    for candidate in collect(default_folder("models"), work / "exported", given):
        if only not in candidate.name:
            continue
        if candidate.name in kept:
            trials.append(kept[candidate.name])
            continue
        trial = attempt(candidate, board, work, timeout_s=timeout_s)
        trials.append(trial)
        share = "" if trial.overlay_share is None else f"{100 * trial.overlay_share:.1f} %"
        word = "accepted" if trial.accepted else "refused"
        console.print(f"{trial.model}: {word} {share} {trial.compile_s:.1f} s {trial.reason}")
        output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(entry) for entry in trials], indent=2) + "\n"
        write_atomically(output, text.encode())
    if docs is not None:
        page = docs.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        rebuilt = f"{before}{BEGIN}\n{table(trials)}{END}{after}"
        write_atomically(docs, rebuilt.encode())


def table(trials: Sequence[Trial]) -> str:
    """The results as a Markdown table."""
    accepted = sum(trial.accepted for trial in trials)
    judged = sum(trial.outputs for trial in trials)
    different = sum(trial.different for trial in trials)
    lines = [
        f"{accepted} of {len(trials)} accepted; {judged:,} numbers judged, {different:,} differ.",
        "",
        "| model | accepted | on the overlay | compile s | judged | different | why not more |",
        "|---|---|---|---|---|---|---|",
    ]
    for trial in trials:
        share = "" if trial.overlay_share is None else f"{100 * trial.overlay_share:.1f} %"
        reason = trial.reason.replace("|", "\\|")
        if len(reason) > MAX_REASON:
            reason = reason[: MAX_REASON - 3] + "..."
        lines.append(
            f"| {trial.model} | {'yes' if trial.accepted else 'no'} | {share} "
            f"| {trial.compile_s:.1f} | {trial.outputs:,} | {trial.different:,} | {reason} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
