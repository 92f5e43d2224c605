"""Generated Tcl, run by a Tcl interpreter with stand-ins for the vendor's commands."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trencadis_boards import Board, ZynqFlow
from trencadis_flows.amd.kernel_xml import kernel_arguments
from trencadis_flows.amd.tcl import command, word
from trencadis_flows.amd.vitis import link_configuration
from trencadis_flows.amd.zynq import plan_zynq
from trencadis_flows.amd.zynq_block_design import block_design
from trencadis_flows.build import Choices, make_plan
from trencadis_flows.plan import BuildPlan, PlanError
from trencadis_flows.run import BuildError, run_steps, write_files
from trencadis_format.registers import Register
from trencadis_hw.kernel import Kernel

Boards = Callable[[str], Board]
Plans = Callable[..., BuildPlan]
Vendor = Any


def carry_out(plan: BuildPlan, out: Path) -> None:
    write_files(plan, out)
    run_steps(plan, out, "make bitstream BOARD=x")


def zynq(board: Board, **choices: Any) -> BuildPlan:
    return plan_zynq(board, **choices)


HOSTILE = ["{", "a}", "a\\b", "} [exec false] {", "a\nb", "\\", "[exit]}{$x", "\t\x7f", "é{"]


@pytest.mark.parametrize(
    "text", ["", "a b", "$x", "[exit]", 'say "hi"', "a;b", "#c", "ü", "-1", *HOSTILE]
)
def test_words_are_read_back_as_they_were(vendor: Vendor, tmp_path: Path, text: str) -> None:
    script = tmp_path / "word.tcl"
    script.write_text(command("puts", "-nonewline", text))
    done = subprocess.run(["tclsh", script], capture_output=True, text=True, check=True)
    assert done.stdout == text


@pytest.mark.parametrize("text", HOSTILE)
def test_words_stay_words_inside_a_body(vendor: Vendor, tmp_path: Path, text: str) -> None:
    script = tmp_path / "word.tcl"
    script.write_text(f"if {{1}} {{\n    {command('puts', '-nonewline', text)}\n}}\n")
    done = subprocess.run(["tclsh", script], capture_output=True, check=True)
    assert done.stdout.decode() == text


@pytest.mark.parametrize("text", HOSTILE)
def test_settings_of_the_processor_run_no_commands(
    vendor: Vendor, board: Boards, text: str
) -> None:
    good = board("zu3eg")
    assert isinstance(good.flow, ZynqFlow)
    processor = replace(good.flow.processor, settings={"PSU__X": text}, memory_segment=text)
    script = block_design(replace(good, flow=ZynqFlow(processor=processor)))
    assert f"CONFIG.PSU__X {word(text)} \\" in script
    assert f"[get_bd_addr_segs {word(f'processor/{text}')}]" in script


@pytest.mark.parametrize("name", ["DDR[0]\n[vivado]", "DDR[0]:x", "a b", "a=b", "", "a#b"])
def test_names_of_banks_add_no_settings(board: Boards, name: str) -> None:
    good = board("u250")
    bad = replace(good, banks=(replace(good.banks[0], name=name),))
    with pytest.raises(PlanError, match="the name of a bank or its region must be one word"):
        link_configuration(bad)


def test_card_from_verilog_to_xclbin(small_plan: Plans, vendor: Vendor, tmp_path: Path) -> None:
    plan = small_plan("u250")
    carry_out(plan, tmp_path / "out")
    assert vendor.complaints() == []
    assert (tmp_path / "out" / "trencadis.hw.xclbin").read_text() == "linked\n"


@pytest.mark.parametrize("platform", [None, "u96v2_sbc_base"])
def test_zynq_from_verilog_to_bitstream(
    small_plan: Plans, vendor: Vendor, tmp_path: Path, platform: str | None
) -> None:
    out = tmp_path / "out"
    plan = small_plan("zu3eg", platform=platform)
    carry_out(plan, out)
    assert vendor.complaints() == []
    made = {path.name for path in out.iterdir() if path.is_file()}
    assert {f"trencadis.{end}" for end in ("bit", "bit.bin", "hwh", "xsa", "dtbo")} <= made
    assert ("trencadis.xclbin" in made) == (platform is not None)
    assert (out / "reports" / "timing.rpt").exists()


def test_the_judge_knows_bad_calls(vendor: Vendor, tmp_path: Path) -> None:
    """The checks above find each of these."""
    script = tmp_path / "bad.tcl"
    bad = {
        "create_bd_cell -type ip x": "create_bd_cell lacks -vlnv",
        "set_property top [current_fileset]": "set_property needs name, value and object",
        "connect_bd_net one": "connect_bd_net has 1 arguments",
        "save_bd_design -now": "save_bd_design has no option -now",
        "add_files": "add_files has 0 arguments",
        "wait_on_run impl_1 -timeout": "wait_on_run -timeout lacks its value",
    }
    script.write_text("\n".join(bad) + "\n")
    subprocess.run(["vivado", "-mode", "batch", "-source", script], check=True)
    for found, expected in zip(vendor.complaints(), bad.values(), strict=True):
        assert found.startswith(expected)
    script.write_text("create_bd_cel x\n")
    done = subprocess.run(
        ["vivado", "-source", script], capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert 'ERROR: invalid command name "create_bd_cel"' in done.stdout


PINS = {
    "reset": {"slowest_sync_clk", "ext_reset_in", "peripheral_aresetn"},
    "control": {"aclk", "aresetn", "S00_AXI", "M00_AXI"},
    "memory": {"aclk", "aresetn", "S00_AXI", "M00_AXI"},
    "processor": {
        "pl_clk0",
        "pl_resetn0",
        "maxihpm0_fpd_aclk",
        "saxihp0_fpd_aclk",
        "pl_ps_irq0",
        "M_AXI_HPM0_FPD",
        "S_AXI_HP0_FPD",
    },
    "kernel": {"ap_clk", "ap_rst_n", "interrupt", "s_axi_control", "m_axi_gmem"},
}
"""All that must be connected, once each."""


def test_block_design_connects_everything_once(
    small_plan: Plans, vendor: Vendor, tmp_path: Path
) -> None:
    carry_out(small_plan("zu3eg"), tmp_path / "out")
    calls = vendor.calls()
    cells = [call[-1] for call in calls if call[0] == "create_bd_cell"]
    assert sorted(cells) == sorted(PINS)
    connected = [
        pin
        for name, *pins in calls
        if name in ("connect_bd_net", "connect_bd_intf_net")
        for pin in pins
    ]
    assert sorted(connected) == sorted(f"{cell}/{pin}" for cell in PINS for pin in PINS[cell])
    named = [call[-1] for call in calls if call[0] in ("get_bd_pins", "get_bd_intf_pins")]
    assert sorted(named) == sorted(connected)
    # A net has one driver, and the first pin is it.
    drivers = [call[1] for call in calls if call[0] == "connect_bd_net"]
    assert drivers == [
        "processor/pl_clk0",
        "processor/pl_resetn0",
        "reset/peripheral_aresetn",
        "kernel/interrupt",
    ]


def test_kernel_has_the_ports_that_scripts_name(board: Boards) -> None:
    kernel = Kernel(board("zu3eg").kernel)
    ports = set(kernel.signature.members)
    assert {"ap_clk", "ap_rst_n", "interrupt"} <= ports
    assert {name for name in ports if not name.startswith(("s_axi_control_", "m_axi_gmem_"))} == {
        "ap_clk",
        "ap_rst_n",
        "interrupt",
    }


def test_registers_of_the_core_are_those_of_the_contract(
    small_plan: Plans, vendor: Vendor, tmp_path: Path
) -> None:
    carry_out(small_plan("zu3eg"), tmp_path / "out")
    calls = vendor.calls()
    names = [call[1] for call in calls if call[0] == "ipx::add_register"]
    offsets = [int(call[2], 16) for call in calls if call[:2] == ["set_property", "address_offset"]]
    assert len(names) == len(offsets)
    own = {"CTRL": "CONTROL", "GIER": "GLOBAL_INTERRUPT_ENABLE", "IP_IER": "INTERRUPT_ENABLE"}
    own["IP_ISR"] = "INTERRUPT_STATUS"
    described = {
        own.get(name, name.upper()): offset for name, offset in zip(names, offsets, strict=True)
    }
    assert described == {register.name: int(register) for register in Register}
    pointers = [argument for argument in kernel_arguments() if argument.pointer]
    tied = [call for call in calls if call[0] == "ipx::add_register_parameter"]
    assert len(tied) == len(pointers) == 4


def test_settings_of_the_processor(small_plan: Plans, vendor: Vendor, tmp_path: Path) -> None:
    carry_out(small_plan("zu3eg"), tmp_path / "out")
    [settings] = [
        call[2].split()
        for call in vendor.calls()
        if call[:2] == ["set_property", "-dict"] and "processor" in call[-1]
    ]
    values = dict(zip(settings[::2], settings[1::2], strict=True))
    assert values["CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"] == "200"
    assert values["CONFIG.PSU__SAXIGP2__DATA_WIDTH"] == "128"
    assert values["CONFIG.PSU__USE__S_AXI_GP2"] == "1"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VENDOR_PROGRESS", "42%", "implementation did not finish"),
        ("VENDOR_SLACK", "-0.120", "timing is not met: the worst slack is -0.120 ns"),
    ],
)
def test_bad_implementation_is_no_bitstream(
    small_plan: Plans, vendor: Vendor, tmp_path: Path, variable: str, value: str, message: str
) -> None:
    vendor.set(variable, value)
    with pytest.raises(BuildError, match=f"step implement failed.*{message}"):
        carry_out(small_plan("zu3eg"), tmp_path / "out")
    assert not (tmp_path / "out" / "trencadis.bit").exists()


def test_link_configuration_spreads_kernels(board: Boards) -> None:
    text = link_configuration(board("u250"))
    names = [f"trencadis_{i}" for i in (1, 2, 3, 4)]
    assert f"nk=trencadis:4:{'.'.join(names)}\n" in text
    for i, name in enumerate(names):
        assert f"slr={name}:SLR{i}\n" in text
        assert f"sp={name}.m_axi_gmem:DDR[{i}]\n" in text
        assert f"freqHz=250000000:{name}.ap_clk\n" in text
    sections = re.findall(r"^\[(\w+)\]$", text, re.MULTILINE)
    assert sections == ["connectivity", "clock", "vivado"]


def test_emulation_needs_a_description_of_the_card(
    small_plan: Plans, vendor: Vendor, tmp_path: Path
) -> None:
    plan = small_plan("u250", target="hw_emu")
    carry_out(plan, tmp_path / "out")
    assert (tmp_path / "out" / "emconfig.json").exists()
    assert plan.results == ("trencadis.hw_emu.xclbin",)


def test_device_tree_has_address_interrupt_and_clock(small_plan: Plans) -> None:
    text = str(small_plan("zu3eg").files["trencadis.dts"])
    assert "trencadis@a0000000 {" in text
    assert "reg = <0x0 0xa0000000 0x0 0x1000>;" in text
    assert text.count("interrupts = <0 89 4>;") == 2
    assert "assigned-clock-rates = <200000000>;" in text
    assert 'firmware-name = "trencadis.bit.bin";' in text
    assert text.count("{") == text.count("}")


def test_device_tree_compiles(small_plan: Plans, tmp_path: Path) -> None:
    """With the real compiler, which must have nothing to say."""
    if shutil.which("dtc") is None:
        pytest.skip("dtc is not installed")
    (tmp_path / "t.dts").write_text(str(small_plan("zu3eg").files["trencadis.dts"]))
    arguments = ["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", "t.dtbo", "t.dts"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    compiled = (tmp_path / "t.dtbo").read_bytes()
    assert compiled[:4] == bytes.fromhex("d00dfeed")
    assert b"trencadis.bit.bin\0" in compiled


def test_zynq_refuses_what_it_cannot_connect(board: Boards) -> None:
    good = board("zu3eg")
    with pytest.raises(PlanError, match="compute_units must be 1 in the block design, not 2"):
        zynq(replace(good, compute_units=2))
    wide = replace(good, kernel=replace(good.kernel, bus_bits=256))
    with pytest.raises(PlanError, match="the kernel's bus has 256 bits, HP0 128"):
        zynq(wide)


@pytest.mark.parametrize("name", ["u250", "zu3eg", "ulx3s"])
def test_same_inputs_same_bytes(small_plan: Plans, board: Boards, name: str) -> None:
    again = make_plan(board(name), Choices())
    assert small_plan(name).files == again.files
    assert small_plan(name).digest == again.digest
