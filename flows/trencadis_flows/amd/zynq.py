"""Zynq UltraScale+ boards: the kernel beside the processing system, as a Vivado block design."""

from trencadis_boards import Board
from trencadis_flows.amd.kernel_xml import (
    CONTROL_RANGE,
    VERSION,
    kernel_xml,
)
from trencadis_flows.amd.package import (
    IP_FOLDER,
    KERNEL_OBJECT,
    VERILOG,
    package_script,
)
from trencadis_flows.amd.report_script import REPORT_SCRIPT, REPORTS, report_script
from trencadis_flows.amd.vitis import link_configuration, vendor_program
from trencadis_flows.amd.zynq_block_design import block_design, zynq_processor
from trencadis_flows.plan import BuildPlan, PlanError, Program, Step
from trencadis_format.overlay import Overlay
from trencadis_hw.generate import KERNEL_NAME, kernel_verilog

__all__ = ["device_tree", "plan_zynq", "zynq_programs"]

NAME = KERNEL_NAME
BOOTGEN = Program(name="bootgen", product="AMD Vivado (or Debian's bootgen-xlnx)")
DTC = Program(name="dtc", product="the device tree compiler (Debian: device-tree-compiler)")
AFI_WIDTHS = {128: 0, 64: 1, 32: 2}
"""Codes of a memory port's width in the processing system's register."""


def zynq_programs(board: Board, *, platform: bool) -> tuple[Program, ...]:
    """List the programs that a Zynq's build needs."""
    names = ["vivado"] + ["v++"] * platform
    return (DTC, *(vendor_program(board, name) for name in names), BOOTGEN)


def device_tree(board: Board) -> str:
    """The overlay that configures the fabric, and tells Linux of the kernel and of zocl."""
    processor = zynq_processor(board)
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
    *,
    platform: str | None = None,
    model: Overlay | None = None,
    model_file: bytes = b"",
) -> BuildPlan:
    """Plan the bitstream of a Zynq UltraScale+ board.

    Parameters
    ----------
    board : Board
        A board of the flow `zynq`.
    platform : str, optional
        A Vitis platform; with one, the kernel is also linked into an `.xclbin`.
    model, model_file : Overlay, bytes
        A network to lay beside the bitstream.

    Raises
    ------
    PlanError
        If the board's description cannot be built.
    """
    _check_memory_port(board)
    linked = platform is not None
    files = _files(board, linked)
    steps = _steps(board, linked)
    results = [f"{NAME}.{suffix}" for suffix in ("bit", "bit.bin", "hwh", "xsa", "dtbo")]
    if platform is not None:
        steps.append(_link(board, platform))
        results.append(f"{NAME}.xclbin")
    if model is not None:
        files["model.tcd"] = model_file
        results.append("model.tcd")
    return BuildPlan(files=files, steps=tuple(steps), reports=REPORTS, results=tuple(results))


def _check_memory_port(board: Board) -> None:
    """Check that the processing system's port takes the kernel's bus."""
    processor = zynq_processor(board)
    bank, kernel = board.banks[0], board.kernel
    if kernel.bus_bits > bank.bits:
        raise PlanError(
            f"board {board.name}: the kernel's bus has {kernel.bus_bits} bits, {bank.name} "
            f"{bank.bits}; choose bus_bits = {bank.bits} in [kernel]"
        )
    if bank.bits not in AFI_WIDTHS or len(processor.afi_registers) != 2:
        raise PlanError(f"board {board.name}: {bank.name} must have 32, 64 or 128 bits")


def _files(board: Board, linked: bool) -> dict[str, str | bytes]:
    """Files of the build; `linked`: an `.xclbin` is linked as well."""
    return {
        VERILOG: kernel_verilog(board.kernel),
        "kernel.xml": kernel_xml(board.kernel),
        "package_kernel.tcl": package_script(board, kernel_object=linked),
        "block_design.tcl": block_design(board),
        REPORT_SCRIPT: report_script(own_run=True),
        "link.cfg": link_configuration(board),
        f"{NAME}.dts": device_tree(board),
        f"{NAME}.bif": f"all:\n{{\n    {NAME}.bit\n}}\n",
    }


def _steps(board: Board, linked: bool) -> list[Step]:
    """Steps up to the bitstream, in order."""
    vivado = vendor_program(board, "vivado")
    batch = ("-mode", "batch", "-nojournal", "-notrace", "-source")
    core = f"{IP_FOLDER}/component.xml"
    packaged = (core, *((KERNEL_OBJECT,) if linked else ()))
    return [
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


def _link(board: Board, platform: str) -> Step:
    """Step that links the kernel with a Vitis platform."""
    return Step(
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
