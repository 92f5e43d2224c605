"""Advice is what the changed network really takes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.cutting.plan_cut import plan_cut
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.packing.tiles import FULL_EFFORT
from trencadis_compiler.report.advice import (
    Change,
    advise,
    changes_of,
    complementary,
    densities_of,
    one_of,
    predicted_cycles,
)
from trencadis_compiler.segments.cut_segment import CompiledPieces, compile_pieces
from trencadis_compiler.segments.segment import CompiledSegment, compile_network

Compiled = Callable[..., tuple[Path, Path]]

DIGITS = Path(__file__).parents[3] / "examples/digits/digits.onnx"


def unstructured(density: float) -> CompiledSegment:
    """The digits' network with random zeros, and without k-WTA."""
    board = load_board("sim")
    segment = compile_model(DIGITS, board).segments[0]
    rng = np.random.default_rng(5)
    layers = []
    for layer in segment.network.layers:
        dense = layer.weights.dense()
        keep = rng.random(dense.shape) < density
        weights = np.where(keep, np.where(dense == 0, 1, dense), 0)
        layers.append(replace(layer, weights=Kernels.of(weights), winners=None))
    network = replace(segment.network, layers=tuple(layers))
    large = replace(
        board,
        kernel=replace(
            board.kernel,
            core=replace(
                board.kernel.core,
                engines=tuple(
                    replace(engine, weight_rows=1 << 14, list_entries=1 << 14, sum_bits=26)
                    for engine in board.kernel.core.engines
                ),
            ),
        ),
    )
    return compile_network(network, large, density={})


def planner_of(segment: CompiledSegment | CompiledPieces) -> Planner:
    return Planner(FULL_EFFORT.shared(len(segment.network.layers)))


def following(segment: CompiledSegment | CompiledPieces, change: Change) -> Network:
    """The network of a person who does what is advised."""
    layers = tuple(
        change.changed if one.name == change.layer else one for one in segment.network.layers
    )
    return replace(segment.network, layers=layers)


def changes(segment: CompiledSegment | CompiledPieces, first: int) -> Iterator[Change]:
    most = max(engine.kernels_per_tile for engine in segment.placements[0].core.engines)
    for layer in segment.network.layers[:first]:
        yield from changes_of(layer, most, 0.5, read=True)


KINDS = {"complementary", "1", "prune", "k-WTA"}
"""First words of changes of layers."""


@pytest.mark.slow
def test_every_kind_of_advice_gains_what_it_says() -> None:
    segment = unstructured(0.2)
    board = replace(load_board("sim"), kernel=segment.overlay.kernel)
    kinds, gains = set(), []
    for change in changes(segment, 2):
        predicted = predicted_cycles(segment, change, planner_of(segment))
        network = following(segment, change)
        followed = compile_network(network, board, density=densities_of(segment))
        assert followed.overlay.report["cycles_per_word"] == predicted
        gains.append(segment.cycles / predicted)
        kinds.add(change.change.split()[0])
    assert kinds == KINDS
    assert max(gains) > 1.2


def test_a_wider_board_gains_what_it_says() -> None:
    small, large = load_board("sim"), load_board("u250")
    (segment,) = compile_model(DIGITS, small).segments
    (advice,) = (
        item
        for item in advise([segment], small, planner_of(segment), budget_s=60.0)
        if not item["layer"]
    )
    followed = compile_network(segment.network, large, density={})
    today = segment.cycles / small.clock_mhz
    assert advice["gain"] == today / (followed.cycles / large.clock_mhz) > 1.2


@pytest.mark.slow
def test_advice_for_a_network_in_pieces_gains_what_it_says() -> None:
    whole = unstructured(0.2)
    board = load_board("sim")
    cut = plan_cut(whole.network, board.kernel, {})
    assert not cut.whole
    segment = compile_pieces(cut, board)
    kinds, gains = set(), []
    for change in changes(segment, 2):
        predicted = predicted_cycles(segment, change, planner_of(segment))
        followed = compile_pieces(plan_cut(following(segment, change), board.kernel, {}), board)
        assert followed.report["cycles_per_word"] == predicted
        gains.append(segment.cycles / predicted)
        kinds.add(change.change.split()[0])
    assert kinds == KINDS
    assert max(gains) > 1.1


def test_advice_comes_best_first_and_names_layers() -> None:
    segment = unstructured(0.2)
    advice = advise([segment], load_board("u250"), planner_of(segment), budget_s=60.0)
    gains = [item["gain"] for item in advice]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 1.2
    names = {layer.name for layer in segment.network.layers}
    assert {item["layer"] for item in advice} <= names


def test_no_budget_no_advice() -> None:
    segment = unstructured(0.2)
    assert advise([segment], load_board("sim"), planner_of(segment), budget_s=0.0) == []


@pytest.mark.parametrize("m", [2, 4, 7])
def test_one_of_m_neighbours_is_kept(m: int) -> None:
    rng = np.random.default_rng(2)
    weights = rng.integers(-9, 10, (5, 4, 7, 1)).astype(np.int8)
    masked = one_of(Kernels.of(weights), m).dense().reshape(5, 28 // m, m)
    groups = weights.reshape(5, 28 // m, m)
    assert (np.count_nonzero(masked, axis=2) == 1).all()
    largest = np.abs(groups).max(axis=2)
    assert np.array_equal(np.abs(masked).max(axis=2), np.where(largest == 0, 1, largest))


@pytest.mark.parametrize("ways", [2, 4, 7])
def test_complementary_masks_share_no_place_and_keep_weights(ways: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.integers(-9, 10, (14, 3, 5, 5)).astype(np.int8)
    masked = complementary(Kernels.of(weights), ways).dense()
    whole = 14 // ways * ways
    used = (masked[:whole] != 0).reshape(14 // ways, ways, -1).sum(axis=1)
    assert (used == 1).all()
    kept = (masked != 0) & (weights != 0)
    assert np.array_equal(masked[kept], weights[kept])
    assert np.array_equal(masked, complementary(Kernels.of(weights), ways).dense())
