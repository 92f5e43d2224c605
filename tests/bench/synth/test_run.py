"""Synthesis of a kernel: what is kept together, what fits, what is reported."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from trencadis_bench.synth.run import (
    _comparison,
    configuration_of,
    cores_that_fit,
    design_of,
    load_baseline,
    main,
)
from trencadis_boards import load_board

AROUND = {"lut": 2_000, "ff": 0, "dsp": 0, "bram36": 0}


@pytest.mark.parametrize(
    ("core", "fits"),
    [
        # 70 % of 432,000 LUTs of a region are 302,400; 300,400 of them for cores.
        ({"lut": 30_040.0}, {"lut": 40, "all": 40}),
        ({"lut": 30_041.0}, {"lut": 36, "all": 36}),
        # 2,150 DSPs and 470 memories of a region.
        ({"lut": 1.0, "dsp": 430.0, "bram36": 94.0}, {"dsp": 20, "bram36": 20, "all": 20}),
        ({"lut": 1.0, "dsp": 431.0, "bram36": 94.5}, {"dsp": 16, "bram36": 16, "all": 16}),
        ({"lut": 1.0, "dsp": 2_151.0}, {"dsp": 0, "all": 0}),
    ],
)
def test_cores_fit_region_by_region(core: dict[str, float], fits: dict[str, int]) -> None:
    found = cores_that_fit(load_board("u250"), core, AROUND)
    assert {name: found[name] for name in fits} == fits


def test_a_part_without_regions_is_one() -> None:
    board = load_board("zu3eg")
    room = 0.7 * board.resources["lut"] - AROUND["lut"]
    assert cores_that_fit(board, {"lut": room / 3}, AROUND)["all"] == 3
    assert cores_that_fit(board, {"lut": room / 3 + 1}, AROUND)["all"] == 2


def test_a_resource_that_the_part_lacks_fits_nothing() -> None:
    assert cores_that_fit(load_board("zu3eg"), {"lut": 1.0, "uram": 1.0}, AROUND)["all"] == 0


def test_a_result_holds_whatever_the_number_of_cores() -> None:
    kernel = load_board("u250").kernel
    assert configuration_of(kernel) == configuration_of(replace(kernel, cores=kernel.cores + 1))
    assert configuration_of(kernel) != configuration_of(replace(kernel, input_beats=64))


def test_a_comparison_says_whether_the_baseline_was_made_from_this_rtl() -> None:
    now = load_baseline("u250")
    assert now is not None
    other = {**now, "design": design_of("module trencadis; endmodule")}
    for before, said in ((now, False), (other, True)):
        text = io.StringIO()
        Console(width=110, file=text).print(_comparison(now, before))
        assert ("the baseline was made from other RTL than this" in text.getvalue()) == said


def test_there_is_no_baseline_of_an_unknown_board() -> None:
    assert load_baseline("none") is None


def test_without_yosys_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("trencadis_hw.generate.kernel_verilog", lambda kernel: "")
    result = CliRunner().invoke(main, ["zu3eg", "--build", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("synth: yosys is needed")


def test_an_unknown_board_is_the_users_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["u25", "--build", str(tmp_path)])
    assert result.exit_code == 2
    assert "u250" in result.stderr
