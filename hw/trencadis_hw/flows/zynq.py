"""Zynq UltraScale+ boards: the kernel beside the processing system, as a Vivado block design."""

from trencadis_boards import Board, Processor
from trencadis_hw.config import KernelConfig
from trencadis_hw.container import Overlay
from trencadis_hw.flows.kernel_xml import (
    CONTROL_PORT,
    CONTROL_RANGE,
    LIBRARY,
    MEMORY_PORT,
    VENDOR,
    VERSION,
    kernel_xml,
)
from trencadis_hw.flows.package import (
    CLOCK,
    INTERRUPT,
    IP_FOLDER,
    KERNEL_OBJECT,
    RESET,
    VERILOG,
    package_script,
)
from trencadis_hw.flows.plan import BuildPlan, PlanError, Program, Step
from trencadis_hw.flows.report_script import REPORT_SCRIPT, REPORTS, report_script
from trencadis_hw.flows.tcl import command
from trencadis_hw.flows.vitis import link_configuration, vendor_program
from trencadis_hw.generate import KERNEL_NAME, kernel_verilog

__all__ = ["block_design", "device_tree", "plan_zynq"]

DESIGN = "system"
PROJECT = "project"
NAME = KERNEL_NAME
JOBS = 2
BOOTGEN = Program(name="bootgen", product="AMD Vivado (or Debian's bootgen-xlnx)")
DTC = Program(name="dtc", product="the device tree compiler (Debian: device-tree-compiler)")
AFI_WIDTHS = {128: 0, 64: 1, 32: 2}
"""How a memory port's width is written into the processing system's register."""


def _processor(board: Board) -> Processor:
    assert board.processor is not None
    return board.processor


def block_design(board: Board, kernel: KernelConfig) -> str:
    """Vivado builds processing system, kernel and what connects them, and writes the bitstream.

    Raises
    ------
    PlanError
        If there is to be more than one kernel.
    """
    processor = _processor(board)
    assert board.part is not None
    if board.kernels != 1:
        raise PlanError(
            f"board {board.name}: kernels must be 1 in the block design, not {board.kernels}; give "
            "the kernel more cores instead"
        )
    settings = {
        **processor.settings,
        "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": f"{board.clock_mhz:g}",
    }

    def net(*names: str) -> str:
        return " ".join(["connect_bd_net", *(f"[get_bd_pins {name}]" for name in names)])

    def bus(*names: str) -> str:
        return " ".join(["connect_bd_intf_net", *(f"[get_bd_intf_pins {name}]" for name in names)])

    def cell(name: str, ip: str) -> list[str]:
        return [
            f"set definitions [get_property VLNV [get_ipdefs -all {ip}:*]]",
            f"set {name} [create_bd_cell -type ip -vlnv [lindex [lsort $definitions] end] {name}]",
        ]

    lines = [
        "# Builds the block design. Made by trencadis; run by: vivado -mode batch -source FILE",
        command("file", "delete", "-force", PROJECT),
        command("create_project", "-force", DESIGN, PROJECT, "-part", board.part.name),
    ]
    if processor.board_part:
        lines += [
            f"set presets [get_board_parts -quiet {{{processor.board_part}}}]",
            "if {[llength $presets]} {",
            "    set_property board_part [lindex $presets end] [current_project]",
            "}",
        ]
    lines += [
        f"set_property ip_repo_paths {IP_FOLDER} [current_project]",
        "update_ip_catalog",
        command("create_bd_design", DESIGN),
        *cell("processor", processor.ip),
    ]
    if processor.board_part:
        lines += [
            "if {[llength $presets]} {",
            (
                "    apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e "
                "-config {apply_board_preset 1} $processor"
            ),
            "}",
        ]
    lines += [
        "set_property -dict [list \\",
        *(f"    CONFIG.{key} {{{value}}} \\" for key, value in settings.items()),
        "] $processor",
        f"set kernel [create_bd_cell -type ip -vlnv {VENDOR}:{LIBRARY}:{NAME}:{VERSION} kernel]",
        *cell("reset", "xilinx.com:ip:proc_sys_reset"),
        *cell("control", "xilinx.com:ip:smartconnect"),
        *cell("memory", "xilinx.com:ip:smartconnect"),
        "set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] $control",
        "set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] $memory",
        "",
        "# Clock and reset.",
        net(
            f"processor/{processor.clock_pin}",
            f"processor/{processor.control_clock_pin}",
            f"processor/{processor.memory_clock_pin}",
            "reset/slowest_sync_clk",
            "control/aclk",
            "memory/aclk",
            f"kernel/{CLOCK}",
        ),
        net(f"processor/{processor.reset_pin}", "reset/ext_reset_in"),
        net("reset/peripheral_aresetn", "control/aresetn", "memory/aresetn", f"kernel/{RESET}"),
        "",
        "# Registers, memory, interrupt.",
        bus(f"processor/{processor.control_port}", "control/S00_AXI"),
        bus("control/M00_AXI", f"kernel/{CONTROL_PORT}"),
        bus(f"kernel/{MEMORY_PORT}", "memory/S00_AXI"),
        bus("memory/M00_AXI", f"processor/{processor.memory_port}"),
        net(f"kernel/{INTERRUPT}", f"processor/{processor.interrupt_port}"),
        "",
        "# Addresses.",
        (
            f"assign_bd_address -offset {processor.control_address:#x} -range {CONTROL_RANGE} "
            "-target_address_space [get_bd_addr_spaces processor/Data] "
            f"[get_bd_addr_segs kernel/{CONTROL_PORT}/reg0]"
        ),
        (
            "assign_bd_address -target_address_space "
            f"[get_bd_addr_spaces kernel/{MEMORY_PORT}] "
            f"[get_bd_addr_segs processor/{processor.memory_segment}]"
        ),
        "validate_bd_design",
        "save_bd_design",
        "",
        "# Implementation.",
        f"set design [get_files {DESIGN}.bd]",
        "generate_target all $design",
        "add_files -norecurse [make_wrapper -files $design -top]",
        f"set_property top {DESIGN}_wrapper [current_fileset]",
        "update_compile_order -fileset sources_1",
        f"launch_runs impl_1 -to_step write_bitstream -jobs {JOBS}",
        "wait_on_run impl_1",
        "if {[get_property PROGRESS [get_runs impl_1]] ne {100%}} {",
        "    error {implementation did not finish; see the runme.log of the runs in project}",
        "}",
        "open_run impl_1",
        command("source", REPORT_SCRIPT),
        "set slack [get_property STATS.WNS [get_runs impl_1]]",
        "if {$slack < 0} {",
        '    error "timing is not met: the worst slack is $slack ns; see reports/timing.rpt"',
        "}",
        f"file copy -force {PROJECT}/{DESIGN}.runs/impl_1/{DESIGN}_wrapper.bit {NAME}.bit",
        f"write_hw_platform -fixed -include_bit -force -file {NAME}.xsa",
        (
            f"file copy -force {PROJECT}/{DESIGN}.gen/sources_1/bd/{DESIGN}/hw_handoff/"
            f"{DESIGN}.hwh "
            f"{NAME}.hwh"
        ),
        "close_project",
        "",
    ]
    return "\n".join(lines)


