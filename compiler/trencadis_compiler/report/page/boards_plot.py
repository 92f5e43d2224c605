"""The boards of a report as points: how fast, with how many multipliers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["boards_plot"]

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 90, 590, 22, 250
"""Margins of the plot, in units of the picture."""

Row = Mapping[str, Any]


def boards_plot(boards: Sequence[Row]) -> dict[str, Any] | None:
    """Places of points and ticks, both axes logarithmic; None if there are no two boards.

    Parameters
    ----------
    boards : sequence of mapping
        Boards as `compare_boards` gives them.
    """
    rows = [row for row in boards if row["inferences_per_s"] and row["multipliers"]]
    if len(rows) < 2:
        return None
    sizes = [row["multipliers"] for row in rows]
    rates = [row["inferences_per_s"] * row["cores"] for row in rows]
    across, x_ticks = _axis(sizes, LEFT, RIGHT)
    up, y_ticks = _axis(rates, BOTTOM, TOP)
    together: dict[tuple[float, float], list[str]] = {}
    for row, size, rate in zip(rows, sizes, rates, strict=True):
        together.setdefault((size, rate), []).append(row["board"])
    points = [
        {
            "label": ", ".join(names),
            "x": across(size),
            "y": up(rate),
            "front": not any(s < size and r >= rate for s, r in together),
        }
        for (size, rate), names in together.items()
    ]
    edges = {"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
    return {
        "width": WIDTH,
        "height": HEIGHT,
        **edges,
        "points": points,
        "x_ticks": x_ticks,
        "y_ticks": y_ticks,
    }


def _axis(values: Sequence[float], start: int, end: int) -> tuple[Any, list[dict[str, Any]]]:
    """A logarithmic scale around some values, and its ticks: powers of ten."""
    low = math.floor(math.log10(min(values) * 0.999))
    high = max(math.ceil(math.log10(max(values) * 1.001)), low + 1)

    def place(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return round(start + share * (end - start), 1)

    ticks = [{"at": place(10.0**i), "label": f"{10.0**i:,.10g}"} for i in range(low, high + 1)]
    return place, ticks
