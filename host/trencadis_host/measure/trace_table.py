"""A trace of layers as a table of 80 columns."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from trencadis_host.tables import figure_text

__all__ = ["trace_table"]

MAX_NAME = 40
"""Characters of a layer's name that are shown; the JSON has all."""


def trace_table(rows: Sequence[Mapping[str, Any]], title: str) -> Group:
    """A row for each layer; a column only where a layer has something in it.

    What is not finite is told below.

    Parameters
    ----------
    rows : sequence of mapping
        Rows as `trace_layers` gives them.
    title : str
        Title of the table.
    """
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("layer", overflow="fold", min_width=12)
    shown = [column for column in _COLUMNS if any(column[1](row) for row in rows)]
    for heading, _ in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        place = " (host)" if row["place"] == "host" else ""
        cells = [cell(row) for _, cell in shown]
        table.add_row(Text(_shortened(row["layer"]) + place), *cells)
    return Group(table, *(Text(line) for row in rows for line in _odd(row)))


def _odd(row: Mapping[str, Any]) -> Iterator[str]:
    """A line where numbers are not finite."""
    here, both = row["not_finite"], row.get("not_compared", 0)
    if here or both:
        line = f"{_shortened(row['layer'])}: {here:,} numbers are not finite"
        if both:
            line += f"; {both:,} were not compared, as they or the float model's are not finite"
        yield line


def _shortened(name: str) -> str:
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name[: MAX_NAME + 1])
    return shown if len(name) <= MAX_NAME else f"{shown[: MAX_NAME - 3]}..."


def _range(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return ""
    return f"{_short(row['low'])} to {_short(row['high'])}"


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def _percent(name: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(row: Mapping[str, Any]) -> str:
        value = row[name]
        if value is None:
            return ""
        share = 100 * value
        return "0" if not share else "<0.01" if share < 0.01 else f"{share:.3g}"

    return cell


def _correlation(row: Mapping[str, Any]) -> str:
    value = row["correlation"]
    return "" if value is None else f"{value:.4f}"


def _cycles(row: Mapping[str, Any]) -> str:
    value = row["cycles"]
    return figure_text(round(value)) if isinstance(value, int | float) else ""


_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("range", _range),
    ("not 0 %", _percent("nonzero")),
    ("satur. %", _percent("saturated")),
    ("correl.", _correlation),
    ("error %", _percent("error")),
    ("cycles", _cycles),
)
