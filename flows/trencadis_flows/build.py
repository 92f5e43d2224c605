"""Plans: from a board's name to the steps of its build."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from trencadis_boards import Board, Ecp5Flow, SimulationFlow, VitisFlow, ZynqFlow
from trencadis_flows.amd.vitis import Target, plan_vitis, vitis_programs
from trencadis_flows.amd.zynq import plan_zynq, zynq_programs
from trencadis_flows.estimate import check_fits
from trencadis_flows.lattice.ecp5 import ecp5_programs, plan_ecp5
from trencadis_flows.plan import BuildPlan, PlanError, Program
from trencadis_format.compiled import load_overlay

__all__ = ["Choices", "find_platform", "make_plan", "programs_of"]

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Choices for a build.

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
    model, model_file = None, b""
    if choices.model is not None:
        model = load_overlay(choices.model)
        model_file = choices.model.read_bytes()
        if model.kernel != board.kernel:
            raise PlanError(
                f"{choices.model}: is compiled for another kernel than board {board.name}'s; "
                f"compile it with: sparse-compile --board {board.name}"
            )
    if choices.target == "hw_emu" and not isinstance(board.flow, VitisFlow):
        raise PlanError(f"board {board.name}: only cards of the flow vitis have target hw_emu")
    flow = board.flow
    if isinstance(flow, SimulationFlow):
        raise PlanError(
            f"board {board.name} is only simulated; there is nothing to build: use device sim"
        )
    check_fits(board, board.kernel)
    match flow:
        case VitisFlow():
            plan = plan_vitis(
                board,
                platform=choices.platform or flow.platforms[0],
                target=choices.target,
                model=model,
                model_file=model_file,
            )
        case ZynqFlow():
            plan = plan_zynq(board, platform=choices.platform, model=model, model_file=model_file)
        case Ecp5Flow():
            plan = plan_ecp5(board, model)
        case _:
            assert_never(flow)
    return with_manifest(plan, board)


def programs_of(board: Board, choices: Choices) -> tuple[Program, ...]:
    """List the programs that a build needs, without making its plan."""
    match board.flow:
        case SimulationFlow():
            return ()
        case VitisFlow():
            model = choices.model is not None
            return vitis_programs(board, target=choices.target, model=model)
        case ZynqFlow():
            return zynq_programs(board, platform=choices.platform is not None)
        case Ecp5Flow():
            return ecp5_programs(board)
        case _:
            assert_never(board.flow)


def with_manifest(plan: BuildPlan, board: Board) -> BuildPlan:
    """Add a file to a plan that says what it is."""
    manifest = {
        "board": board.name,
        "part": board.part.name if board.part else None,
        "clock_mhz": board.clock_mhz,
        "compute_units": board.compute_units,
        "kernel": board.kernel.to_dict(),
        "configuration": f"{board.kernel.digest:016x}",
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
        A board of the flow `vitis`.
    installed : list of str
        Platforms that are installed.
    wanted : str, optional
        The one asked for, by name or by path of its `.xpfm`.

    Raises
    ------
    PlanError
        If it is not installed, or none is that the board knows.
    """
    flow = board.flow
    if not isinstance(flow, VitisFlow):
        raise PlanError(f"board {board.name}: only cards of the flow vitis have a platform")
    there = ", ".join(sorted(installed)) or "none"
    if wanted is not None:
        if wanted.endswith(".xpfm") or wanted in installed:
            return wanted
        near = difflib.get_close_matches(wanted, installed, n=1)
        help_ = f"; did you mean {near[0]}?" if near else ""
        raise PlanError(f"platform {wanted!r} is not installed{help_} Installed: {there}")
    for name in flow.platforms:
        if name in installed:
            return name
    raise PlanError(
        f"none of board {board.name}'s platforms is installed: {', '.join(flow.platforms)}; "
        f"install one, or choose one with --platform. Installed: {there}"
    )
