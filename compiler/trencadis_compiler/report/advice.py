"""Advice: what would make better use of a network's zeros, predicted by trying it.

Each proposal changes a layer of this very network (its mask, its zeros, its winners), or the board;
the changed network is packed, placed and scheduled like the original. Nothing is retrained: the
gain is in cycles, the accuracy is for training to show.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from trencadis_boards import Board, BoardError, load_board
from trencadis_compiler.cutting.plan_cut import plan_cut
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.kernels import MAX_FILLED, Kernels
from trencadis_compiler.ir.network import Layer, Network, Winners
from trencadis_compiler.mapping.place import place
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.mapping.schedule import schedule
from trencadis_compiler.report.deadline import OutOfTime, limited
from trencadis_compiler.segments.cut_segment import CompiledPieces
from trencadis_compiler.segments.segment import CompiledSegment
from trencadis_format.config import CoreConfig, KernelConfig
from trencadis_format.layer_tables import Selection

__all__ = [
    "Advice",
    "Change",
    "advise",
    "changes_of",
    "complementary",
    "cycles_on",
    "densities_of",
    "one_of",
    "predicted_cycles",
]

MAX_LAYERS = 6
"""Layers for which changes are tried: those that take the most cycles."""

MIN_GAIN = 1.03
"""Smaller gains are not worth a line."""

WINNERS = 0.1
"""Share of the channels that k-WTA would keep, as in the published networks."""

PRUNED = 1 / 8
"""Density to which pruning further is tried."""

WIDER_BOARD = "u250"

MAX_BOARD_LAYERS = 60
"""Layers of a network up to which it is placed on that board, which takes time."""


@dataclass(frozen=True)
class Change:
    """A change of one layer: what a person would do, and the layer after it."""

    layer: str
    why: str
    change: str
    changed: Layer


@dataclass(frozen=True)
class Advice:
    """A change and what it would gain.

    Attributes
    ----------
    layer : str
        Name of the layer; empty for the whole network.
    why : str
        Why zeros are lost there.
    change : str
        What to change.
    gain : float
        Cycles per inference of the overlay today over those after the change; of another board,
        times at the clocks that boards state.
    """

    layer: str
    why: str
    change: str
    gain: float


def advise(
    segments: Sequence[CompiledSegment | CompiledPieces],
    board: Board,
    planner: Planner,
    *,
    budget_s: float,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Try changes, and tell those that gain, the best first, JSON-ready.

    Parameters
    ----------
    segments : sequence of CompiledSegment or CompiledPieces
        The overlay's share of the network.
    board : Board
        Target board.
    planner : Planner
        Planner with the packings that were found.
    budget_s : float
        Seconds after which no more changes are tried.
    progress : callable
        Called with a short message before each try.
    """
    total = sum(segment.cycles for segment in segments)
    until = time.monotonic() + budget_s
    trial = planner.trial(limited(progress, budget_s))
    found: list[Advice] = []
    for segment, change in _changes(segments):
        if time.monotonic() > until:
            break
        progress(f"trying: {change.layer}: {change.change}")
        try:
            after = predicted_cycles(segment, change, trial)
        except CompileError:
            continue  # it would not fit the board
        except OutOfTime:
            break
        gain = total / (total - segment.cycles + after)
        found.append(Advice(change.layer, change.why, change.change, gain))
    layers = sum(len(segment.network.layers) for segment in segments)
    if layers <= MAX_BOARD_LAYERS and board.name != WIDER_BOARD and time.monotonic() < until:
        progress(f"trying the board {WIDER_BOARD}")
        found += _on_wider_board(segments, total / board.clock_mhz, trial)
    gains = [asdict(advice) for advice in found if advice.gain >= MIN_GAIN]
    return sorted(gains, key=lambda advice: -advice["gain"])


def predicted_cycles(
    segment: CompiledSegment | CompiledPieces, change: Change, planner: Planner
) -> float:
    """Cycles per inference of a segment with a layer changed.

    Raises
    ------
    CompileError
        If the changed network does not fit.
    """
    layers = tuple(
        change.changed if layer.name == change.layer else layer for layer in segment.network.layers
    )
    network = replace(segment.network, layers=layers)
    if isinstance(segment, CompiledPieces):
        density = segment.cut.density
        return plan_cut(
            network, segment.segment.overlays[0].kernel, density, planner=planner
        ).cycles
    return _placed_cycles(network, segment.placement.core, densities_of(segment), planner)


def _cut_cycles(
    segment: CompiledPieces, network: Network, kernel: KernelConfig, planner: Planner
) -> float:
    density = segment.cut.density
    return plan_cut(network, kernel, density, planner=planner, progress=planner.progress).cycles


def _placed_cycles(
    network: Network, core: CoreConfig, density: Mapping[str, float], planner: Planner
) -> float:
    return schedule(place(network, core, density, planner=planner)).period / core.batch_lanes


def densities_of(segment: CompiledSegment) -> dict[str, float]:
    """The share of each map that is not zero, as the placement was made for."""
    found = {}
    for placed in segment.placement.layers:
        producer = segment.network.producer(placed.layer.source)
        if producer is not None:
            found[producer.name] = placed.feed.expected / placed.feed.channels
    return found


