"""From a board's name to a plan."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from trencadis_boards import Board
from trencadis_hw.config import KernelConfig
from trencadis_hw.container import Overlay
from trencadis_hw.flows.ecp5 import plan_ecp5
from trencadis_hw.flows.estimate import check_fits
from trencadis_hw.flows.plan import BuildPlan, PlanError
from trencadis_hw.flows.vitis import Target, plan_vitis
from trencadis_hw.flows.zynq import plan_zynq

__all__ = ["Choices", "find_platform", "kernel_of", "make_plan"]

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a build may be told.

    Attributes
    ----------
    platform : str or None
        The vendor's platform; None for the one the board prefers.
    target : str
        `hw`, or `hw_emu` for the vendor's emulation.
    model : Path or None
        An overlay image to embed.
    """

    platform: str | None = None
    target: Target = "hw"
    model: Path | None = None


def kernel_of(board: Board) -> KernelConfig:
    """The kernel of a board.

    Raises
    ------
    PlanError
        If its configuration is not possible.
    """
    try:
        return KernelConfig.from_dict(dict(board.kernel))
    except ValueError as error:
        raise PlanError(f"board {board.name}: [kernel]: {error}") from error


def make_plan(board: Board, choices: Choices) -> BuildPlan:
    """The build of a board.

    Raises
    ------
    PlanError
        If the board cannot be built for, its kernel does not fit its part, or the model is for
        another kernel.
    ContainerError
        If the model is not a usable overlay image.
    """
    kernel = kernel_of(board)
    model, model_file = None, b""
    if choices.model is not None:
        model = Overlay.load(choices.model)
        model_file = choices.model.read_bytes()
        if model.kernel != kernel:
            raise PlanError(
                f"{choices.model}: is compiled for another kernel than board {board.name}'s; "
                f"compile it with: sparse-compile --board {board.name}"
            )
    if choices.target == "hw_emu" and board.family != "vitis":
        raise PlanError(f"board {board.name}: only cards of the family vitis have target hw_emu")
    if board.family == "simulation":
        raise PlanError(
            f"board {board.name} is only simulated; there is nothing to build: use device sim"
        )
    check_fits(board, kernel)
    match board.family:
        case "vitis":
            assert board.platform is not None
            plan = plan_vitis(
                board,
                kernel,
                platform=choices.platform or board.platform.names[0],
                target=choices.target,
                model=model,
                model_file=model_file,
            )
        case "zynq":
            plan = plan_zynq(
                board, kernel, platform=choices.platform, model=model, model_file=model_file
            )
        case _:
            plan = plan_ecp5(board, kernel, model)
    return with_manifest(plan, board, kernel)


def with_manifest(plan: BuildPlan, board: Board, kernel: KernelConfig) -> BuildPlan:
    """The plan, with a file that says what it is."""
    manifest = {
        "board": board.name,
        "part": board.part.name if board.part else None,
        "clock_mhz": board.clock_mhz,
        "kernels": board.kernels,
        "kernel": kernel.to_dict(),
        "configuration": f"{kernel.digest:016x}",
        "plan": plan.digest,
        "steps": [
            {
                "name": step.name,
                "command": [step.program.name, *step.arguments],
                "outputs": list(step.outputs),
            }
            for step in plan.steps
        ],
    }
    files = {**plan.files, MANIFEST: json.dumps(manifest, indent=1) + "\n"}
    return BuildPlan(files=files, steps=plan.steps, reports=plan.reports, results=plan.results)


def find_platform(board: Board, installed: list[str], wanted: str | None) -> str:
    """The platform to link with.

    Parameters
    ----------
    board : Board
        A board with a platform.
    installed : list of str
        Platforms that are installed.
    wanted : str, optional
        The one asked for, by name or by path of its `.xpfm`.

    Raises
    ------
    PlanError
        If it is not installed, or none is that the board knows.
    """
    assert board.platform is not None
    there = ", ".join(sorted(installed)) or "none"
    if wanted is not None:
        if wanted.endswith(".xpfm") or wanted in installed:
            return wanted
        near = difflib.get_close_matches(wanted, installed, n=1)
        help_ = f"; did you mean {near[0]}?" if near else ""
        raise PlanError(f"platform {wanted!r} is not installed{help_} Installed: {there}")
    for name in board.platform.names:
        if name in installed:
            return name
    raise PlanError(
        f"none of board {board.name}'s platforms is installed: {', '.join(board.platform.names)}; "
        f"install one, or choose one with --platform. Installed: {there}"
    )
