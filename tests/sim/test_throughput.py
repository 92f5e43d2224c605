"""The throughput model: the arithmetic of its factors, and what bounds it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from trencadis_boards import Board, load_board
from trencadis_compiler.compile import Compiled, compile_model
from trencadis_sim.throughput import PUBLISHED, model_throughput

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"


@pytest.fixture(scope="module")
def board() -> Board:
    return load_board("sim")


@pytest.fixture(scope="module")
def compiled(board: Board) -> Compiled:
    return compile_model(DIGITS, board)


def test_words_are_cores_times_clock_over_cycles(board: Board, compiled: Compiled) -> None:
    cycles = compiled.overlay.report["cycles_per_word"]
    found = model_throughput(board, compiled, cores=3)
    assert found.words_per_s == 3 * 200e6 / cycles
    assert found["multiplier use"] == pytest.approx(compiled.overlay.report["multiplier_use"])


def test_simulated_cycles_come_first_and_say_so(board: Board, compiled: Compiled) -> None:
    found = model_throughput(board, compiled, cores=1, cycles_per_word=1000)
    assert found.words_per_s == 200e3
    origin = next(f.origin for f in found.factors if f.name == "cycles a word of one core")
    assert origin.startswith("simulated")
    predicted = model_throughput(board, compiled, cores=1)
    origin = next(f.origin for f in predicted.factors if f.name == "cycles a word of one core")
    assert origin.startswith("predicted")


def test_the_axi_port_bounds_many_cores(board: Board, compiled: Compiled) -> None:
    found = model_throughput(board, compiled, cores=10**6)
    # 28x28 values of 8 bits in, on a bus of 8 bytes.
    assert found["bytes a word in"] == 784
    assert found.words_per_s == found["words/s by AXI ports"] == 200e6 * 8 / 784


def test_memory_and_the_link_bound_a_card(compiled: Compiled) -> None:
    card = replace(load_board("u250"), clock_mhz=1e6)
    found = model_throughput(card, compiled, cores=10**6)
    traffic = found["bytes a word in"] + found["bytes a word out"]
    assert found["words/s by memory"] == pytest.approx(0.7 * 4 * 19.2e9 / traffic)
    assert found["words/s by the host's link"] == pytest.approx(12e9 / found["bytes a word in"])
    assert found.words_per_s == min(
        value for f in found.factors if f.name.startswith("words/s by") for value in [f.value]
    )


def test_a_board_that_shares_memory_with_the_host_has_no_link(compiled: Compiled) -> None:
    found = model_throughput(load_board("zu3eg"), compiled, cores=1)
    assert found["words/s by the host's link"] == math.inf


def test_published_figures_are_those_of_the_publication() -> None:
    assert PUBLISHED["u250"]["sparse-sparse"] == 1_369_863
    assert PUBLISHED["zu3eg"]["sparse-sparse"] == 45_455
