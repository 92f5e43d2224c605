"""The graph of a model as lines beside a list of its nodes, like a map of railways."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

__all__ = ["graph_plot"]

ROW, LANE, MARGIN = 26, 16, 12
"""Height of a row, width of a lane, and the distance of the first lane, in pixels."""

MAX_LANES = 12
"""Lines beside each other; more are drawn in the last lane."""

MAX_NODES = 3000
"""Nodes that are drawn; of more, the first."""


def graph_plot(
    nodes: Sequence[Mapping[str, Any]], segments: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Rows of nodes with a heading for each segment, and the lines that join them.

    Parameters
    ----------
    nodes : sequence of mapping
        Nodes as `drawn_nodes` gives them.
    segments : sequence of mapping
        `place` and `reason` of each.
    """
    shown = nodes[:MAX_NODES]
    lanes = _lanes(shown)
    rows: list[dict[str, Any]] = []
    at: list[tuple[int, int]] = []
    for number, members in groupby(enumerate(shown), key=lambda item: item[1]["segment"]):
        rows.append({"segment": number, **segments[number]})
        for index, node in members:
            at.append(
                (MARGIN + LANE * min(lanes[index], MAX_LANES - 1), ROW * len(rows) + ROW // 2)
            )
            rows.append({"node": node, "place": segments[number]["place"]})
    points = [
        {"x": x, "y": y, "place": segments[node["segment"]]["place"]}
        for (x, y), node in zip(at, shown, strict=True)
    ]
    lines = [
        {"path": _path(at[source], at[index]), "cut": shown[source]["segment"] != node["segment"]}
        for index, node in enumerate(shown)
        for source in node["reads"]
    ]
    width = 2 * MARGIN + LANE * min(max(lanes, default=0), MAX_LANES - 1)
    return {
        "rows": rows,
        "points": points,
        "lines": lines,
        "width": width,
        "height": ROW * len(rows),
        "row": ROW,
        "hidden": len(nodes) - len(shown),
    }


def _lanes(nodes: Sequence[Mapping[str, Any]]) -> list[int]:
    """A lane for each node, which stays its own until its last reader."""
    last = {source: index for index, node in enumerate(nodes) for source in node["reads"]}
    lanes: list[int] = []
    held: dict[int, int] = {}
    for index, node in enumerate(nodes):
        for source in node["reads"]:
            if last[source] == index and held.get(lanes[source]) == source:
                del held[lanes[source]]
        lane = next(lane for lane in range(len(nodes)) if lane not in held)
        lanes.append(lane)
        if index in last:
            held[lane] = index
    return lanes


def _path(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Down the lane of the one that is read, and over to the reader's in the last row."""
    (x, y), (to_x, to_y) = start, end
    turn = to_y - ROW
    if x == to_x:
        return f"M{x} {y}V{to_y}"
    return f"M{x} {y}V{turn}C{x} {turn + ROW // 2} {to_x} {turn + ROW // 2} {to_x} {to_y}"
