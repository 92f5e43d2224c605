"""Data-centre cards: a Vitis kernel object, linked with a platform into an `.xclbin`."""

from typing import Literal

from trencadis_boards import Board, Tool
from trencadis_flows.amd.kernel_xml import MEMORY_PORT, kernel_xml
from trencadis_flows.amd.package import CLOCK, KERNEL_OBJECT, VERILOG, package_script
from trencadis_flows.amd.report_script import REPORT_SCRIPT, REPORTS, report_script
from trencadis_flows.plan import BuildPlan, Program, Step
from trencadis_flows.quoting import cfg_value
from trencadis_format.overlay import Overlay
from trencadis_hw.generate import KERNEL_NAME, kernel_verilog

__all__ = ["Target", "link_configuration", "plan_vitis", "vendor_program", "vitis_programs"]

Target = Literal["hw", "hw_emu"]

PRODUCTS = {
    "v++": "AMD Vitis",
    "vivado": "AMD Vivado",
    "platforminfo": "AMD Vitis",
    "emconfigutil": "AMD Vitis",
    "xclbinutil": "the Xilinx Runtime XRT",
}
VERSION_ARGUMENTS = {"vivado": ("-version",)}


def vendor_program(board: Board, name: str) -> Program:
    """A vendor's tool, in the versions the board takes."""
    versions: Tool | None = board.tools.get(name)
    return Program(
        name=name,
        product=PRODUCTS[name],
        versions=versions,
        version_arguments=VERSION_ARGUMENTS.get(name, ("--version",)),
    )


def vitis_programs(board: Board, *, target: Target, model: bool) -> tuple[Program, ...]:
    """List the programs that a card's build needs."""
    names = ["vivado", "v++"]
    names += ["emconfigutil"] * (target == "hw_emu") + ["xclbinutil"] * model
    return tuple(vendor_program(board, name) for name in names)


def link_configuration(board: Board) -> str:
    """Configure `v++`: the number of kernels, their places, banks and clock."""
    names = [f"{KERNEL_NAME}_{number + 1}" for number in range(board.compute_units)]
    lines = ["[connectivity]", f"nk={KERNEL_NAME}:{board.compute_units}:{'.'.join(names)}"]
    for number, name in enumerate(names):
        bank = board.bank_of(number)
        subject = f"board {board.name}: the name of a bank or its region"
        if bank.region:
            region = cfg_value(bank.region, separators=":", subject=subject)
            lines.append(f"slr={name}:{region}")
        memory = cfg_value(bank.name, separators=":.", subject=subject)
        lines.append(f"sp={name}.{MEMORY_PORT}:{memory}")
    # A frequency by `clock` comes from the platform's fixed clocks (UG1393): timing is met or the
    # link fails. The scalable clock, kernel_frequency's, would be slowed down without a word.
    lines += ["", "[clock]"]
    lines += [f"freqHz={round(board.clock_mhz * 1e6)}:{name}.{CLOCK}" for name in names]
    lines += [
        "",
        "[vivado]",
        "prop=run.impl_1.STEPS.PHYS_OPT_DESIGN.IS_ENABLED=true",
        "prop=run.impl_1.STEPS.OPT_DESIGN.ARGS.DIRECTIVE=Explore",
        "",
    ]
    return "\n".join(lines)


def plan_vitis(
    board: Board,
    *,
    platform: str,
    target: Target = "hw",
    model: Overlay | None = None,
    model_file: bytes = b"",
) -> BuildPlan:
    """Plan the `.xclbin` of a card.

    Parameters
    ----------
    board : Board
        A board of the flow `vitis`.
    platform : str
        Name of the platform, or path of its `.xpfm`.
    target : str
        `hw`, or `hw_emu` for the vendor's emulation.
    model, model_file : Overlay, bytes
        A network to put into the `.xclbin`, as its section `USER_METADATA`.
    """
    files: dict[str, str | bytes] = {
        VERILOG: kernel_verilog(board.kernel),
        "kernel.xml": kernel_xml(board.kernel),
        "package_kernel.tcl": package_script(board, kernel_object=True),
        "link.cfg": link_configuration(board),
    }
    binary = f"{KERNEL_NAME}.{target}.xclbin"
    linked = f"{KERNEL_NAME}.{target}.linked.xclbin" if model is not None else binary
    if target == "hw":
        files[REPORT_SCRIPT] = report_script(own_run=False)
    steps = [_package(board), _link(board, platform, target, linked)]
    if target == "hw_emu":
        steps.append(_describe_emulated_card(board, platform))
    if model is not None:
        files["model.tcd"] = model_file
        steps.append(_embed(board, target, linked, binary))
    return BuildPlan(
        files=files,
        steps=tuple(steps),
        reports=REPORTS if target == "hw" else {},
        results=(binary,),
    )


def _package(board: Board) -> Step:
    return Step(
        name="package",
        title="Vivado packages the kernel",
        program=vendor_program(board, "vivado"),
        arguments=("-mode", "batch", "-nojournal", "-notrace", "-source", "package_kernel.tcl"),
        inputs=(VERILOG, "kernel.xml", "package_kernel.tcl"),
        outputs=(KERNEL_OBJECT,),
    )


def _link(board: Board, platform: str, target: Target, linked: str) -> Step:
    hook: tuple[str, ...] = ()
    if target == "hw":
        hook = (
            "--vivado.prop",
            f"run.impl_1.STEPS.ROUTE_DESIGN.TCL.POST={{out}}/{REPORT_SCRIPT}",
        )
    return Step(
        name=f"link_{target}",
        title="v++ links the kernel with the platform (hours)"
        if target == "hw"
        else "v++ links the kernel for emulation",
        program=vendor_program(board, "v++"),
        arguments=(
            *("-l", "-t", target),
            *("--platform", platform),
            *("--config", "link.cfg"),
            *("--save-temps", "-R2"),
            *hook,
            *("-o", linked),
            KERNEL_OBJECT,
        ),
        inputs=(KERNEL_OBJECT, "link.cfg", *((REPORT_SCRIPT,) if hook else ())),
        outputs=(linked,),
    )


def _describe_emulated_card(board: Board, platform: str) -> Step:
    return Step(
        name="emulation_configuration",
        title="emconfigutil describes the emulated card",
        program=vendor_program(board, "emconfigutil"),
        arguments=("--platform", platform, "--nd", "1"),
        inputs=("link.cfg",),
        outputs=("emconfig.json",),
    )


def _embed(board: Board, target: Target, linked: str, binary: str) -> Step:
    """Step that puts `model.tcd` into the linked file."""
    return Step(
        name=f"embed_{target}",
        title="xclbinutil puts the model in",
        program=vendor_program(board, "xclbinutil"),
        arguments=(
            *("--input", linked),
            *("--add-section", "USER_METADATA:RAW:model.tcd"),
            *("--output", binary),
            "--force",
        ),
        inputs=(linked, "model.tcd"),
        outputs=(binary,),
    )
