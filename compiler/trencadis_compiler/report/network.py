"""The report of a whole network: its overlay segments together, and what is left to the host."""

from collections.abc import Mapping, Sequence
from typing import Any

from trencadis_boards import Board
from trencadis_compiler.importer.graph import Graph
from trencadis_compiler.maps.compile_maps import CompiledMaps
from trencadis_compiler.report.drawn_nodes import drawn_nodes
from trencadis_compiler.report.multiplications import multiplications
from trencadis_compiler.segments.cut_segment import CompiledPieces
from trencadis_compiler.segments.segment import CompiledSegment
from trencadis_format.compiled import HostSegment, Segment

__all__ = ["network_report", "overlay_share"]

LISTED = ("layers", "engines", "other_cycles", "hints")

SUMMED = ("nonzero_weights", "weights", "dense_products", "useful_products", "image_bytes")


def network_report(
    graph: Graph,
    board: Board,
    overlays: Sequence[CompiledSegment | CompiledPieces | CompiledMaps],
    segments: Sequence[Segment],
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    """The report as JSON-ready data. Cycles are for one sample of one core.

    `reasons` tells why overlay segments are there, by the tensor that they make.
    """
    reports = _numbered(overlays, segments)
    period = sum(report["cycles_per_word"] for report in reports)
    clock = board.clock_mhz * 1e6
    base: dict[str, Any]
    if len(reports) == 1:
        base = dict(reports[0])
    else:
        base = {
            "board": board.name,
            **{name: [row for report in reports for row in report[name]] for name in LISTED},
            "cycles_per_word": float(period),
            "cycles_are": _basis(reports),
            "limited_by": "segments that run one after the other",
            **{name: sum(report[name] for report in reports) for name in SUMMED},
            "multipliers_per_core": max((r["multipliers_per_core"] for r in reports), default=0),
            "clock_mhz": board.clock_mhz,
        }
        used = period * base["multipliers_per_core"]
        base["multiplier_use"] = base["useful_products"] / used if used else 0.0
    return {
        **base,
        "cycles": period,
        "latency_s": sum(segment.latency_cycles for segment in overlays) / clock,
        "inferences_per_s": clock / period if period else None,
        "overlay_share": overlay_share(graph, segments),
        "segments": [
            {
                "place": "host" if isinstance(segment, HostSegment) else "overlay",
                "nodes": list(segment.nodes),
                "reason": segment.reason
                if isinstance(segment, HostSegment)
                else reasons.get(segment.outputs[0], ""),
            }
            for segment in segments
        ],
        "graph": drawn_nodes(graph, segments),
    }


def _numbered(
    overlays: Sequence[CompiledSegment | CompiledPieces | CompiledMaps], segments: Sequence[Segment]
) -> list[dict[str, Any]]:
    """Reports of overlay segments, with the segment's number in every row."""
    numbers = [i for i, segment in enumerate(segments) if not isinstance(segment, HostSegment)]
    return [
        {
            **overlay.report,
            **{
                name: [{"segment": number, **row} for row in overlay.report[name]]
                for name in ("layers", "other_cycles")
            },
        }
        for number, overlay in zip(numbers, overlays, strict=True)
    ]


def _basis(reports: Sequence[Mapping[str, Any]]) -> str:
    if not reports:
        return "none: nothing runs on the overlay"
    return "; ".join(dict.fromkeys(report["cycles_are"] for report in reports))


def overlay_share(graph: Graph, segments: Sequence[Segment]) -> float | None:
    """Multiplications of layers on the overlay over all of the model's (`multiplications`).

    None if the model has none, or the sizes of some are not known.
    """
    on_overlay = {
        name
        for segment in segments
        if not isinstance(segment, HostSegment)
        for name in segment.nodes
    }
    total, share = 0, 0
    for node in graph.nodes:
        count = multiplications(graph, node)
        total += count
        if node.name in on_overlay:
            share += count
    return share / total if total else None
