"""The same network on other boards: cycles of one core, and inferences per second."""

from collections.abc import Callable, Sequence
from typing import Any

from trencadis_boards import Board, BoardError, board_names, load_board
from trencadis_compiler.errors import CompileError
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.maps.compile_maps import CompiledMaps
from trencadis_compiler.maps.place import place_maps
from trencadis_compiler.report.advice import cycles_on
from trencadis_compiler.report.deadline import OutOfTime, limited
from trencadis_compiler.report.map_advice import predict_maps
from trencadis_compiler.segments.cut_segment import CompiledPieces
from trencadis_compiler.segments.segment import CompiledSegment

__all__ = ["compare_boards"]

MAX_BOARD_S = 15.0
"""Seconds after which a network is not placed on a board."""


def compare_boards(
    segments: Sequence[CompiledSegment | CompiledPieces | CompiledMaps],
    planner: Planner,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """A row for every board that is shipped: placed and scheduled, no image made.

    Parameters
    ----------
    segments : sequence of CompiledSegment, CompiledPieces or CompiledMaps
        The overlay's share of the network, as it was compiled for one board.
    planner : Planner
        Planner with the packings that were found.
    progress : callable
        Called with a short message before each board.
    """
    rows = []
    for name in board_names():
        progress(f"placing on {name}")
        row: dict[str, Any] = {"board": name, "cycles": None, "inferences_per_s": None}
        try:
            board = load_board(name)
            row["cores"] = board.compute_units * board.kernel.cores
            row["multipliers"] = row["cores"] * board.kernel.core.multipliers
            trial = planner.trial(limited(progress, MAX_BOARD_S))
            cycles = sum(_cycles(segment, board, trial) for segment in segments)
            rate = board.clock_mhz * 1e6 / cycles if cycles else None
            row |= {"cycles": cycles, "inferences_per_s": rate, "note": ""}
        except (BoardError, CompileError, OutOfTime) as error:
            row |= {"note": str(error)}
        rows.append({"cores": None, "multipliers": None, **row})
    return rows


def _cycles(
    segment: CompiledSegment | CompiledPieces | CompiledMaps, board: Board, planner: Planner
) -> float:
    """Cycles per inference of a segment on a core of a board.

    Raises
    ------
    CompileError
        If it does not fit, or the board has another kind of engine.
    """
    if not isinstance(segment, CompiledMaps):
        return cycles_on(segment, board, planner)
    config = board.kernel.core.map
    if config is None:
        raise CompileError(
            f"has list engines, this network was placed on a map engine; --board {board.name} "
            "compiles it for them"
        )
    place_maps(segment.network, config).check()
    return predict_maps(segment, segment.network, board.kernel)
