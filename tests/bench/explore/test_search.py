"""The search for chains of engines, and that the boards' kernels come from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from trencadis_bench.explore.search import Candidate, Found, explore, kernel_of, main, pareto, plot
from trencadis_bench.measure.reference_network import Kind, reference_model
from trencadis_boards import board_text, load_board
from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.place import place
from trencadis_compiler.mapping.schedule import Schedule, schedule
from trencadis_compiler.mapping.size_memories import smallest_memories
from trencadis_format.config import CoreConfig, EngineConfig

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"

MEMORIES = (
    "dense_values",
    "list_entries",
    "weight_rows",
    "slot_rows",
    "queue_beats",
    "requantise_rows",
    "reorder_rows",
    "select_rows",
    "whole_rows",
    "layers",
)


@pytest.fixture(scope="module")
def network() -> Network:
    return import_model(DIGITS)


@pytest.fixture(scope="module")
def found(network: Network) -> Found:
    return explore(network, load_board("zu3eg"), batch_lanes=1, bus_bits=128)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = tmp_path_factory.mktemp("reference") / "reference.onnx"
    path.write_bytes(reference_model(Kind.SPARSE_SPARSE).SerializeToString(deterministic=True))
    return import_model(path)


@pytest.mark.parametrize("name", ["u250", "zu3eg"])
def test_kernels_of_boards_come_from_the_search(name: str, reference: Network) -> None:
    board = load_board(name)
    preset = board.kernel
    found = explore(reference, board, batch_lanes=preset.core.batch_lanes, bus_bits=preset.bus_bits)
    best = found.compiled[0]
    assert kernel_of(best, board).cores == preset.cores
    assert schedule(place(reference, preset.core)).period == best.period
    for ours, searched in zip(preset.core.engines, best.core.engines, strict=True):
        deeper = {memory: getattr(ours, memory) for memory in MEMORIES}
        assert all(rows >= getattr(searched, memory) for memory, rows in deeper.items())
        assert replace(searched, **deeper) == ours


def test_candidates_are_compiled(found: Found, network: Network) -> None:
    for candidate in found.compiled:
        compiled = schedule(place(network, candidate.core))
        assert compiled.period == candidate.period
        assert 0 < candidate.use <= 1


def test_the_fastest_comes_first(found: Found) -> None:
    for candidates in (found.compiled, found.estimated):
        rates = [candidate.inferences_per_s for candidate in candidates]
        assert rates == sorted(rates, reverse=True)
    best = found.compiled[0]
    assert best.inferences_per_s == best.cores * 200e6 / best.period
    # What was not compiled is no faster, even by its stages alone.
    assert best.inferences_per_s >= found.estimated[len(found.compiled)].inferences_per_s


def test_chains_that_do_not_fit_as_a_whole_are_left_out(
    network: Network, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = found.estimated[0].core

    def refuse(core: CoreConfig, network: Network) -> tuple[CoreConfig, Schedule]:
        if core == best or not some:
            raise CompileError("too large")
        return smallest_memories(core, network)

    monkeypatch.setattr("trencadis_bench.explore.search.smallest_memories", refuse)
    some = True
    others = explore(network, load_board("zu3eg"), batch_lanes=1, bus_bits=128, compiled=2)
    assert len(others.compiled) == 1
    some = False
    with pytest.raises(CompileError, match=r"no chain of the grid runs it \(too large\)"):
        explore(network, load_board("zu3eg"), batch_lanes=1, bus_bits=128, compiled=2)


def test_a_chain_of_which_no_core_fits_is_not_found(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(core: CoreConfig, network: Network) -> tuple[CoreConfig, Schedule]:
        core, program = smallest_memories(core, network)
        engines = (replace(engine, weight_rows=1 << 16) for engine in core.engines)
        return replace(core, engines=tuple(engines)), program

    monkeypatch.setattr("trencadis_bench.explore.search.smallest_memories", grown)
    with pytest.raises(CompileError, match="is small enough for zu3eg"):
        explore(network, load_board("zu3eg"), batch_lanes=1, bus_bits=128, compiled=2)


def test_chains_of_every_length_run_the_network(found: Found, network: Network) -> None:
    for length in range(1, min(4, len(network.layers)) + 1):
        best = next(chain for chain in found.estimated if len(chain.core.engines) == length)
        core, program = smallest_memories(best.core, network)
        assert len(core.engines) == length
        # Engines wait for each other at most a little.
        assert program.period == pytest.approx(best.period, rel=0.1)


def candidate(period: float, lut: float) -> Candidate:
    core = CoreConfig(
        engines=(EngineConfig(lanes=4, tiles=4, kernels_per_tile=2, list_entries=64),)
    )
    return Candidate(core, period, {"lut": lut}, 1, 1e6 / period, 0.5)


def test_the_front_leaves_out_what_is_slower_and_larger(tmp_path: Path) -> None:
    points = [candidate(period, lut) for period, lut in ((4, 1), (1, 9), (2, 5), (3, 6), (2, 7))]
    front = pareto(points)
    assert [(c.period, c.area["lut"]) for c in front] == [(1, 9), (2, 5), (4, 1)]
    both = replace(
        points[1], core=replace(points[1].core, batch_lanes=2), period=1.8, area={"lut": 8}
    )
    assert pareto([*points, both])[0] is both
    plot(Found(points[:2], points), tmp_path / "front.png", "a network on a board")
    assert (tmp_path / "front.png").read_bytes()[1:4] == b"PNG"


def test_the_best_chain_becomes_a_board(tmp_path: Path, network: Network) -> None:
    arguments = ["zu3eg", "--model", str(DIGITS), "--batch-lanes", "1", "--build", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    made = load_board(str(tmp_path / "bench/explore-zu3eg.toml"))
    kernel, zu3eg = made.kernel, load_board("zu3eg")
    results = json.loads((tmp_path / "bench/explore-zu3eg.json").read_text())
    assert json.loads(json.dumps(kernel.to_dict()["core"])) == results[0]["core"]
    assert schedule(place(network, kernel.core)).period == results[0]["period_cycles"]
    assert replace(made, name="zu3eg", kernel=zu3eg.kernel) == zu3eg


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "explore: board 'nosuch' is not known"),
        (["ulx3s"], "explore: board ulx3s: the area model is of UltraScale"),
        (["zu3eg", "--model", "nosuch.onnx"], "explore: nosuch.onnx"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, [*arguments, "--build", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_board_with_a_kernel_that_is_not_possible_is_one_line(tmp_path: Path) -> None:
    text = board_text("zu3eg").replace("tiles = 32", "tiles = 33")
    (tmp_path / "odd.toml").write_text(text)
    done = CliRunner().invoke(main, [str(tmp_path / "odd.toml"), "--build", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.startswith("explore: ")
    assert done.stderr.endswith("[kernel]: EngineConfig.tiles must be even, not 33\n")
    assert done.stderr.count("\n") == 1


def test_a_network_that_is_too_large_for_a_board_is_told(network: Network) -> None:
    small = replace(load_board("zu3eg"), resources={"lut": 500, "ff": 500, "dsp": 8, "bram36": 4})
    with pytest.raises(CompileError, match=r"no chain of the grid is small enough for zu3eg"):
        explore(network, small, batch_lanes=1, bus_bits=64)
