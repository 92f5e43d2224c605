"""Advice for map engines is what the changed network really takes."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.map_graphs import write_graph

from trencadis_boards import Board, load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.maps.compile_maps import CompiledMaps, compile_maps, map_kernel
from trencadis_compiler.maps.place import place_maps
from trencadis_compiler.options import Options
from trencadis_compiler.report.map_advice import (
    advise_maps,
    dense_maps,
    map_changes,
    predict_maps,
    wider,
)
from trencadis_format.map_config import MAP_LIMITS, MapConfig

SMALL = MapConfig(lanes=2, tiles=4, kernels_per_tile=16, row_values=16)
"""An engine so small that multiplying is what takes cycles."""


def board_of(segment: CompiledMaps, config: MapConfig = SMALL) -> Board:
    kernel = map_kernel(segment.overlay.kernel, place_maps(segment.network, config))
    return replace(load_board("sim"), kernel=kernel)


@pytest.fixture(scope="module", params=["residual", "depthwise"])
def segment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    path = write_graph(request.param, tmp_path_factory.mktemp("maps"))
    made = compile_model(path, load_board("sim"), options=Options(sized=True, strict=True))
    (part,) = made.parts
    assert isinstance(part, CompiledMaps)
    return compile_maps(part.network, board_of(part))


def test_every_kind_of_advice_gains_what_it_says(segment: CompiledMaps) -> None:
    board = board_of(segment)
    gains: dict[str, float] = {}
    for step in segment.network.steps:
        for change in map_changes(segment, step.name):
            predicted = predict_maps(segment, change.network)
            followed = compile_maps(change.network, board)
            assert followed.cycles == pytest.approx(predicted, rel=1e-12)
            kind = change.change.split()[0]
            gains[kind] = max(gains.get(kind, 0.0), segment.cycles / predicted)
    assert gains.keys() == {"masks", "prune"}
    assert gains["masks"] > 1.03


def test_a_wider_engine_gains_what_it_says(segment: CompiledMaps) -> None:
    (advice,) = (item for item in advise_maps([segment], budget_s=60.0) if not item["layer"])
    wide = wider(segment.placement.config)
    assert wide is not None
    followed = compile_maps(segment.network, board_of(segment, wide))
    assert advice["gain"] == pytest.approx(segment.cycles / followed.cycles, rel=1e-12)
    assert advice["gain"] > 1.2


def test_advice_comes_best_first_and_names_layers(segment: CompiledMaps) -> None:
    advice = advise_maps([segment], budget_s=60.0)
    gains = [item["gain"] for item in advice]
    assert gains == sorted(gains, reverse=True)
    assert len(gains) > 1
    names = {row["name"] for row in segment.report["layers"]} | {""}
    assert {item["layer"] for item in advice} <= names


def test_no_budget_no_advice(segment: CompiledMaps) -> None:
    assert advise_maps([segment], budget_s=0.0) == []


def test_the_dense_network_has_no_zeros(segment: CompiledMaps) -> None:
    steps = []
    for step in segment.network.steps:
        layer = step.layer
        if layer is not None and layer.weights.groups == 1:
            half = np.where(
                np.arange(layer.weights.length) % 2,
                layer.weights.dense().reshape(len(layer.weights), -1),
                0,
            )
            layer = replace(layer, weights=Kernels.of(half.reshape(layer.weights.shape)))
        steps.append(replace(step, layer=layer))
    pruned = compile_maps(replace(segment.network, steps=tuple(steps)), board_of(segment))
    assert dense_maps(pruned) == pytest.approx(dense_maps(segment), rel=1e-12)
    assert dense_maps(segment) > segment.dense_cycles * 0.999
    assert dense_maps(pruned) > pruned.cycles


def test_engines_grow_to_their_limits() -> None:
    most = MAP_LIMITS["lanes"].high
    widest = MapConfig(lanes=most, tiles=most, kernels_per_tile=16, row_values=most)
    assert wider(widest) is None
    grown = wider(SMALL)
    assert grown is not None
    assert grown.multipliers == 4 * SMALL.multipliers