def _changes(
    segments: Sequence[CompiledSegment | CompiledPieces],
) -> Iterator[tuple[CompiledSegment | CompiledPieces, Change]]:
    """Changes of the layers that take the most cycles, those first."""
    ranked = sorted(
        ((segment, row) for segment in segments for row in segment.report["layers"]),
        key=lambda pair: -pair[1]["cycles"],
    )
    for segment, row in ranked[:MAX_LAYERS]:
        layer = next(one for one in segment.network.layers if one.name == row["name"])
        most = max(e.kernels_per_tile for e in segment.placements[0].core.engines)
        read = bool(segment.network.readers(layer.target))
        for change in changes_of(layer, most, row["packing_efficiency"], read=read):
            yield segment, change


def changes_of(layer: Layer, kernels_per_tile: int, full: float, *, read: bool) -> Iterator[Change]:
    """Changes worth a try for a layer.

    Parameters
    ----------
    layer : Layer
        The layer.
    kernels_per_tile : int
        Kernels that the engine can overlay in a tile.
    full : float
        Part of its tiles that is filled.
    read : bool
        Another layer reads its map, so that k-WTA would save that layer's cycles.
    """
    density = layer.nonzeros / layer.weights.size
    masked = layer.weights.groups == 1 and layer.weights.size <= MAX_FILLED
    ways = min(kernels_per_tile, int(1 / density)) if density and masked else 1
    lost = f"{1 - density:.0%} of its weights are zero, but where kernels collide: {full:.0%} full"
    if ways > 1:
        yield Change(
            layer.name,
            lost,
            f"complementary masks, {ways} kernels per tile (`sparsify`)",
            replace(layer, weights=complementary(layer.weights, ways)),
        )
        yield Change(
            layer.name,
            lost,
            f"1 of every {ways} neighbouring weights (mask `n:m` of `sparsify`)",
            replace(layer, weights=one_of(layer.weights, ways)),
        )
    further = min(kernels_per_tile, int(1 / PRUNED))
    if density > PRUNED and further > ways and masked:
        yield Change(
            layer.name,
            f"{density:.0%} of its weights are not zero",
            f"prune to {1 / further:.1%} with complementary masks, {further} kernels per tile",
            replace(layer, weights=complementary(layer.weights, further)),
        )
    channels, rows, columns = layer.out_shape
    if read and layer.winners is None:
        k = max(1, round(WINNERS * channels))
        whole = rows * columns == 1
        yield Change(
            layer.name,
            "its activations are only as sparse as ReLU leaves them",
            f"k-WTA after it, {k} of {channels} channels",
            replace(layer, winners=Winners(k, Selection.EXACT, whole)),
        )


def complementary(weights: Kernels, ways: int) -> Kernels:
    """Weights re-masked so that every `ways` kernels share no position.

    Each kernel keeps its own weights where its mask allows; where it had none, it gets a 1, which
    stands for what training would put there. Deterministic.

    Parameters
    ----------
    weights : Kernels
        The weights.
    ways : int
        Kernels that are to fit one tile.
    """
    rng = np.random.default_rng(0)
    size = weights.length
    found = []
    for first in range(0, len(weights), ways):
        order = rng.permutation(size)
        for place_, kernel in enumerate(range(first, min(first + ways, len(weights)))):
            mine = order[place_::ways]
            own = slice(weights.starts[kernel], weights.starts[kernel + 1])
            row = np.zeros(size, np.int8)
            row[weights.places[own]] = weights.values[own]
            found.append((np.full(len(mine), kernel), mine, np.where(row[mine] == 0, 1, row[mine])))
    kernels, places, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Kernels.from_coordinates(weights.shape, kernels, places, values)


def one_of(weights: Kernels, m: int) -> Kernels:
    """Weights of which the largest of every m neighbours of a kernel is kept, or a 1 is put there.

    Parameters
    ----------
    weights : Kernels
        The weights.
    m : int
        Neighbours, in the order of channels, rows and columns.
    """
    rng = np.random.default_rng(0)
    groups = math.ceil(weights.length / m)
    found = []
    for kernel in range(len(weights)):
        own = slice(weights.starts[kernel], weights.starts[kernel + 1])
        row = np.zeros(groups * m)
        row[weights.places[own]] = weights.values[own]
        # Where all are zero training puts a weight anywhere: small noise chooses.
        largest = np.argmax(np.abs(row.reshape(groups, m)) + rng.random((groups, m)) / 2, axis=1)
        places = np.minimum(np.arange(groups) * m + largest, weights.length - 1)
        values = np.where(row[places] == 0, 1, row[places])
        found.append((np.full(groups, kernel), places, values))
    kernels, places, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Kernels.from_coordinates(weights.shape, kernels, places, values)


def _on_wider_board(
    segments: Sequence[CompiledSegment | CompiledPieces], total_us: float, planner: Planner
) -> list[Advice]:
    """The gain of a board with a larger array, in microseconds per inference of a core."""
    try:
        board = load_board(WIDER_BOARD)
        core = board.kernel.core
        cycles = sum(cycles_on(segment, board, planner) for segment in segments)
    except (BoardError, CompileError, OutOfTime):
        return []
    if not cycles:
        return []
    multipliers = segments[0].placements[0].core.multipliers
    return [
        Advice(
            "",
            f"{multipliers} multipliers per core now",
            f"the board {WIDER_BOARD}, {core.multipliers} multipliers per core",
            total_us / (cycles / board.clock_mhz),
        )
    ]


def cycles_on(segment: CompiledSegment | CompiledPieces, board: Board, planner: Planner) -> float:
    """Cycles per inference of a segment on a core of a board.

    Raises
    ------
    CompileError
        If it does not fit.
    """
    if isinstance(segment, CompiledPieces):
        return _cut_cycles(segment, segment.network, board.kernel, planner)
    return _placed_cycles(segment.network, board.kernel.core, densities_of(segment), planner)
