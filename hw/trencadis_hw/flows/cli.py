"""The command behind `make rtl` and `make bitstream`."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from trencadis_boards import BoardError, load_board
from trencadis_hw.container import ContainerError
from trencadis_hw.flows.build import Choices, find_platform, kernel_of, make_plan
from trencadis_hw.flows.plan import BuildPlan, PlanError
from trencadis_hw.flows.platforms import installed_platforms
from trencadis_hw.flows.reports import ReportError, collect, render
from trencadis_hw.flows.run import (
    BuildError,
    MissingToolError,
    install,
    run_steps,
    write_files,
)

__all__ = ["main"]

FAILED, BAD_INPUT = 1, 2
SUMMARY = "report.json"

FILE = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("goal", type=click.Choice(["rtl", "bitstream"]))
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

    rtl needs no vendor's tool. bitstream goes on where it stopped, if it is given again. BOARD is
    a name, or a .toml file of your own.
    """
    console = Console(stderr=True, highlight=False)
    try:
        board = load_board(board_name)
        folder = out or Path("build") / board.name
        resume = _resume(board_name, out, model, platform, target)
        if goal == "bitstream" and board.platform and shutil.which("platforminfo"):
            platform = find_platform(board, installed_platforms(), platform)
        plan = make_plan(board, Choices(platform=platform, target=target, model=model))
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
                    digest = kernel_of(board).digest
                    install(folder / name, folder.parent / "xclbin" / f"{digest:016x}.xclbin")
        summary = collect(plan, folder)
        (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
        _show(summary, plan, board.title, as_json)
        routed = summary.get("timing") or summary.get("nextpnr")
        if routed and not routed["met"]:
            raise BuildError(f"timing is not met; see {folder / SUMMARY}, or lower clock_mhz")
    except (BoardError, PlanError, ContainerError) as error:
        _fail(error, BAD_INPUT)
    except MissingToolError as error:
        _fail(error, FAILED)
    except (BuildError, ReportError, OSError, ValueError) as error:
        _fail(error, FAILED)


def _resume(
    board: str, out: Path | None, model: Path | None, platform: str | None, target: str
) -> str:
    """The command that goes on with this build."""
    words = ["make", "bitstream", f"BOARD={board}"]
    if model is not None:
        words.append(f"MODEL={model}")
    if out is None and platform is None and target == "hw":
        return shlex.join(words)
    words = ["python", "-m", "trencadis_hw.flows", "bitstream", board]
    for option, value in (("--out", out), ("--model", model), ("--platform", platform)):
        if value is not None:
            words += [option, str(value)]
    return shlex.join([*words, "--target", target])


def _show(summary: dict[str, Any], plan: BuildPlan, title: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary, indent=1))
    else:
        Console().print(render(summary, title))


def _fail(error: Exception, status: int) -> None:
    print(f"build: {error}", file=sys.stderr)
    raise SystemExit(status) from None
