"""The throughput model: the arithmetic of its factors, and what bounds it."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trencadis_bench.measure.reference_run import one_core
from trencadis_bench.measure.throughput import (
    PUBLISHED,
    hardware_table,
    measure,
    model_throughput,
    write_results,
)
from trencadis_bench.synth.run import configuration_of, cores_that_fit, design_of, load_baseline
from trencadis_boards import Board, load_board
from trencadis_compiler.compile import Compiled, compile_model
from trencadis_sim.verilated.verilator import design_identity

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"


@pytest.fixture(scope="module")
def board() -> Board:
    return load_board("sim")


@pytest.fixture(scope="module")
def compiled(board: Board) -> Compiled:
    return compile_model(DIGITS, board)


def test_samples_are_cores_times_clock_over_cycles(board: Board, compiled: Compiled) -> None:
    cycles = compiled.overlay.report["cycles_per_word"]
    found = model_throughput(board, compiled, cores=3)
    assert found.inferences_per_s == 3 * 200e6 / cycles
    assert found["multiplier use"] == pytest.approx(compiled.overlay.report["multiplier_use"])


def test_simulated_cycles_come_first_and_say_so(board: Board, compiled: Compiled) -> None:
    found = model_throughput(board, compiled, cores=1, cycles_per_inference=1000)
    assert found.inferences_per_s == 200e3
    origin = next(f.origin for f in found.factors if f.name == "cycles per inference of one core")
    assert origin.startswith("simulated")
    predicted = model_throughput(board, compiled, cores=1)
    origin = next(
        f.origin for f in predicted.factors if f.name == "cycles per inference of one core"
    )
    assert origin.startswith("predicted")


def test_the_axi_port_bounds_many_cores(board: Board, compiled: Compiled) -> None:
    found = model_throughput(board, compiled, cores=10**6)
    # 28x28 values of 8 bits in, on a bus of 8 bytes.
    assert found["bytes per sample in"] == 784
    assert found.inferences_per_s == found["inferences/s by AXI ports"] == 200e6 * 8 / 784


def test_memory_and_the_link_bound_a_card(compiled: Compiled) -> None:
    card = replace(load_board("u250"), clock_mhz=1e6)
    found = model_throughput(card, compiled, cores=10**6)
    traffic = found["bytes per sample in"] + found["bytes per sample out"]
    assert found["inferences/s by memory"] == pytest.approx(0.7 * 4 * 19.2e9 / traffic)
    assert found["inferences/s by the host's link"] == pytest.approx(
        12e9 / found["bytes per sample in"]
    )
    assert found.inferences_per_s == min(
        value for f in found.factors if f.name.startswith("inferences/s by") for value in [f.value]
    )


def test_a_board_that_shares_memory_with_the_host_has_no_link(compiled: Compiled) -> None:
    found = model_throughput(load_board("zu3eg"), compiled, cores=1)
    assert found["inferences/s by the host's link"] == math.inf


def test_published_figures_are_those_of_the_publication() -> None:
    assert PUBLISHED["u250"]["sparse-sparse"] == 1_369_863
    assert PUBLISHED["zu3eg"]["sparse-sparse"] == 45_455


def figures(board: str, **changes: Any) -> dict[str, Any]:
    """As `measure` gives them."""
    return {
        "board": board,
        "words_per_s": 3e6,
        "published_words_per_s": PUBLISHED.get(board, {}),
        "cores": 20,
        "clock_mhz": 250.0,
        "cycles_per_word": 1569.5,
        "multiplier_use": 0.9,
        "synthesis_matches": True,
        "lut_per_multiplier": 111.1,
        "cores_that_fit": {"all": 20},
        "simulated": {"simulated_cycles_per_s": 1234.0},
    } | changes


def printed(results: dict[str, Any]) -> str:
    text = io.StringIO()
    Console(width=110, file=text).print(hardware_table(results))
    return text.getvalue()


def test_the_table_says_where_every_figure_comes_from() -> None:
    text = printed({"u250": figures("u250"), "zu3eg": figures("zu3eg")})
    assert "1,369,863" in text
    assert f"{3e6 / 1_369_863:.2f}" in text
    assert "simulated RTL" in text
    assert "1,234" in text
    assert "111.1" in text


def test_what_was_not_simulated_or_synthesised_is_not_claimed_to_be() -> None:
    plain = figures("u250")
    del plain["simulated"], plain["lut_per_multiplier"]
    text = printed({"u250": plain})
    assert "111.1" not in text
    assert "simulated cycles/s" not in text
    assert "predicted" in text


@pytest.mark.parametrize(
    ("matches", "shown"), [(True, "111.1 \N{BOX DRAWINGS LIGHT VERTICAL}"), (False, "111.1 *")]
)
def test_an_earlier_synthesis_is_marked(matches: bool, shown: str) -> None:
    assert shown in printed({"zu3eg board": figures("u250", synthesis_matches=matches)})


@pytest.mark.parametrize("name", ["u250", "zu3eg"])
def test_the_cores_of_a_board_fit_it_by_the_baseline(name: str) -> None:
    board, baseline = load_board(name), load_baseline(name)
    if baseline is None:
        pytest.skip("there is no baseline")
    kernel = board.kernel
    assert baseline["multipliers_per_core"] == kernel.core.multipliers
    fitting = cores_that_fit(board, baseline["core"], baseline["around_cores"])
    assert fitting == baseline["cores_that_fit"]
    assert kernel.cores * board.compute_units <= fitting["all"]


@pytest.fixture
def verilog(monkeypatch: pytest.MonkeyPatch) -> str:
    """Takes the place of the kernel's, which takes long to generate."""
    text = "module trencadis; endmodule"
    monkeypatch.setattr("trencadis_bench.measure.throughput.verilog_of", lambda *arguments: text)
    return text


