"""Figures that a report begins with: cycles with and without zeros, and speed end to end."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx

from trencadis_boards import Board
from trencadis_compiler.cutting.baselines import Baselines, cut_baselines, predict_baselines
from trencadis_compiler.errors import CompileError
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.maps.compile_maps import CompiledMaps
from trencadis_compiler.report.advice import advise
from trencadis_compiler.report.cost import link_seconds, overlay_seconds
from trencadis_compiler.report.deadline import OutOfTime, limited
from trencadis_compiler.report.map_advice import advise_maps, dense_maps
from trencadis_compiler.report.measure import host_seconds, model_seconds
from trencadis_compiler.segments.cut_segment import CompiledPieces
from trencadis_compiler.segments.segment import CompiledSegment
from trencadis_format.compiled import Segment

__all__ = ["truth"]

BASELINES_S = 60.0
"""Seconds after which the network without its zeros is not predicted."""


def truth(
    overlays: Sequence[CompiledSegment | CompiledPieces | CompiledMaps],
    segments: Sequence[Segment],
    board: Board,
    model: onnx.ModelProto,
    planner: Planner,
    *,
    advice_s: float,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Figures that a network's report begins with, JSON-ready.

    Parameters
    ----------
    overlays : sequence of CompiledSegment or CompiledPieces
        The overlay segments, in order.
    segments : sequence of Segment
        All segments, in order.
    board : Board
        Target board.
    model : ModelProto
        The whole model, as onnxruntime runs it.
    planner : Planner
        Planner with the packings that were found.
    advice_s : float
        Seconds that may be spent on trying changes; 0 for none.
    progress : callable
        Called with a short message before each step.

    Returns
    -------
    dict
        `cycles_dense` and `cycles_sparse_weights` (None where the dense network fits no array, or
        was not placed within `BASELINES_S`);
        `latency_s` of one inference and `inferences_per_s` of a stream of them, modelled: the
        slowest of overlay, transfers and host; `host_s` and `onnxruntime_inferences_per_s`,
        measured on this machine; `advice`; `verdict`, a sentence if the overlay does not pay.
    """
    cycles = sum(segment.cycles for segment in overlays)
    progress("predicting the network without its zeros")
    dense, sparse = _baselines(overlays, planner.trial(limited(progress, BASELINES_S)))
    progress("measuring onnxruntime on this machine")
    host_s = host_seconds(segments)
    whole_s = model_seconds(model)
    link_s = sum(link_seconds(segment, board) for segment in segments)
    overlay_s = overlay_seconds(cycles, board)
    alone_s = overlay_seconds(sum(segment.latency_cycles for segment in overlays), board)
    cores = board.compute_units * board.kernel.cores
    known = None if host_s is None else host_s + alone_s + link_s
    slowest = max(overlay_s / cores, link_s, host_s or 0.0)
    rate = 1 / slowest if slowest and host_s is not None else None
    native = 1 / whole_s if whole_s else None
    figures = {
        "cycles": cycles,
        "cycles_dense": dense,
        "cycles_sparse_weights": sparse,
        "latency_s": known,
        "host_s": host_s,
        "transfer_s": link_s,
        "inferences_per_s": rate,
        "onnxruntime_inferences_per_s": native,
    }
    advice: list[dict[str, Any]] = []
    if advice_s:
        # A core has either list engines or a map engine.
        maps = [segment for segment in overlays if isinstance(segment, CompiledMaps)]
        listed = [segment for segment in overlays if not isinstance(segment, CompiledMaps)]
        if maps:
            advice = advise_maps(maps, budget_s=advice_s, progress=progress)
        else:
            advice = advise(listed, board, planner, budget_s=advice_s, progress=progress)
    return {**figures, "advice": advice, "verdict": _verdict(figures, board)}


def _baselines(
    overlays: Sequence[CompiledSegment | CompiledPieces | CompiledMaps], planner: Planner
) -> tuple[float | None, float | None]:
    """Cycles of all segments dense, and with sparse weights alone."""
    try:
        found = [_baselines_of(segment, planner) for segment in overlays]
    except (CompileError, OutOfTime):
        return None, None
    dense = sum(baselines.dense for baselines in found)
    sparse = sum(baselines.sparse_weights for baselines in found)
    return (dense, sparse) if math.isfinite(dense + sparse) else (None, None)


def _baselines_of(
    segment: CompiledSegment | CompiledPieces | CompiledMaps, planner: Planner
) -> Baselines:
    if isinstance(segment, CompiledMaps):
        return Baselines(dense_maps(segment), segment.dense_cycles)
    if isinstance(segment, CompiledPieces):
        return cut_baselines(segment.cut, segment.segment.overlays[0].kernel, planner)
    return predict_baselines(segment.network, segment.placement.core, planner)


def _verdict(figures: dict[str, Any], board: Board) -> str:
    """One plain sentence if this machine alone is as fast; nothing otherwise."""
    ours, native = figures["inferences_per_s"], figures["onnxruntime_inferences_per_s"]
    if not figures["cycles"]:
        return "Nothing of this model runs on the overlay, so its zeros buy nothing there."
    if ours is None or native is None or ours > native:
        return ""
    return (
        f"The overlay of {board.name} does not pay for this model: modelled {ours:,.0f} "
        f"inferences/s, where onnxruntime does {native:,.0f} on this machine."
    )
