import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_boards import Board, load_board
from trencadis_flows.build import Choices, make_plan
from trencadis_flows.plan import BuildPlan
from trencadis_format.config import CoreConfig, EngineConfig

HERE = Path(__file__).parent

SMALL_ENGINE = EngineConfig(
    lanes=2,
    tiles=2,
    kernels_per_tile=4,
    dense_values=32,
    list_entries=32,
    weight_rows=16,
    queue_beats=16,
    requantisers=2,
    requantise_rows=16,
    reorder_rows=16,
    select_rows=4,
    layers=4,
)
SCRIPTS = {
    # Version, then what it does.
    "vivado": (
        "vivado v2022.2 (64-bit)",
        'while [ "$1" != -source ]; do shift; done; exec tclsh "$VENDOR_TCL" "$2"',
    ),
    "v++": (
        "****** v++ v2022.2 (64-bit)",
        (
            'while [ $# -gt 0 ]; do case "$1" in -o) out=$2;; *.xo) test -s "$1" || exit 3;; esac; '
            'shift; done; echo linked > "$out"'
        ),
    ),
    "platforminfo": (
        "platforminfo v2022.2",
        'printf \'{ "platforms": [ { "baseName": "%s", "version": "1.0" } ] }\' "$VENDOR_PLATFORM"',
    ),
    "xclbinutil": (
        "XRT Build Version: 2.14.384",
        (
            'while [ $# -gt 0 ]; do case "$1" in --output) out=$2;; --input) in=$2;; esac; '
            'shift; done; cat "$in" model.tcd > "$out"'
        ),
    ),
    "emconfigutil": ("emconfigutil v2022.2", "echo {} > emconfig.json"),
    "bootgen": ("Bootgen v2022.2", "cat trencadis.bit > trencadis.bit.bin"),
    "dtc": ("Version: DTC 1.6.1", "cat trencadis.dts > trencadis.dtbo"),
}


def small(board: Board) -> Board:
    """The board, with a kernel that is quick to generate."""
    core = CoreConfig(engines=(SMALL_ENGINE,))
    return replace(board, kernel=replace(board.kernel, cores=1, core=core))


@pytest.fixture
def board() -> Callable[[str], Board]:
    """A board by name, with a small kernel."""
    return lambda name: small(load_board(name))


