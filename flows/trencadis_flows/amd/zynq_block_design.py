"""The Vivado block design of a Zynq: processing system, kernel, and what connects them."""

from trencadis_boards import Board, Processor, ZynqFlow
from trencadis_flows.amd.kernel_xml import (
    CONTROL_PORT,
    CONTROL_RANGE,
    LIBRARY,
    MEMORY_PORT,
    VENDOR,
    VERSION,
)
from trencadis_flows.amd.package import CLOCK, INTERRUPT, IP_FOLDER, RESET
from trencadis_flows.amd.report_script import REPORT_SCRIPT
from trencadis_flows.amd.tcl import command, query, word
from trencadis_flows.plan import PlanError
from trencadis_hw.generate import KERNEL_NAME

__all__ = ["DESIGN", "block_design", "zynq_processor"]

DESIGN = "system"
PROJECT = "project"
JOBS = 2


def zynq_processor(board: Board) -> Processor:
    """Take the processing system of a Zynq board.

    Raises
    ------
    PlanError
        If the board has another flow.
    """
    if not isinstance(board.flow, ZynqFlow):
        raise PlanError(f"board {board.name} has flow {board.flow.kind}, not zynq")
    return board.flow.processor


def block_design(board: Board) -> str:
    """Write the script with which Vivado builds the block design and its bitstream.

    Raises
    ------
    PlanError
        If there is to be more than one kernel.
    """
    processor = zynq_processor(board)
    assert board.part is not None
    if board.compute_units != 1:
        raise PlanError(
            f"board {board.name}: compute_units must be 1 in the block design, not "
            f"{board.compute_units}; give the kernel more cores instead"
        )
    lines = [
        "# Builds the block design. Made by trencadis; run by: vivado -mode batch -source FILE",
        *_processing_system(board, board.part.name, processor),
        *_cells(),
        "",
        "# Clock and reset.",
        *_clock_and_reset(processor),
        "",
        "# Registers, memory, interrupt.",
        *_wiring(processor),
        "",
        "# Addresses.",
        *_addresses(processor),
        "",
        "# Implementation.",
        *_implementation(),
        "",
    ]
    return "\n".join(lines)


def _net(*names: str) -> str:
    return " ".join(["connect_bd_net", *(query("get_bd_pins", name) for name in names)])


def _bus(*names: str) -> str:
    pins = (query("get_bd_intf_pins", name) for name in names)
    return " ".join(["connect_bd_intf_net", *pins])


def _cell(name: str, ip: str) -> list[str]:
    return [
        f"set definitions [get_property VLNV {query('get_ipdefs', '-all', f'{ip}:*')}]",
        f"set {name} [create_bd_cell -type ip -vlnv [lindex [lsort $definitions] end] {name}]",
    ]


def _processing_system(board: Board, part: str, processor: Processor) -> list[str]:
    """A project with the processing system, by the board's preset where there is one."""
    settings = {
        **processor.settings,
        "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": f"{board.clock_mhz:g}",
    }
    presets: list[str] = []
    applied: list[str] = []
    if processor.board_part:
        presets = [
            f"set presets {query('get_board_parts', '-quiet', processor.board_part)}",
            "if {[llength $presets]} {",
            "    set_property board_part [lindex $presets end] [current_project]",
            "}",
        ]
        applied = [
            "if {[llength $presets]} {",
            (
                "    apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e "
                "-config {apply_board_preset 1} $processor"
            ),
            "}",
        ]
    return [
        command("file", "delete", "-force", PROJECT),
        command("create_project", "-force", DESIGN, PROJECT, "-part", part),
        *presets,
        f"set_property ip_repo_paths {IP_FOLDER} [current_project]",
        "update_ip_catalog",
        command("create_bd_design", DESIGN),
        *_cell("processor", processor.ip),
        *applied,
        "set_property -dict [list \\",
        *(f"    {word(f'CONFIG.{key}')} {word(value)} \\" for key, value in settings.items()),
        "] $processor",
    ]


def _cells() -> list[str]:
    """The kernel, its reset, and what connects its ports."""
    kernel = f"{VENDOR}:{LIBRARY}:{KERNEL_NAME}:{VERSION}"
    return [
        f"set kernel [create_bd_cell -type ip -vlnv {kernel} kernel]",
        *_cell("reset", "xilinx.com:ip:proc_sys_reset"),
        *_cell("control", "xilinx.com:ip:smartconnect"),
        *_cell("memory", "xilinx.com:ip:smartconnect"),
        "set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] $control",
        "set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] $memory",
    ]


def _clock_and_reset(processor: Processor) -> list[str]:
    return [
        _net(
            f"processor/{processor.clock_pin}",
            f"processor/{processor.control_clock_pin}",
            f"processor/{processor.memory_clock_pin}",
            "reset/slowest_sync_clk",
            "control/aclk",
            "memory/aclk",
            f"kernel/{CLOCK}",
        ),
        _net(f"processor/{processor.reset_pin}", "reset/ext_reset_in"),
        _net("reset/peripheral_aresetn", "control/aresetn", "memory/aresetn", f"kernel/{RESET}"),
    ]


def _wiring(processor: Processor) -> list[str]:
    return [
        _bus(f"processor/{processor.control_port}", "control/S00_AXI"),
        _bus("control/M00_AXI", f"kernel/{CONTROL_PORT}"),
        _bus(f"kernel/{MEMORY_PORT}", "memory/S00_AXI"),
        _bus("memory/M00_AXI", f"processor/{processor.memory_port}"),
        _net(f"kernel/{INTERRUPT}", f"processor/{processor.interrupt_port}"),
    ]


def _addresses(processor: Processor) -> list[str]:
    return [
        (
            f"assign_bd_address -offset {processor.control_address:#x} -range {CONTROL_RANGE} "
            "-target_address_space [get_bd_addr_spaces processor/Data] "
            f"[get_bd_addr_segs kernel/{CONTROL_PORT}/reg0]"
        ),
        (
            "assign_bd_address -target_address_space "
            f"[get_bd_addr_spaces kernel/{MEMORY_PORT}] "
            + query("get_bd_addr_segs", f"processor/{processor.memory_segment}")
        ),
        "validate_bd_design",
        "save_bd_design",
    ]


def _implementation() -> list[str]:
    """Place, route, judge the timing, and write the bitstream and what describes it."""
    return [
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
        f"file copy -force {PROJECT}/{DESIGN}.runs/impl_1/{DESIGN}_wrapper.bit {KERNEL_NAME}.bit",
        f"write_hw_platform -fixed -include_bit -force -file {KERNEL_NAME}.xsa",
        (
            f"file copy -force {PROJECT}/{DESIGN}.gen/sources_1/bd/{DESIGN}/hw_handoff/"
            f"{DESIGN}.hwh {KERNEL_NAME}.hwh"
        ),
        "close_project",
    ]
