"""The cost model: seconds of one inference on the overlay, on the link to it, and on the host.

The overlay's seconds are predicted cycles at the board's clock. The link's are bytes at the board's
bandwidth. The host's are those of a usual processor that runs onnxruntime; they are for comparing
places before anything is measured, and the same on every machine, so that a compile is, too.
"""

import math
from collections.abc import Iterable

from trencadis_boards import Board
from trencadis_compiler.importer.graph import Graph, Node
from trencadis_compiler.report.multiplications import multiplications, sizes_of
from trencadis_format.compiled import CutSegment, OverlaySegment, Segment

__all__ = ["host_model_seconds", "link_seconds", "overlay_seconds"]

HOST_PRODUCTS_PER_S = 25e9
"""Multiplications of convolutions and matrix products: two cores with AVX2, measured 14 to 42."""

HOST_NUMBERS_PER_S = 4e9
"""Weights read, and activations written, of which each takes its time once per node."""

HOST_NODE_S = 1e-6
"""Seconds that a node takes however little it does."""


def overlay_seconds(cycles: float, board: Board) -> float:
    """Seconds of cycles of the kernel."""
    return cycles / (board.clock_mhz * 1e6)


def link_seconds(segment: Segment, board: Board) -> float:
    """Seconds in which a segment's maps, and images of pieces, cross the link to the board."""
    bandwidth = min(board.memory_bytes_per_s, board.flow.host_bytes_per_s)
    return _moved_bytes(segment) / bandwidth


def _moved_bytes(segment: Segment) -> int:
    """Bytes that go to the device and come back for one inference, images of pieces included."""
    if isinstance(segment, OverlaySegment):
        return segment.overlay.input_bytes + segment.overlay.output_bytes
    if isinstance(segment, CutSegment):
        pieces = [piece for stage in segment.stages for piece in stage.pieces]
        maps = sum(
            segment.overlays[piece.image].input_bytes + segment.overlays[piece.image].output_bytes
            for piece in pieces
        )
        return maps + sum(len(overlay.image) for overlay in segment.overlays)
    return 0


def host_model_seconds(graph: Graph, nodes: Iterable[Node]) -> float:
    """Seconds of nodes on the host, modelled.

    Parameters
    ----------
    graph : Graph
        The model.
    nodes : iterable of Node
        The nodes; sizes that are open count as one.
    """
    seconds = 0.0
    for node in nodes:
        products = multiplications(graph, node)
        weights = _size(graph, node.inputs[1]) if products else 0
        made = sum(_size(graph, name) for name in node.outputs)
        seconds += (
            HOST_NODE_S + products / HOST_PRODUCTS_PER_S + (weights + made) / HOST_NUMBERS_PER_S
        )
    return seconds


def _size(graph: Graph, name: str) -> int:
    return math.prod(sizes_of(graph, name) or (0,))