@pytest.fixture
def memory_config() -> Callable[[npt.NDArray[np.uint8]], str]:
    """A configuration with a memory (rows x bits) in it: blocks of 2048 bytes, and one of zeros."""

    def make(bits: npt.NDArray[np.uint8]) -> str:
        blocks = [np.zeros(2048, int)]
        for row in range(0, len(bits), 2048):
            for bit in range(0, bits.shape[1], 8):
                part = bits[row : row + 2048, bit : bit + 8].astype(int)
                blocks.append((part << np.arange(8)).sum(axis=1))
        lines = [".device LFE5U-85F", ""]
        for number, block in enumerate(blocks):
            words = [f"{word:03x}" for word in block]
            lines.append(f".bram_init {number}")
            lines += [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
            lines.append("")
        return "\n".join(lines)

    return make


# What the vendor's commands take: options with a value, options without, which of them are
# required, and how many other arguments. Of every command only what scripts may need is here.
# The longest ones were compared with "Syntax" in the Vivado Design Suite Tcl Command Reference
# Guide (UG835, 2022.1 to 2023.2): apply_bd_automation, assign_bd_address, connect_bd_intf_net,
# connect_bd_net, create_bd_cell, get_bd_addr_spaces, get_bd_pins, get_ipdefs, launch_runs,
# make_wrapper, wait_on_runs, write_hw_platform; and package_xo with UG1393 (2022.1). UG835 has the
# file of make_wrapper and write_hw_platform as a plain argument; Vivado's journals name it, and so
# do scripts. It leaves out the IP packager's ipx:: commands: those are as in packaging scripts of
# public RTL kernels, of the form that the RTL kernel wizard writes.
EVERYWHERE = {"-quiet", "-verbose"}
COMMANDS: dict[str, tuple[set[str], set[str], set[str], range]] = {
    "add_files": (
        {"-fileset", "-of_objects", "-copy_to"},
        {"-norecurse", "-scan_for_includes", "-force"},
        set(),
        range(1, 99),
    ),
    "apply_bd_automation": (
        {"-rule", "-config", "-dict", "-opts"},
        set(),
        {"-rule"},
        range(1, 99),
    ),
    "assign_bd_address": (
        {"-target_address_space", "-dict", "-offset", "-range", "-base_high"},
        {"-boundary", "-master_boundary", "-external", "-force"},
        set(),
        range(99),
    ),
    "close_project": (set(), {"-delete"}, set(), range(1)),
    # Its third plain argument is no pin.
    "connect_bd_intf_net": ({"-intf_net", "-boundary_type"}, set(), set(), range(2, 3)),
    "connect_bd_net": ({"-net", "-boundary_type"}, set(), set(), range(2, 99)),
    # Without either of the two it would make a hierarchy with nothing in it.
    "create_bd_cell": (
        {"-type", "-vlnv", "-reference", "-revision"},
        set(),
        {"-type", "-vlnv"},
        range(1, 2),
    ),
    "create_bd_design": ({"-dir", "-cell"}, set(), set(), range(1, 2)),
    "create_project": (
        {"-part"},
        {"-force", "-in_memory", "-ip", "-rtl_kernel"},
        set(),
        range(3),
    ),
    "current_fileset": ({"-verilog_define"}, {"-simset", "-srcset", "-constrset"}, set(), range(2)),
    "current_project": (set(), set(), set(), range(2)),
    "generate_target": (set(), {"-force"}, set(), range(2, 3)),
    "get_bd_addr_segs": (
        {"-of_objects", "-filter"},
        {"-regexp", "-hierarchical", "-excluded", "-addressed", "-unaddressed"},
        set(),
        range(2),
    ),
    "get_bd_addr_spaces": (
        {"-of_objects", "-filter"},
        {"-regexp", "-hierarchical"},
        set(),
        range(2),
    ),
    "get_bd_intf_pins": ({"-of_objects", "-filter"}, {"-regexp", "-hierarchical"}, set(), range(2)),
    "get_bd_pins": ({"-of_objects", "-filter"}, {"-regexp", "-hierarchical"}, set(), range(2)),
    "get_board_parts": (
        {"-filter"},
        {"-regexp", "-nocase", "-latest_file_version", "-latest_hw_revision"},
        set(),
        range(99),
    ),
    "get_files": ({"-of_objects", "-filter", "-compile_order"}, {"-all"}, set(), range(99)),
    "get_ipdefs": (
        {"-filter", "-of_objects"},
        {"-name", "-all", "-regexp", "-nocase"},
        set(),
        range(99),
    ),
    "get_property": (set(), {"-min", "-max"}, set(), range(2, 3)),
    "get_runs": ({"-filter"}, {"-regexp", "-nocase"}, set(), range(99)),
    "ipx::add_address_block": (set(), set(), set(), range(2, 3)),
    "ipx::add_bus_parameter": (set(), set(), set(), range(2, 3)),
    "ipx::add_memory_map": (set(), set(), set(), range(2, 3)),
    "ipx::add_register": (set(), set(), set(), range(2, 3)),
    "ipx::add_register_parameter": (set(), set(), set(), range(2, 3)),
    "ipx::associate_bus_interfaces": (
        {"-busif", "-clock", "-reset"},
        {"-remove"},
        {"-clock"},
        range(1, 2),
    ),
    "ipx::check_integrity": (set(), {"-kernel", "-xrt"}, set(), range(1, 2)),
    "ipx::create_xgui_files": (set(), set(), set(), range(1, 2)),
    "ipx::current_core": (set(), set(), set(), range(1)),
    "ipx::get_bus_interfaces": ({"-of_objects"}, set(), {"-of_objects"}, range(1, 2)),
    "ipx::get_user_parameters": ({"-of_objects"}, set(), {"-of_objects"}, range(2)),
    "ipx::infer_bus_interface": (set(), set(), set(), range(3, 4)),
    "ipx::package_project": (
        {"-root_dir", "-vendor", "-library", "-taxonomy", "-set_current"},
        {"-import_files", "-force"},
        {"-root_dir", "-vendor", "-library"},
        range(1),
    ),
    "ipx::remove_user_parameter": (set(), set(), set(), range(2, 3)),
    "ipx::save_core": (set(), set(), set(), range(1, 2)),
    "ipx::update_checksums": (set(), set(), set(), range(1, 2)),
    "launch_runs": (
        {"-to_step", "-jobs", "-dir"},
        {"-next_step", "-scripts_only", "-force"},
        set(),
        range(1, 99),
    ),
    "make_wrapper": (
        {"-files", "-fileset"},
        {"-top", "-testbench", "-inst_template", "-import", "-force"},
        {"-files"},
        range(1),
    ),
    "open_run": ({"-name", "-pr_config"}, set(), set(), range(1, 2)),
    "package_xo": (
        {
            *("-xo_path", "-kernel_name", "-kernel_xml", "-output_kernel_xml", "-design_xml"),
            *("-ip_directory", "-parent_ip_directory", "-kernel_files", "-ctrl_protocol"),
        },
        {"-force"},
        {"-xo_path", "-kernel_name"},
        range(1),
    ),
    "report_power": ({"-file"}, {"-append"}, {"-file"}, range(1)),
    "report_timing_summary": ({"-file", "-max_paths"}, {"-append"}, {"-file"}, range(1)),
    "report_utilization": ({"-file"}, {"-append", "-hierarchical"}, {"-file"}, range(1)),
    "save_bd_design": (set(), set(), set(), range(2)),
    "set_property": ({"-dict"}, set(), set(), range(1, 4)),
    "update_compile_order": ({"-fileset"}, {"-force_gui"}, set(), range(1)),
    "update_ip_catalog": ({"-repo_path", "-add_ip", "-delete_ip"}, {"-rebuild"}, set(), range(1)),
    "validate_bd_design": ({"-design"}, {"-force"}, set(), range(1)),
    # In UG835 as wait_on_runs from 2021 on, with this name still in its examples.
    "wait_on_run": ({"-timeout"}, set(), set(), range(1, 2)),
    "write_hw_platform": (
        {"-file"},
        {"-fixed", "-force", "-include_bit", "-include_sim_content", "-minimal", "-hw", "-hw_emu"},
        {"-file"},
        range(1),
    ),
}


def complaint(call: list[str]) -> str | None:
    """Error in a call of a vendor's command."""
    name, *arguments = call
    valued, plain, required, others = COMMANDS[name]
    seen: set[str] = set()
    rest = []
    i = 0
    while i < len(arguments):
        argument = arguments[i]
        # A number below zero is no option.
        if argument.startswith("-") and not argument[1:].isdigit():
            if argument not in valued | plain | EVERYWHERE:
                return f"{name} has no option {argument}"
            if argument in seen:
                return f"{name} got {argument} twice"
            seen.add(argument)
            i += argument in valued
            if i >= len(arguments):
                return f"{name} {argument} lacks its value"
        else:
            rest.append(argument)
        i += 1
    if missing := required - seen:
        return f"{name} lacks {sorted(missing)[0]}"
    if name == "set_property" and "-dict" not in seen and len(rest) != 3:
        return f"set_property needs name, value and object, not {rest}"
    if len(rest) not in others:
        return f"{name} has {len(rest)} arguments: {rest}"
    return None


@pytest.fixture(scope="session")
def small_plan() -> Callable[..., BuildPlan]:
    """The plan of a board with a small kernel, made once."""

    @functools.cache
    def make(name: str, **choices: Any) -> BuildPlan:
        return make_plan(small(load_board(name)), Choices(**choices))

    return make


@dataclass
class Vendor:
    """The vendor's tools, as far as they are stood in for.

    `calls()` are the Tcl commands that Vivado was given: name and arguments. `complaints()` is what
    is wrong with them.
    """

    folder: Path
    log: Path
    set: Callable[[str, str], None]

    def calls(self) -> list[list[str]]:
        text = self.log.read_text() if self.log.exists() else ""
        return [record.split("\x1f") for record in text.split("\x1e")[:-1]]

    def complaints(self) -> list[str]:
        """Errors in the calls so far."""
        return [text for call in self.calls() if (text := complaint(call)) is not None]

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def replace(self, name: str, version: str | None = None, body: str | None = None) -> None:
        old_version, old_body = SCRIPTS[name]
        self.write(name, version or old_version, old_body if body is None else body)

    def write(self, name: str, version: str, body: str) -> None:
        path = self.folder / name
        asks = 'if [ "$1" = -version ] || [ "$1" = --version ]'
        path.write_text(f"#!/bin/sh\n{asks}; then echo '{version}'; exit 0; fi\n{body}\n")
        path.chmod(0o755)


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    """Stand-ins for the vendor's tools on the PATH, and nothing else but the system's own."""
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed")
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "calls"
    for name, value in {
        "PATH": f"{folder}:/usr/bin:/bin",
        "VENDOR_LOG": str(log),
        "VENDOR_TCL": str(tmp_path / "run.tcl"),
        "VENDOR_REPORTS": str(HERE / "reports"),
        "VENDOR_PROGRESS": "100%",
        "VENDOR_SLACK": "0.412",
        "VENDOR_PLATFORM": "xilinx_u250_gen3x16_xdma_4_1_202210_1",
    }.items():
        monkeypatch.setenv(name, value)
    # A Tcl error ends Vivado in batch mode.
    (tmp_path / "run.tcl").write_text(
        f"source {HERE / 'vendor.tcl'}\n"
        'if {[catch {source [lindex $argv 0]} text]} { puts "ERROR: $text"; exit 1 }\n'
    )
    tools = Vendor(folder, log, monkeypatch.setenv)
    for name in SCRIPTS:
        tools.replace(name)
    return tools
