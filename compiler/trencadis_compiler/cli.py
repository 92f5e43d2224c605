"""`sparse-compile`."""

import json
from pathlib import Path

import click
from rich.console import Console

from trencadis_boards import BoardError, board_names, load_board
from trencadis_compiler.calibration import calibration_data
from trencadis_compiler.compile import compile_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.report import render_report
from trencadis_compiler.report_files import write_report
from trencadis_hw.container import ContainerError, InputError
from trencadis_hw.reported import reported

__all__ = ["main"]

MISTAKES = (CompileError, ContainerError, InputError, BoardError)

FILE = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, help="Overlay image to write.  [default: MODEL.tcd]")
@click.option(
    "--board",
    default="sim",
    show_default=True,
    help=f"One of {', '.join(board_names())}, or the path of a board's file.",
)
@click.option(
    "--calibration",
    type=FILE,
    help="Inputs (.npy, one word a row): a float model is quantised with them, and the activations "
    "of ReLU-sparse layers are counted on them.",
)
@click.option(
    "--input-nonzeros",
    type=click.IntRange(1),
    metavar="N",
    help="Send indices and values of the input instead of all of it: at most N channels of a "
    "position (of a vector: N values) are not zero.",
)
@click.option("--report", type=FILE, help="Folder for the report as JSON and plots.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.version_option(package_name="trencadis")
def main(
    model: Path,
    output: Path | None,
    board: str,
    calibration: Path | None,
    input_nonzeros: int | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Compile a sparse, quantised ONNX MODEL into an overlay image."""
    target = output or model.with_suffix(".tcd")
    messages = Console(stderr=True)
    with reported("sparse-compile", bad_input=MISTAKES):
        if target.resolve() == model.resolve():
            raise CompileError(f"{target}: is the model itself; choose another output")
        with calibration_data(calibration) as data, messages.status("compiling") as status:
            compiled = compile_model(
                model,
                load_board(board),
                calibration=data,
                input_nonzeros=input_nonzeros,
                progress=status.update,
            )
            if report is not None:
                status.update("writing the report")
                write_report(compiled.overlay.report, compiled.placement, report)
            compiled.overlay.save(target)
    if as_json:
        print(json.dumps(compiled.overlay.report, indent=2))
    else:
        console = Console()
        # The table needs some room; where there is no terminal there is no limit.
        width = console.width if console.is_terminal else 110
        Console(width=width).print(render_report(compiled.overlay.report, str(model), str(target)))
