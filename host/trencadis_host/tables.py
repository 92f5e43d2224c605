"""Measured figures as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

__all__ = ["figure_text", "figures_table", "rows_table"]


def figures_table(title: str, figures: Mapping[str, Any]) -> Table:
    """Two columns: names, with spaces, and values. What was not measured (None) is left out."""
    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in figures.items():
        if value is not None:
            table.add_row(_heading(name), figure_text(value))
    return table


def rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row per mapping; all have the same names, which are the columns'."""
    table = Table(title=Text(title), title_justify="left")
    for name in rows[0]:
        table.add_column(_heading(name), justify="right")
    for row in rows:
        table.add_row(*(figure_text(value) for value in row.values()))
    return table


def _heading(name: str) -> str:
    """A figure's key as people read it: a `word` of keys is a sample or an inference."""
    text = name.replace("_", " ").replace("per word", "per inference")
    return text.replace("words per", "inferences per").replace("words", "samples")


def figure_text(value: Any) -> str:
    """Numbers with separators, and no more digits than they are worth.

    Integers are shown whole, other numbers to three digits, at least to whole ones.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.3g}"