def device_tree(board: Board) -> str:
    """The overlay that configures the fabric, and tells Linux of the kernel and of zocl."""
    processor = _processor(board)
    width = AFI_WIDTHS[board.banks[0].bits]
    address = processor.control_address
    return f"""\
// Tells Linux what the bitstream has in it. Made by trencadis.
/dts-v1/;
/plugin/;

&fpga_full {{
\t#address-cells = <2>;
\t#size-cells = <2>;
\tfirmware-name = "{NAME}.bit.bin";
\tresets = <&zynqmp_reset 116>;
}};

&amba {{
\t#address-cells = <2>;
\t#size-cells = <2>;

\tafi0: afi0 {{
\t\tcompatible = "xlnx,afi-fpga";
\t\tconfig-afi = <{processor.afi_registers[0]} {width}>, <{processor.afi_registers[1]} {width}>;
\t}};

\tclocking0: clocking0 {{
\t\t#clock-cells = <0>;
\t\tassigned-clock-rates = <{round(board.clock_mhz * 1e6)}>;
\t\tassigned-clocks = <&zynqmp_clk 71>;
\t\tclock-output-names = "fabric_clk";
\t\tclocks = <&zynqmp_clk 71>;
\t\tcompatible = "xlnx,fclk";
\t}};

\ttrencadis: trencadis@{address:x} {{
\t\tcompatible = "trencadis,kernel-{VERSION}", "generic-uio";
\t\treg = <{address >> 32:#x} {address & 0xFFFFFFFF:#x} 0x0 {CONTROL_RANGE:#x}>;
\t\tinterrupt-parent = <&gic>;
\t\tinterrupts = <0 {processor.interrupt} 4>;
\t\tclocks = <&zynqmp_clk 71>;
\t}};

\tzyxclmm_drm {{
\t\tcompatible = "xlnx,zocl";
\t\tinterrupt-parent = <&gic>;
\t\tinterrupts = <0 {processor.interrupt} 4>;
\t}};
}};
"""


