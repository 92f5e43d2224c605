"""The grid of engines, and what its engines are said to take."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trencadis_bench.explore.engines import Planner, grid, lanes_for, overlay, stages
from trencadis_compiler.compile import import_model
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.network import Layer, Network
from trencadis_compiler.mapping.candidates import plans_for
from trencadis_compiler.mapping.place import feeds_of
from trencadis_flows.area import engine_area
from trencadis_format.timing import LAYER_OVERHEAD, SAMPLE_OVERHEAD

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"


@pytest.fixture(scope="module")
def network() -> Network:
    return import_model(DIGITS)


@pytest.fixture(scope="module")
def first(network: Network) -> Layer:
    """A convolution of 5 x 5 on one channel."""
    return network.layers[0]


def with_ways(layer: Layer, ways: int) -> Layer:
    """A layer of which one of `ways` weights is not zero."""
    weights = np.zeros(layer.weights.size, np.int8)
    weights[::ways] = 1
    return replace(layer, weights=Kernels.of(weights.reshape(layer.weights.shape)))


def test_kernels_of_a_tile_follow_the_sparsity(first: Layer) -> None:
    assert [overlay(with_ways(first, ways)) for ways in (1, 2, 8, 25, 400)] == [1, 2, 8, 32, 32]


def test_lanes_divide_windows_well(network: Network, first: Layer) -> None:
    assert lanes_for([first]) == [4, 5, 7, 9, 13, 25]
    assert lanes_for([first], split=True) == [4, 6, 8, 10, 18]
    last = network.layers[-1]
    assert set(lanes_for([first, last])) == {1, 2, 4, 8, 16, *lanes_for([first])}


def test_engines_of_the_grid_are_as_asked(first: Layer) -> None:
    few = list(grid([with_ways(first, 2)], dense=False, weight_memory="ultra"))
    assert {engine.lanes for engine in few} == {4, 5, 7, 9, 13, 25}
    assert {engine.routing for engine in few} == {"banked", "trees"}
    assert {engine.weight_memory for engine in few} == {"ultra"}
    assert all(engine.list_entries and not engine.dense_values for engine in few)
    many = list(grid([with_ways(first, 16)], dense=True, weight_memory="block"))
    assert {engine.routing for engine in many} == {"banked"}
    assert all(engine.dense_values and not engine.list_entries for engine in many)
    both = grid([with_ways(first, 2)], dense=True, weight_memory="block")
    split = [engine for engine in both if engine.routing == "split-trees"]
    assert {engine.lanes for engine in split} == {4, 6, 8, 10, 18}
    assert all(engine.columns % engine.requantisers == 0 for engine in few + many + split)


def test_stages_take_what_the_compiler_plans(network: Network) -> None:
    layer = network.layers[1]
    feed = feeds_of(network, {})[layer.target]
    engines = list(grid([layer], dense=False, weight_memory="block"))
    planner = Planner()
    found = stages([layer], [feed], engines, 1, planner)
    assert [stage.cycles for stage in found] == sorted(stage.cycles for stage in found)
    few = next(stage for stage in found if stage.engine.requantisers == 1)
    for stage in (found[0], few, found[-1]):
        # The memories that were fitted hold the layer.
        roomy = replace(stage.engine, queue_beats=1024)
        plan = plans_for(layer, roomy, feed)[0]
        assert stage.cycles == SAMPLE_OVERHEAD + plan.cycles + plan.tail + LAYER_OVERHEAD
        assert stage.area == engine_area(stage.engine, 1)
    assert stages([layer], [feed], engines, 1, planner) == found


def test_area_grows_with_what_an_engine_is_made_of(first: Layer) -> None:
    engine = next(grid([with_ways(first, 2)], dense=False, weight_memory="block"))
    small = engine_area(engine, 1)
    assert all(engine_area(engine, 2)[name] > small[name] for name in ("lut", "ff", "dsp"))
    wide = engine_area(replace(engine, lanes=2 * engine.lanes), 1)
    assert wide["dsp"] == small["dsp"] + engine.multipliers / 2
    deep = engine_area(replace(engine, weight_rows=8192), 1)
    assert deep["lut"] > engine_area(replace(engine, weight_rows=4096), 1)["lut"]
    assert json.dumps(small)
