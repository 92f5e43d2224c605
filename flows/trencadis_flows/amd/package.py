"""The kernel as an IP core and as a Vitis kernel object: the script for Vivado."""

from trencadis_boards import Board
from trencadis_flows.amd.kernel_xml import (
    CONTROL_PORT,
    CONTROL_RANGE,
    LIBRARY,
    MEMORY_PORT,
    VENDOR,
    VERSION,
    kernel_arguments,
)
from trencadis_flows.amd.tcl import command
from trencadis_format.registers import Register
from trencadis_hw.generate import KERNEL_NAME

__all__ = ["CLOCK", "INTERRUPT", "IP_FOLDER", "KERNEL_OBJECT", "RESET", "VERILOG", "package_script"]

VERILOG = "rtl/trencadis.v"
IP_FOLDER = "ip"
PROJECT_FOLDER = "package_project"
KERNEL_OBJECT = f"{KERNEL_NAME}.xo"
CLOCK, RESET, INTERRUPT = "ap_clk", "ap_rst_n", "interrupt"
OWN_REGISTERS = (
    Register.ABORT,
    Register.STATUS,
    Register.VERSION,
    Register.CONFIGURATION,
)


def package_script(board: Board, *, kernel_object: bool) -> str:
    """Vivado packages the Verilog as an IP core.

    Parameters
    ----------
    board : Board
        Its part, and the clock it asks for.
    kernel_object : bool
        Whether to make `KERNEL_OBJECT` out of the core, for `v++`.
    """
    assert board.part is not None
    lines = [
        "# Packages the kernel. Made by trencadis; run by: vivado -mode batch -source FILE",
        command("file", "delete", "-force", PROJECT_FOLDER, IP_FOLDER),
        command("create_project", "-force", "package", PROJECT_FOLDER, "-part", board.part.name),
        command("add_files", "-norecurse", VERILOG),
        command("set_property", "top", KERNEL_NAME) + " [current_fileset]",
        command("update_compile_order", "-fileset", "sources_1"),
        command(
            "ipx::package_project",
            *("-root_dir", IP_FOLDER),
            *("-vendor", VENDOR),
            *("-library", LIBRARY),
            *("-taxonomy", "/KernelIP"),
            *("-import_files",),
            *("-set_current", "true"),
        ),
        "set core [ipx::current_core]",
    ]
    for name, value in (
        ("name", KERNEL_NAME),
        ("version", VERSION),
        ("core_revision", 1),
        ("display_name", "Trencadis"),
    ):
        lines.append(command("set_property", name, value) + " $core")
    lines += [
        "foreach parameter [ipx::get_user_parameters -of_objects $core] {",
        "    ipx::remove_user_parameter [get_property NAME $parameter] $core",
        "}",
    ]
    for port in (CONTROL_PORT, MEMORY_PORT):
        lines.append(
            command("ipx::associate_bus_interfaces", "-busif", port, "-clock", CLOCK) + " $core"
        )
    lines.append(
        command("ipx::associate_bus_interfaces", "-clock", CLOCK, "-reset", RESET) + " $core"
    )
    lines += [
        f"set clock [ipx::get_bus_interfaces {CLOCK} -of_objects $core]",
        # The platform sets the frequency.
        "set tolerance [ipx::add_bus_parameter FREQ_TOLERANCE_HZ $clock]",
        "set_property value -1 $tolerance",
        f"set line [ipx::get_bus_interfaces -quiet {INTERRUPT} -of_objects $core]",
        'if {$line eq ""} {',
        f"    ipx::infer_bus_interface {INTERRUPT} xilinx.com:signal:interrupt_rtl:1.0 $core",
        "}",
        *_register_map(),
        "set_property sdx_kernel true $core",
        "set_property sdx_kernel_type rtl $core",
        "set_property supported_families {} $core",
        "set_property auto_family_support_level level_2 $core",
        "ipx::create_xgui_files $core",
        "ipx::update_checksums $core",
        "ipx::check_integrity -kernel $core",
        "ipx::save_core $core",
        "close_project -delete",
    ]
    if kernel_object:
        lines += [
            command("file", "delete", "-force", KERNEL_OBJECT),
            command(
                "package_xo",
                *("-xo_path", KERNEL_OBJECT),
                *("-kernel_name", KERNEL_NAME),
                *("-ip_directory", IP_FOLDER),
                *("-kernel_xml", "kernel.xml"),
            ),
        ]
    return "\n".join(lines) + "\n"


def _register_map() -> list[str]:
    """Registers of the control port, with the arguments that are addresses tied to their port."""
    lines = [
        f"set map [ipx::add_memory_map {CONTROL_PORT} $core]",
        (
            f"set_property slave_memory_map_ref {CONTROL_PORT} "
            f"[ipx::get_bus_interfaces {CONTROL_PORT} -of_objects $core]"
        ),
        "set block [ipx::add_address_block reg0 $map]",
        f"set_property range {CONTROL_RANGE} $block",
        "set_property width 32 $block",
    ]
    fixed = (
        ("CTRL", Register.CONTROL, 32, "control"),
        ("GIER", Register.GLOBAL_INTERRUPT_ENABLE, 32, "global interrupt enable"),
        ("IP_IER", Register.INTERRUPT_ENABLE, 32, "interrupt enable"),
        ("IP_ISR", Register.INTERRUPT_STATUS, 32, "interrupt status"),
    )
    registers = [(name, int(offset), bits, text, False) for name, offset, bits, text in fixed]
    registers += [
        (argument.name, argument.offset, argument.bits, "argument", argument.pointer)
        for argument in kernel_arguments()
    ]
    registers += [
        (
            register.name.lower(),
            int(register),
            64 if register is Register.CONFIGURATION else 32,
            "own register",
            False,
        )
        for register in OWN_REGISTERS
    ]
    for name, offset, bits, text, pointer in registers:
        lines += [
            command("set", "register") + f" [{command('ipx::add_register', name)} $block]",
            command("set_property", "description", text) + " $register",
            f"set_property address_offset {offset:#x} $register",
            f"set_property size {bits} $register",
        ]
        if pointer:
            lines += [
                "set parameter [ipx::add_register_parameter ASSOCIATED_BUSIF $register]",
                f"set_property value {MEMORY_PORT} $parameter",
            ]
    return lines