def plan_zynq(
    board: Board,
    kernel: KernelConfig,
    *,
    platform: str | None = None,
    model: Overlay | None = None,
    model_file: bytes = b"",
) -> BuildPlan:
    """Plan the bitstream of a Zynq UltraScale+ board.

    Parameters
    ----------
    board : Board
        A board of the family `zynq`.
    kernel : KernelConfig
        The kernel.
    platform : str, optional
        A Vitis platform; with one, the kernel is also linked into an `.xclbin`.
    model, model_file : Overlay, bytes
        A network to lay beside the bitstream.

    Raises
    ------
    PlanError
        If the board's description cannot be built.
    """
    processor = _processor(board)
    bank = board.banks[0]
    if kernel.bus_bits > bank.bits:
        raise PlanError(
            f"board {board.name}: the kernel's bus has {kernel.bus_bits} bits, {bank.name} "
            f"{bank.bits}; choose bus_bits = {bank.bits} in [kernel]"
        )
    if bank.bits not in AFI_WIDTHS or len(processor.afi_registers) != 2:
        raise PlanError(f"board {board.name}: {bank.name} must have 32, 64 or 128 bits")
    files: dict[str, str | bytes] = {
        VERILOG: kernel_verilog(kernel),
        "kernel.xml": kernel_xml(kernel),
        "package_kernel.tcl": package_script(board, kernel_object=platform is not None),
        "block_design.tcl": block_design(board, kernel),
        REPORT_SCRIPT: report_script(own_run=True),
        "link.cfg": link_configuration(board),
        f"{NAME}.dts": device_tree(board),
        f"{NAME}.bif": f"all:\n{{\n    {NAME}.bit\n}}\n",
    }
    vivado = vendor_program(board, "vivado")
    batch = ("-mode", "batch", "-nojournal", "-notrace", "-source")
    core = f"{IP_FOLDER}/component.xml"
    packaged = (core, *((KERNEL_OBJECT,) if platform is not None else ()))
    steps = [
        Step(
            name="device_tree",
            title="dtc compiles the device-tree overlay",
            program=DTC,
            arguments=("-@", "-q", "-I", "dts", "-O", "dtb", "-o", f"{NAME}.dtbo", f"{NAME}.dts"),
            inputs=(f"{NAME}.dts",),
            outputs=(f"{NAME}.dtbo",),
        ),
        Step(
            name="package",
            title="Vivado packages the kernel",
            program=vivado,
            arguments=(*batch, "package_kernel.tcl"),
            inputs=(VERILOG, "kernel.xml", "package_kernel.tcl"),
            outputs=packaged,
        ),
        Step(
            name="implement",
            title="Vivado builds the block design (an hour)",
            program=vivado,
            arguments=(*batch, "block_design.tcl"),
            inputs=(core, VERILOG, "block_design.tcl", REPORT_SCRIPT),
            outputs=(f"{NAME}.bit", f"{NAME}.hwh", f"{NAME}.xsa"),
        ),
        Step(
            name="bootgen",
            title="bootgen makes the bitstream loadable from Linux",
            program=BOOTGEN,
            arguments=(
                *("-image", f"{NAME}.bif"),
                *("-arch", "zynqmp"),
                *("-process_bitstream", "bin"),
                "-w",
            ),
            inputs=(f"{NAME}.bif", f"{NAME}.bit"),
            outputs=(f"{NAME}.bit.bin",),
        ),
    ]
    results = [f"{NAME}.{suffix}" for suffix in ("bit", "bit.bin", "hwh", "xsa", "dtbo")]
    if platform is not None:
        steps.append(
            Step(
                name="link",
                title="v++ links the kernel with the platform",
                program=vendor_program(board, "v++"),
                arguments=(
                    *("-l", "-t", "hw"),
                    *("--platform", platform),
                    *("--config", "link.cfg"),
                    *("-o", f"{NAME}.xclbin"),
                    KERNEL_OBJECT,
                ),
                inputs=(KERNEL_OBJECT, "link.cfg"),
                outputs=(f"{NAME}.xclbin",),
            )
        )
        results.append(f"{NAME}.xclbin")
    if model is not None:
        files["model.tcd"] = model_file
        results.append("model.tcd")
    return BuildPlan(files=files, steps=tuple(steps), reports=REPORTS, results=tuple(results))
