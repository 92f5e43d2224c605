"""`make fuzz`: random networks and damaged files, for as long as is asked."""

import json
import secrets
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from trencadis_bench.fuzz.campaign import Tally, run_campaign
from trencadis_bench.fuzz.parsers import PARSERS
from trencadis_bench.fuzz.trial import Class, Trial
from trencadis_bench.fuzz.worker import NETWORKS
from trencadis_format.files import write_atomically

__all__ = ["main"]

KINDS = (NETWORKS, *PARSERS)

DETAIL_CHARACTERS = 600
"""Characters of a finding that are printed; the file has all."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--minutes", default=60.0, show_default=True, help="How long.")
@click.option("--seed", type=int, help="First seed; random if it is left out.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="What; all if left out."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Counts and findings as JSON."
)
def main(minutes: float, seed: int | None, kinds: tuple[str, ...], output: Path | None) -> None:
    """Try random networks against the judge and damaged files against every parser, on one core.

    Every finding is printed with its seed; the same seed makes the same input. The exit status is 1
    if there are any.
    """
    console = Console(highlight=False, soft_wrap=True)
    first = secrets.randbelow(1 << 31) * 1000 if seed is None else seed
    console.print(f"first seed {first}")

    def report(kind: str, number: int, trial: Trial) -> None:
        changes = f" ({', '.join(trial.changes)})" if trial.changes else ""
        detail = trial.detail[-DETAIL_CHARACTERS:]
        console.print(f"{kind}, seed {number}{changes}: {trial.kind.value}: {detail}", markup=False)

    tally = run_campaign(kinds or KINDS, minutes * 60, first, report)
    console.print(_table(tally))
    if output is not None:
        write_atomically(output, json.dumps(_results(tally, first), indent=2).encode())
    if tally.findings:
        raise SystemExit(1)


def _table(tally: Tally) -> Table:
    table = Table(title=f"{tally.numbers:,} numbers judged", title_justify="left")
    table.add_column("inputs")
    shown = [kind for kind in Class if any(found is kind for _, found in tally.counts)]
    for heading in ("all", *(kind.value for kind in shown)):
        table.add_column(heading, justify="right")
    for name in sorted({name for name, _ in tally.counts}):
        counts = [tally.counts[name, kind] for kind in shown]
        table.add_row(name, *(f"{count:,}" for count in (sum(counts), *counts)))
    return table


def _results(tally: Tally, first: int) -> dict[str, object]:
    return {
        "first_seed": first,
        "numbers_judged": tally.numbers,
        "counts": {
            name: {
                kind.name: tally.counts[name, kind] for kind in Class if tally.counts[name, kind]
            }
            for name in sorted({name for name, _ in tally.counts})
        },
        "findings": [
            {
                "kind": finding.kind,
                "seed": finding.seed,
                "class": finding.trial.kind.name,
                "changes": list(finding.trial.changes),
                "detail": finding.trial.detail,
            }
            for finding in tally.findings
        ],
    }


if __name__ == "__main__":
    main()
