"""The table of `docs/serving.md`, from what `make bench-serving` wrote.

`python -m trencadis_bench.serving.docs` puts it between the page's marks.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from trencadis_format.command_line import reported
from trencadis_format.errors import UserError
from trencadis_format.files import write_atomically

__all__ = ["main", "rebuilt"]

BEGIN, END = "<!-- bench-serving: begin -->\n", "<!-- bench-serving: end -->"

HEAD = (
    "| device | | clients | inputs per request | max. batch | requests/s | p50 ms | p99 ms "
    "| of the session, clock | CPU | server's own CPU ms per request |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def rebuilt(
    page: str, rows: Sequence[Mapping[str, Any]], memory: Mapping[str, Any] | None = None
) -> str:
    """The page with another table between its marks.

    Parameters
    ----------
    page : str
        The page.
    rows : sequence of mapping
        Rows of `serving.json`.
    memory : mapping, optional
        What `serving-memory.json` has.

    Raises
    ------
    UserError
        If the page has no marks.
    """
    before, begun, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise UserError(f"the page has no lines {BEGIN.strip()} and {END}; add them")
    return "".join((before, BEGIN, *_lines(rows, memory), END, after))


def _lines(rows: Sequence[Mapping[str, Any]], memory: Mapping[str, Any] | None) -> Iterator[str]:
    yield HEAD
    first = [row["share_of_session"] for row in rows if row["device"] == rows[0]["device"]]
    best = max(first, default=0.0)
    for row in rows:
        share = f"{row['share_of_session']:.0%}"
        cells = (
            row["device"],
            "gRPC" if row["protocol"] == "grpc" else "HTTP",
            f"{row['clients']}",
            f"{row['batch']}",
            f"{row['max_batch']}",
            f"{row['requests_per_s']:,.0f}",
            f"{row['p50_ms']:,.3g}" if row["p50_ms"] < 1000 else f"{row['p50_ms']:,.0f}",
            f"{row['p99_ms']:,.3g}" if row["p99_ms"] < 1000 else f"{row['p99_ms']:,.0f}",
            f"**{share}**" if row["share_of_session"] == best else share,
            f"{row['share_by_cpu']:.0%}",
            f"{row['overhead_cpu_ms']:.2f}",
        )
        yield f"| {' | '.join(cells)} |\n"
    errors = sum(row["errors"] for row in rows)
    yield f"\nErrors: {errors}."
    if memory is not None:
        begin, end = memory["rss_first_mib"], memory["rss_last_mib"]
        yield (
            f" Over {memory['requests']:,} further requests with one input, of which "
            f"{memory['errors']} failed, the server's memory went from {begin:.0f} to "
            f"{end:.0f} MiB."
        )
    yield "\n"


@click.command()
@click.option("--rows", type=FILE, default="build/bench/serving.json", show_default=True)
@click.option("--memory", type=FILE, help="[default: serving-memory.json beside it, if any]")
@click.option("--page", type=FILE, default="docs/serving.md", show_default=True)
def main(rows: Path, memory: Path | None, page: Path) -> None:
    """Rebuild the table of docs/serving.md from what `make bench-serving` measured."""
    with reported("serving benchmark"):
        beside = memory or rows.with_name("serving-memory.json")
        watched = json.loads(beside.read_bytes()) if beside.exists() else None
        text = rebuilt(page.read_text("utf-8"), json.loads(rows.read_bytes()), watched)
        write_atomically(page, text.encode())


if __name__ == "__main__":
    main()
