"""Runs of a core's RTL beside the emulator, and what is kept of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from trencadis_bench.measure import reference_run
from trencadis_bench.measure.reference_network import Kind
from trencadis_bench.measure.reference_run import SHORT_RUN, load_run, main, one_core, run_samples
from trencadis_boards import Board, load_board
from trencadis_format.compiled import CompiledNetwork
from trencadis_host.session import Session
from trencadis_sim.verilated.verilator import design_identity

FIGURES = {
    "board": "sim",
    "network": "sparse-sparse",
    "words": 12,
    "outputs_equal": True,
    "multipliers": 8,
    "predicted_cycles_per_word": 10.0,
    "cycles_per_word": 10.0,
    "latency_cycles": 30,
    "load_cycles": 5,
    "multiplier_use": 0.5,
    "simulated_cycles_per_s": 1000.0,
}


def save(case: Any, folder: Path) -> Path:
    """The case's image, with as much of a report as it needs."""
    image = folder / "case.tcd"
    cycles = case.schedule.period / case.overlay.kernel.core.batch_lanes
    report = {"cycles_per_word": cycles, "cycles_are": "planned"}
    CompiledNetwork.of_overlay(replace(case.overlay, report=report)).save(image)
    return image


@pytest.fixture
def board() -> Board:
    return load_board("sim")


@pytest.mark.rtl
def test_samples_on_the_rtl_equal_the_emulators_and_take_what_was_planned(
    make_case: Callable[..., Any], specs: Any, build_dir: Path, tmp_path: Path
) -> None:
    case = make_case(specs["exact-winners"], "trees-lockstep", samples=2)
    assert case.schedule.static
    image = save(case, tmp_path)
    run = run_samples(image, SHORT_RUN + 10, build_dir=build_dir)
    assert run.outputs_equal
    # Where in a burst the last beat falls may make a cycle of difference in all.
    assert abs(10 * run.cycles_per_inference - 5 * case.schedule.period) <= 1
    assert run.load_cycles > 0
    assert run.latency_cycles > run.cycles_per_inference
    assert run.simulated_cycles > (SHORT_RUN + 10) * run.cycles_per_inference
    assert run.simulated_cycles_per_s > 0


@pytest.mark.rtl
def test_different_outputs_are_found(
    make_case: Callable[..., Any],
    specs: Any,
    build_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = make_case(specs["exact-winners"], "trees-lockstep", samples=2)
    image = save(case, tmp_path)

    class Wrong(Session):
        """An emulator that is wrong about one value."""

        def run(self, output_names: Any, input_feed: Any) -> list[Any]:
            results = super().run(output_names, input_feed)
            if self.statistics is not None and self.statistics.cycles is None:
                results[0] = results[0].copy()
                results[0].flat[-1] ^= 1
            return results

    monkeypatch.setattr(reference_run, "Session", Wrong)
    assert not run_samples(image, SHORT_RUN + 1, build_dir=build_dir).outputs_equal


def test_too_few_samples_show_no_steady_state(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"more than {SHORT_RUN}, not {SHORT_RUN}"):
        run_samples(tmp_path / "x.tcd", SHORT_RUN, build_dir=tmp_path)


def test_a_run_is_known_again_by_its_kernel(board: Board, tmp_path: Path) -> None:
    kernel = one_core(board).kernel
    assert kernel.cores == 1
    assert load_run(board, Kind.SPARSE_SPARSE, tmp_path) is None
    folder = tmp_path / "bench"
    folder.mkdir()
    figures = {**FIGURES, "design": list(design_identity(kernel))}
    (folder / "core-sim-sparse-sparse.json").write_text(json.dumps(figures))
    assert load_run(board, Kind.SPARSE_SPARSE, tmp_path) == figures
    assert load_run(board, Kind.DENSE, tmp_path) is None
    other = replace(board, kernel=replace(board.kernel, input_beats=16))
    assert load_run(other, Kind.SPARSE_SPARSE, tmp_path) is None


@pytest.mark.parametrize(("equal", "status"), [(True, 0), (False, 1)])
def test_the_program_fails_if_outputs_differ(
    equal: bool, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = {**FIGURES, "outputs_equal": equal}
    monkeypatch.setattr(reference_run, "run_reference", lambda *_, **__: figures)
    result = CliRunner().invoke(main, ["sim", "--build", str(tmp_path)])
    assert result.exit_code == status
    assert ("NOT EQUAL" in result.stdout) is not equal
    assert ("differ" in result.stderr) is not equal
