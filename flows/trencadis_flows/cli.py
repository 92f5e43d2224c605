"""The command of `make rtl` and `make bitstream`."""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from trencadis_boards import VitisFlow, load_board
from trencadis_flows.build import Choices, find_platform, make_plan, programs_of
from trencadis_flows.lattice.ecp5_platforms import refuse_overrides
from trencadis_flows.plan import BuildPlan
from trencadis_flows.platforms import installed_platforms
from trencadis_flows.quoting import make_variable
from trencadis_flows.reports import collect, render
from trencadis_flows.run import (
    BuildError,
    check_programs,
    install,
    run_steps,
    write_files,
)
from trencadis_format.command_line import reported
from trencadis_format.files import write_atomically
from trencadis_format.user_cache import default_folder, kept_file, open_cache

__all__ = ["main"]

FAILED, BAD_INPUT = 1, 2
SUMMARY = "report.json"

FILE = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("goal", type=click.Choice(["rtl", "bitstream", "extra"]))
@click.argument("board_name", metavar="BOARD")
@click.option("--out", type=FILE, help="Folder of the build.  [default: build/BOARD]")
@click.option("--model", type=FILE, help="Overlay image (.tcd) to embed.")
@click.option("--platform", help="Vendor's platform, by name or as .xpfm.  [default: the board's]")
@click.option(
    "--target",
    type=click.Choice(["hw", "hw_emu"]),
    default="hw",
    show_default=True,
    help="The card, or the vendor's emulation of it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@reported("build")
def main(
    goal: str,
    board_name: str,
    out: Path | None,
    model: Path | None,
    platform: str | None,
    target: Any,
    as_json: bool,
) -> None:
    """Generate everything for a BOARD (rtl), or build its bitstream too.

    rtl needs no vendor's tool. bitstream goes on where it stopped, if it is given again. extra
    prints the extra of trencadis that brings the board's tools, if there is one. BOARD is a name,
    or a .toml file of your own.
    """
    console = Console(stderr=True, highlight=False)
    board = load_board(board_name)
    if goal == "extra":
        print(board.flow.extra)
        return
    refuse_overrides(os.environ)
    folder = out or Path("build") / board.name
    resume = _resume(board_name, out, model, platform, target)
    if goal == "bitstream" and isinstance(board.flow, VitisFlow) and shutil.which("platforminfo"):
        platform = find_platform(board, installed_platforms(), platform)
    choices = Choices(platform=platform, target=target, model=model)
    if goal == "bitstream":
        check_programs(programs_of(board, choices), folder, resume)
    plan = make_plan(board, choices)
    console.print(f"writing {len(plan.files)} files to {folder}")
    write_files(plan, folder)
    if goal == "rtl":
        console.print(f"next: {resume}", soft_wrap=True)
        return
    run_steps(plan, folder, resume, lambda text: console.print(text, soft_wrap=True))
    if target == "hw":
        for name in plan.results:
            if name.endswith(".xclbin"):
                # Where device xrt looks for it.
                kept = open_cache(default_folder("xclbin")).folder
                target = kept_file(kept, f"{board.kernel.digest:016x}.xclbin")
                install(folder / name, target)
                console.print(f"kept as {target}", soft_wrap=True)
    summary = collect(plan, folder)
    write_atomically(folder / SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())
    _show(summary, plan, board.title, as_json)
    routed = summary.get("timing") or summary.get("nextpnr")
    if routed and not routed["met"]:
        raise BuildError(f"timing is not met; see {folder / SUMMARY}, or lower clock_mhz")


def _resume(
    board: str, out: Path | None, model: Path | None, platform: str | None, target: str
) -> str:
    """The command that goes on with this build."""
    if out is None and platform is None and target == "hw":
        variables = {"BOARD": board} | ({} if model is None else {"MODEL": model})
        return " ".join(
            ["make", "bitstream", *(make_variable(*item) for item in variables.items())]
        )
    words = ["python", "-m", "trencadis_flows", "bitstream", board]
    for option, value in (("--out", out), ("--model", model), ("--platform", platform)):
        if value is not None:
            words += [option, str(value)]
    return shlex.join([*words, "--target", target])


def _show(summary: dict[str, Any], plan: BuildPlan, title: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary, indent=1))
    else:
        Console().print(render(summary, title))
