"""`sparse-compile`."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from trencadis_boards import board_names, load_board
from trencadis_compiler.compile import Compiled, compile_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.quantising.quantise_float import QuantiseOptions
from trencadis_compiler.importer.quantising.ranges import METHODS
from trencadis_compiler.kept_calibration import find_calibration
from trencadis_compiler.options import Options, options_of
from trencadis_compiler.report.boards import compare_boards
from trencadis_compiler.report.files import write_report
from trencadis_compiler.report.table import render_report
from trencadis_compiler.report.truth import truth
from trencadis_compiler.verify.check import check_compiled
from trencadis_format.command_line import reported
from trencadis_format.compiled import CompiledNetwork, read_source
from trencadis_format.files import check_output

__all__ = ["main"]


FILE = click.Path(path_type=Path)

PREDICTED = ("cycles_dense", "cycles_sparse_weights")
"""Figures of the report's truth that are the same in every run, and so are in the file."""

ADVICE_S = 10.0
"""Seconds that are spent on trying changes."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, help="File to write.  [default: MODEL.tcd]")
@click.option(
    "--board",
    help=f"One of {', '.join(board_names())}, or the path of a board's file.  [default: the arrays "
    "of sim, with memories that the model needs]",
)
@click.option(
    "--calibration",
    type=FILE,
    help="Inputs of the model: an .npy file, an .npz file with arrays by name, or a folder of "
    "images. A float model is quantised with them, and the activations of ReLU-sparse layers are "
    "counted on them.",
)
@click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    metavar="NAME=1x3x224x224",
    help="Shape of an input whose sizes the model leaves open; may be given several times.",
)
@click.option(
    "--input-nonzeros",
    type=click.IntRange(1),
    metavar="N",
    help="Send indices and values of the input instead of all of it: at most N channels of a "
    "position (of a vector: N values) are not zero.",
)
@click.option(
    "--place",
    "places",
    multiple=True,
    metavar="NODE=host|NODE=overlay|fastest",
    help="Where a node is to run; may be given several times. `fastest` leaves to the host "
    "whatever is modelled to be faster there, transfers included.",
)
@click.option("--strict", is_flag=True, help="Refuse a model of which a part runs on the host.")
@click.option("--no-verify", is_flag=True, help="Write without judging a few inputs first.")
@click.option("--no-advice", is_flag=True, help="Try no changes that would gain cycles.")
@click.option(
    "--again", type=FILE, metavar="OLD.tcd", help="Compile with the options that OLD.tcd has."
)
@click.option(
    "--method",
    type=click.Choice(sorted(METHODS)),
    help="How the ranges of a float model's activations are found.",
)
@click.option("--exclude", multiple=True, metavar="NODE", help="A node that stays in float.")
@click.option("--report", type=FILE, help="Folder for the report: a page (index.html) and JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.version_option(package_name="trencadis")
@reported("sparse-compile")
def main(
    model: Path,
    output: Path | None,
    board: str | None,
    calibration: Path | None,
    input_shapes: tuple[str, ...],
    input_nonzeros: int | None,
    places: tuple[str, ...],
    strict: bool,
    no_verify: bool,
    no_advice: bool,
    again: Path | None,
    method: Any,
    exclude: tuple[str, ...],
    report: Path | None,
    as_json: bool,
) -> None:
    """Compile an ONNX MODEL: what the overlay can compute for it, the rest for the host."""
    target = output or model.with_suffix(".tcd")
    given, old_board = Options(), "sim"
    if again is not None:
        source = read_source(again)
        given, old_board = options_of(again, source)
        calibration = calibration or find_calibration(again, model, source)
    sized = given.sized if board is None and again is not None else board is None
    board = board or old_board
    check_output(target, [model, calibration, Path(board)])
    options = replace(
        _placed(given, places),
        input_shapes={**given.input_shapes, **dict(map(_shape, input_shapes))},
        input_nonzeros=input_nonzeros or given.input_nonzeros,
        sized=sized,
        strict=strict or given.strict,
        quantise=_quantised_by(given.quantise, method, exclude),
    )
    messages = Console(stderr=True)
    with messages.status("compiling") as status:
        compiled = compile_model(
            model,
            load_board(board),
            calibration=calibration,
            options=options,
            progress=status.update,
            target=target,
        )
        if not no_verify:
            checked = asdict(check_compiled(compiled, progress=status.update))
            compiled = _with_report(compiled, {"verified": checked})
        # Measured figures differ from run to run: they are shown, and not in the file.
        shown = dict(compiled.compiled.report) | truth(
            compiled.parts,
            compiled.compiled.segments,
            load_board(board),
            compiled.runnable,
            compiled.planner,
            advice_s=0 if no_advice else ADVICE_S,
            progress=status.update,
        )
        compiled = _with_report(compiled, {name: shown[name] for name in PREDICTED})
        if report is not None:
            status.update("writing the report")
            boards = compare_boards(compiled.parts, compiled.planner, progress=status.update)
            write_report(
                shown,
                compiled.placements,
                report,
                title=model.name,
                boards=boards,
                quantised=None if isinstance(compiled.judged, Path) else compiled.judged,
            )
        compiled.save(target)
    if as_json:
        print(json.dumps(shown, indent=2))
    else:
        console = Console()
        # The table needs some room; where there is no terminal there is no limit.
        width = console.width if console.is_terminal else 80
        Console(width=width).print(render_report(shown, str(model), str(target)))


def _with_report(compiled: Compiled, more: dict[str, Any]) -> Compiled:
    network: CompiledNetwork = compiled.compiled
    return replace(compiled, compiled=replace(network, report={**network.report, **more}))


def _placed(given: Options, places: tuple[str, ...]) -> Options:
    """Options with nodes that `--place` puts on the host or the overlay."""
    found: dict[str, list[str]] = {"host": [], "overlay": []}
    for text in places:
        name, _, where = text.rpartition("=")
        if text == "fastest":
            continue
        if not name or where not in found:
            raise CompileError(f"--place {text}: give NODE=host, NODE=overlay or fastest")
        found[where].append(name)
    return replace(
        given,
        on_host=tuple(found["host"]) or given.on_host,
        on_overlay=tuple(found["overlay"]) or given.on_overlay,
        fastest="fastest" in places or given.fastest,
    )


def _quantised_by(given: QuantiseOptions, method: Any, exclude: tuple[str, ...]) -> QuantiseOptions:
    """Options of quantising, those of the command line first."""
    return replace(given, method=method or given.method, exclude=exclude or given.exclude)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """A name and the sizes that are given for it."""
    name, _, sizes = text.rpartition("=")
    parts = sizes.split("x")
    if not name or not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise CompileError(f"--input-shape {text}: give a name and sizes, such as x=1x3x224x224")
    return name, tuple(map(int, parts))
