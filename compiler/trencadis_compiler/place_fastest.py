"""Leaves to the host what is modelled to be faster there, transfers included.

Segments run one after the other, and each takes its maps from the host and gives them back, so that
whether one pays does not depend on the others.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from trencadis_boards import Board
from trencadis_compiler.compile_chains import CompiledPart, Segments
from trencadis_compiler.errors import Unsupported
from trencadis_compiler.importer.graph import Graph
from trencadis_compiler.passes.partition import computed_nodes
from trencadis_compiler.report.cost import host_model_seconds, link_seconds, overlay_seconds
from trencadis_compiler.segments.cut_segment import CompiledPieces
from trencadis_format.compiled import OverlaySegment

__all__ = ["Fastest", "place_fastest"]


@dataclass(frozen=True)
class Fastest:
    """Remaining chains, and why each is where it is.

    Attributes
    ----------
    fitted : Fitted
        The chains that stay; the nodes of others have a reason.
    kept : mapping of str to str
        Why a chain stays, by the tensor that it makes.
    """

    fitted: Segments
    kept: dict[str, str]


def place_fastest(
    graph: Graph, fitted: Segments, board: Board, on_overlay: Collection[str]
) -> Fastest:
    """Choose a place for every chain by the cost model.

    Parameters
    ----------
    graph : Graph
        The model.
    fitted : Fitted
        Chains that the board's core holds.
    board : Board
        Target board.
    on_overlay : collection of str
        Nodes that are to stay whatever it costs.
    """
    chains, reasons, kept = dict(fitted.chains), dict(fitted.reasons), {}
    for made, chain in fitted.chains.items():
        nodes = computed_nodes(graph, chain)
        ours, text = _seconds(fitted.made[made], board)
        theirs = host_model_seconds(graph, nodes)
        if any(node.name in on_overlay for node in nodes):
            kept[made] = f"{text}, {_micro(theirs)} on the host; placed there by --place"
        elif ours <= theirs:
            kept[made] = f"{text}, {_micro(theirs)} on the host (modelled)"
        else:
            del chains[made]
            why = f"faster on the host: {_micro(theirs)}; {text} (modelled)"
            reasons |= {node.name: Unsupported(f"{made!r}", why) for node in nodes}
    segments = {made: fitted.made[made] for made in chains}
    return Fastest(replace(fitted, chains=chains, made=segments, reasons=reasons), kept)


def _seconds(compiled: CompiledPart, board: Board) -> tuple[float, str]:
    """Seconds of a segment on the overlay, and what they are made of."""
    moved = (
        compiled.segment
        if isinstance(compiled, CompiledPieces)
        else OverlaySegment(compiled.overlay)
    )
    cycles, link = overlay_seconds(compiled.cycles, board), link_seconds(moved, board)
    text = f"{_micro(cycles + link)} on the overlay, {_micro(link)} of these for transfers"
    return cycles + link, text


def _micro(seconds: float) -> str:
    return f"{1e6 * seconds:,.4g} us"
