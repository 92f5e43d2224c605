"""`sparse-compile`."""

import json
import sys
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from trencadis_boards import UnknownBoardError, board_names, load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.report import render_report
from trencadis_hw.container import ContainerError

__all__ = ["main"]

BAD_INPUT = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Overlay image to write [default: MODEL.tcd]")
@click.option("--board", default="sim", show_default=True, help=f"Board to compile for: {', '.join(board_names())}")
@click.option("--calibration", type=click.Path(path_type=Path), help="Inputs (.npy) to quantise a float model with, and to profile activations on")
@click.option("--report", type=click.Path(path_type=Path), help="Folder for reports as JSON and plots")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON")
@click.version_option(package_name="trencadis")
def main(
    model: Path,
    output: Path | None,
    board: str,
    calibration: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Compile a sparse, quantised ONNX MODEL into an overlay image."""
    target = output or model.with_suffix(".tcd")
    console = Console()
    errors = Console(stderr=True)
    try:
        with errors.status("compiling") as status:
            compiled = compile_model(
                model, load_board(board), progress=lambda text: status.update(text)
            )
            compiled.overlay.save(target)
    except (CompileError, ContainerError, UnknownBoardError) as error:
        print(f"sparse-compile: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    if as_json:
        print(json.dumps(compiled.overlay.report, indent=2))
    else:
        console.print(render_report(compiled.overlay.report, str(model), str(target)))
