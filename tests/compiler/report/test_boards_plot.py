"""Boards as points."""

from typing import Any

import pytest

from trencadis_compiler.report.page.boards_plot import BOTTOM, LEFT, RIGHT, TOP, boards_plot


def row(name: str, multipliers: int | None, rate: float | None, cores: int = 1) -> dict[str, Any]:
    return {"board": name, "multipliers": multipliers, "inferences_per_s": rate, "cores": cores}


def test_points_lie_on_logarithmic_scales() -> None:
    plot = boards_plot([row("a", 10, 1e3), row("b", 1000, 1e4, 10), row("none", 100, None)])
    assert plot is not None
    first, second = plot["points"]
    assert [tick["label"] for tick in plot["x_ticks"]] == ["1", "10", "100", "1,000", "10,000"]
    ticks = {tick["label"]: tick["at"] for tick in plot["x_ticks"]}
    assert (ticks["1"], ticks["10,000"]) == (LEFT, RIGHT)
    assert (first["x"], second["x"]) == (ticks["10"], ticks["1,000"])
    ticks = {tick["label"]: tick["at"] for tick in plot["y_ticks"]}
    assert (first["y"], second["y"]) == (ticks["1,000"], ticks["100,000"])
    assert all(TOP <= point["y"] <= BOTTOM for point in plot["points"])


def test_boards_that_a_smaller_one_beats() -> None:
    plot = boards_plot([row("a", 100, 5e3), row("b", 200, 5e3), row("c", 300, 6e3)])
    assert plot is not None
    assert [point["front"] for point in plot["points"]] == [True, False, True]


@pytest.mark.parametrize("rows", [[], [row("a", 10, 1e3)], [row("a", 10, None), row("b", 1, 1.0)]])
def test_nothing_to_compare(rows: list[dict[str, Any]]) -> None:
    assert boards_plot(rows) is None


def test_equal_boards_have_scales() -> None:
    plot = boards_plot([row("a", 100, 1e3), row("b", 100, 1e3)])
    assert plot is not None
    assert all(point["front"] for point in plot["points"])
