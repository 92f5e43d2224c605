"""The search for engines, on the demo network and a handful of engines."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import import_model
from trencadis_compiler.ir import Network
from trencadis_compiler.place import place
from trencadis_compiler.schedule import schedule
from trencadis_hw.config import CoreConfig, EngineConfig
from trencadis_sim.area import engine_area
from trencadis_sim.explore import Candidate, explore, grid, pareto, plot

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"


def some(*, dense: bool, tiles: tuple[int, ...]) -> list[EngineConfig]:
    """Engines of the grid with 5 lanes."""
    every = grid(dense=dense, kernels=16, weight_memory="block", most_lanes=5)
    return [e for e in every if e.lanes == 5 and e.tiles in tiles and e.requantisers == 4]


@pytest.fixture(scope="module")
def network() -> Network:
    return import_model(DIGITS)


@pytest.fixture(scope="module")
def found(network: Network) -> list[Candidate]:
    layers = len(network.layers)
    return explore(
        network,
        load_board("zu3eg"),
        words=1,
        grids=[
            (1, some(dense=True, tiles=(4, 8, 16))),
            (layers - 1, some(dense=False, tiles=(4, 8))),
        ],
        bus_bits=128,
    )


def test_engines_of_the_grid_are_as_asked() -> None:
    few = list(grid(dense=False, kernels=2, weight_memory="ultra", most_lanes=5))
    assert {engine.lanes for engine in few} == {4, 5}
    assert {engine.routing for engine in few} == {"banked", "trees"}
    assert {engine.weight_memory for engine in few} == {"ultra"}
    many = list(grid(dense=True, kernels=16, weight_memory="block"))
    assert {engine.routing for engine in many} == {"banked"}
    assert all(engine.dense_values and not engine.list_entries for engine in many)
    split = [e for e in grid(dense=True, kernels=2, weight_memory="block") if "split" in e.routing]
    assert {engine.lanes for engine in split} == {4, 10}
    assert all(engine.columns % engine.requantisers == 0 for engine in few + many)


def test_candidates_hold_the_network_and_keep_up(found: list[Candidate], network: Network) -> None:
    assert len(found) > 1
    for candidate in found:
        compiled = schedule(place(network, candidate.core))
        # Engines wait for each other at most a little.
        assert compiled.period == pytest.approx(candidate.period, rel=0.05)
        assert 0 < candidate.use <= 1


def test_the_fastest_comes_first(found: list[Candidate]) -> None:
    rates = [candidate.words_per_s for candidate in found]
    assert rates == sorted(rates, reverse=True)
    best = found[0]
    assert best.words_per_s == best.cores * 200e6 / best.period


def candidate(period: float, lut: float) -> Candidate:
    core = CoreConfig(engines=(some(dense=True, tiles=(4,))[0],))
    return Candidate(core, period, {"lut": lut}, 1, 1e6 / period, 0.5)


def test_the_front_leaves_out_what_is_slower_and_larger(tmp_path: Path) -> None:
    points = [candidate(period, lut) for period, lut in ((4, 1), (1, 9), (2, 5), (3, 6), (2, 7))]
    front = pareto(points)
    assert [(c.period, c.area["lut"]) for c in front] == [(1, 9), (2, 5), (4, 1)]
    plot(points, front, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes()[1:4] == b"PNG"


def test_area_grows_with_what_an_engine_is_made_of() -> None:
    engine = some(dense=False, tiles=(8,))[0]
    small = engine_area(engine, 1)
    assert all(engine_area(engine, 2)[name] > small[name] for name in ("lut", "ff", "dsp"))
    wide = engine_area(replace(engine, lanes=2 * engine.lanes), 1)
    assert wide["dsp"] == small["dsp"] + engine.multipliers / 2
    assert json.dumps(small)
