"""Run every command of `docs/tutorial.md`, and compare the page's figures with what comes out.

Figures stand between marks, `<!--f:NAME-->1,234<!--/-->`. What training decides differs a little
from processor to processor, and is compared with a tolerance; everything else must be equal.
"""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from trencadis_format.command_line import reported
from trencadis_format.errors import FailureError, UserError
from trencadis_format.files import read_text, write_atomically

__all__ = ["FIGURES", "Figure", "check_page", "commands_of", "main"]

ROOT = Path(__file__).resolve().parents[2]

PAGE = ROOT / "docs/tutorial.md"

FOLDER = "build/tutorial"

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)

MARK = re.compile(r"<!--f:(\w+)-->(.*?)<!--/-->")

Outputs = Mapping[str, Any]
"""JSON output of the commands, by the name of the file."""


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes
    ----------
    of : callable
        Its value, from what commands printed.
    shown : str
        How it is written, as a format of `str.format`.
    tolerance : float
        Largest difference of the page's figure from a run's, as a share of it; 0: none.
    """

    of: Callable[[Outputs], float]
    shown: str = "{:,.0f}"
    tolerance: float = 0.0


def _layer(run: Outputs, number: int, name: str) -> float:
    return run["layers"]["layers"][number][name]


def _advised(run: Outputs, kind: str) -> float:
    """The largest gain of a kind of advice."""
    return max(a["gain"] for a in run["pruned"]["advice"] if kind in a["change"])


def _compiled(name: str, tolerance: float) -> dict[str, Figure]:
    """Figures of a compiled network."""
    return {
        f"{name}_weights": Figure(lambda run: run[name]["weights"]),
        f"{name}_nonzeros": Figure(
            lambda run: run[name]["nonzero_weights"], tolerance=tolerance or 0.02
        ),
        f"{name}_dense": Figure(lambda run: run[name]["cycles_dense"]),
        f"{name}_sparse": Figure(
            lambda run: run[name]["cycles_sparse_weights"], tolerance=tolerance
        ),
        f"{name}_cycles": Figure(lambda run: run[name]["cycles"], tolerance=tolerance),
        f"{name}_rate": Figure(lambda run: run[name]["inferences_per_s"], tolerance=tolerance),
        f"{name}_top1": Figure(
            lambda run: 100 * run[f"{name}-accuracy"]["accuracy"]["image"]["top1"], "{:.1f}", 0.02
        ),
    }


FIGURES: Mapping[str, Figure] = {
    **_compiled("pruned", 0.1),
    **_compiled("followed", 0.0),
    "float_top1": Figure(
        lambda run: 100 * run["pruned-accuracy"]["accuracy"]["float"]["top1"], "{:.1f}", 0.02
    ),
    "first_nonzero": Figure(lambda run: 100 * _layer(run, 0, "nonzero"), "{:.0f}", 0.2),
    "second_nonzero": Figure(lambda run: 100 * _layer(run, 1, "nonzero"), "{:.0f}", 0.2),
    "second_full": Figure(
        lambda run: 100 * run["pruned"]["layers"][1]["packing_efficiency"], "{:.0f}", 0.2
    ),
    "followed_full": Figure(
        lambda run: 100 * run["followed"]["layers"][1]["packing_efficiency"], "{:.0f}", 0.03
    ),
    "masks_gain": Figure(lambda run: _advised(run, "complementary masks"), "{:.1f}", 0.15),
    "winners_gain": Figure(lambda run: _advised(run, "k-WTA"), "{:.1f}", 0.15),
    "faster": Figure(
        lambda run: run["pruned"]["cycles"] / run["followed"]["cycles"], "{:.1f}", 0.15
    ),
}


def commands_of(page: str) -> list[str]:
    """The commands of a page: lines of its console blocks after `$ `, with those that go on."""
    found: list[str] = []
    for block in BLOCK.findall(page):
        for command in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE):
            found.append(command)
    return found


def check_page(page: str, run: Outputs) -> tuple[str, dict[str, float], list[str]]:
    """Compare a page's figures with those of a run.

    Returns
    -------
    page : str
        The page with the figures of this run.
    figures : dict of str to float
        The run's figures.
    wrong : list of str
        Figures of the page that are others.
    """
    figures = {name: float(figure.of(run)) for name, figure in FIGURES.items()}
    wrong: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        name, written = match.groups()
        if name not in FIGURES:
            raise UserError(f"{PAGE.name}: no figure is called {name!r}")
        figure, value = FIGURES[name], figures[name]
        shown = figure.shown.format(value)
        if written != shown:
            digits = written.replace(",", "")
            number = float(digits) if re.fullmatch(r"\d+(\.\d+)?", digits) else float("inf")
            if not figure.tolerance or abs(number - value) > figure.tolerance * abs(value):
                wrong.append(f"{name} is {shown}, on the page {written!r}")
        return f"<!--f:{name}-->{shown}<!--/-->"

    return MARK.sub(replaced, page), figures, wrong


def _run(command: str, more: str) -> None:
    """Run a command in the clone, with the programs of this environment."""
    programs = shlex.quote(str(Path(sys.executable).parent))
    started = time.monotonic()
    print(f"$ {command}", flush=True)
    if more and command.startswith("python examples/tutorial/"):
        command = f"{command} {more}"
    script = f'PATH={programs}:"$PATH"; {command}'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, check=False)
    if done.returncode:
        raise FailureError(f"{command}: exit status {done.returncode}")
    print(f"[{time.monotonic() - started:.0f} s]\n", flush=True)


@click.command()
@click.option("--update", is_flag=True, help="Write this run's figures into the page.")
@click.option("--only-run", is_flag=True, help="Compare nothing.")
@click.option("--folder", default=FOLDER, show_default=True, help="In place of the page's folder.")
@click.option("--more", default="", help="Options for the scripts of the tutorial, to try it.")
@reported("tutorial")
def main(update: bool, only_run: bool, folder: str, more: str) -> None:
    """Run the commands of the tutorial, and compare its figures."""
    page = read_text(PAGE)
    for command in commands_of(page):
        _run(command.replace(FOLDER, folder), more)
    made = ROOT / folder
    run = {path.stem: json.loads(read_text(path)) for path in made.glob("*.json")}
    changed, figures, wrong = check_page(page, run)
    write_atomically(made / "figures.json", (json.dumps(figures, indent=2) + "\n").encode())
    if only_run:
        return
    if update:
        write_atomically(PAGE, changed.encode())
        print(f"{PAGE.relative_to(ROOT)}: {len(figures)} figures")
    elif wrong:
        raise FailureError(
            f"{PAGE.relative_to(ROOT)}: {'; '.join(wrong)}: run make tutorial UPDATE=1 and look at "
            "what has changed"
        )


if __name__ == "__main__":
    main()