@pytest.mark.usefixtures("verilog")
def test_figures_are_json_although_nothing_bounds_the_link(tmp_path: Path) -> None:
    found = measure(load_board("zu3eg"), tmp_path)
    assert found["factors"]["inferences/s by the host's link"]["value"] is None
    assert found["words_per_s"] == found["cores"] * 200e6 / found["cycles_per_word"]
    write_results({"zu3eg": found}, tmp_path)
    text = (tmp_path / "bench" / "hardware.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["zu3eg"] == found


@pytest.mark.usefixtures("verilog")
def test_networks_without_sparsities_are_predicted_until_they_are_simulated(
    tmp_path: Path,
) -> None:
    board = load_board("u250")
    kernel = one_core(board).kernel
    run = {"design": list(design_identity(kernel)), "cycles_per_word": 12345.0}
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "core-u250-dense.json").write_text(json.dumps(run))
    found = measure(board, tmp_path)
    assert found["dense_cycles_per_word"] == 12345.0
    assert found["dense_cycles_are"].startswith("simulated")
    assert found["sparse_weights_cycles_per_word"] > found["cycles_per_word"]
    assert found["sparse_weights_cycles_are"].startswith("predicted")


def test_no_more_cores_are_counted_than_were_synthesised_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verilog: str
) -> None:
    board = load_board("u250")
    kernel = board.kernel
    baseline = dict(load_baseline("u250") or {})
    baseline |= {
        "configuration": configuration_of(kernel),
        "design": design_of(verilog),
        "cores_that_fit": {"all": 8},
    }
    monkeypatch.setattr("trencadis_bench.measure.throughput.load_baseline", lambda name: baseline)
    found = measure(board, tmp_path)
    assert found["cores"] == 8
    assert found["words_per_s"] == 8 * 250e6 / found["cycles_per_word"]
    assert found["synthesis_matches"]
    monkeypatch.setitem(baseline, "design", design_of(verilog + "\n"))
    found = measure(board, tmp_path)
    assert found["cores"] == 8
    assert not found["synthesis_matches"]
    monkeypatch.setitem(baseline, "configuration", "of another kernel")
    assert measure(board, tmp_path)["cores"] == kernel.cores * board.compute_units
