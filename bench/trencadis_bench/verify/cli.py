"""`sparse-verify`: judge an image by its model's own file, on real inputs."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trencadis_bench.verify.verify import Verification, verify
from trencadis_compiler.importer.samples import load_arrays
from trencadis_format.command_line import reported
from trencadis_host.cli import build_dir_option, timeout_option
from trencadis_host.devices.protocol import device_names

__all__ = ["main"]

FILE = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", type=FILE)
@click.argument("image", type=FILE)
@click.option(
    "--input",
    "input_path",
    type=FILE,
    required=True,
    help="Inputs: an .npy file, or an .npz file with arrays by name.",
)
@click.option(
    "--calibration",
    type=FILE,
    help="Data that a float MODEL was compiled with.  [default: where IMAGE says they are]",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("emulator",),
    show_default=True,
    help=f"What to compare; may be given several times: {', '.join(device_names())}.",
)
@build_dir_option
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.version_option(package_name="trencadis")
@reported("sparse-verify")
def main(
    model: Path,
    image: Path,
    input_path: Path,
    calibration: Path | None,
    devices: tuple[str, ...],
    build_dir: Path | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Compare IMAGE (.tcd) with its MODEL (.onnx), layer by layer, and devices with one another.

    Every tensor that the device holds is computed again from the model's own file, in exact
    arithmetic and by onnxruntime, without anything of the compiler. If one differs the exit status
    is 1, and the first node that differs is named. onnxruntime computes in float32, so numbers
    next to a tie may be rounded the other way there; those are counted.
    """
    messages = Console(stderr=True)
    started = time.monotonic()

    with messages.status("comparing") as status:

        def progress(text: str) -> None:
            status.update(text)
            if not messages.is_terminal and time.monotonic() - started > 1:
                messages.print(f"{text} ...", highlight=False)

        inputs = load_arrays(input_path)
        found = verify(
            model,
            image,
            inputs,
            devices,
            calibration=calibration,
            build_dir=build_dir,
            timeout_s=timeout_s,
            progress=progress,
        )
    if as_json:
        print(json.dumps({"ok": found.ok, **asdict(found)}, indent=2))
    else:
        first = next(iter(inputs.values()), ()) if isinstance(inputs, dict) else inputs
        _print(Console(highlight=False, markup=False, soft_wrap=True), found, len(first))
    if not found.ok:
        raise SystemExit(1)


def _print(console: Console, found: Verification, samples: int) -> None:
    units = found.judgement.units
    table = Table(
        title=f"{len(units)} held tensors on {samples:,} inputs, by the model's file",
        title_justify="left",
    )
    for heading in ("tensor", "made by"):
        table.add_column(heading)
    for heading in ("elements", "different", "onnxruntime otherwise"):
        table.add_column(heading, justify="right")
    for unit in units:
        theirs = "not run" if unit.runtime_differing is None else f"{unit.runtime_differing:,}"
        table.add_row(
            Text(unit.tensor), Text(unit.node), f"{unit.elements:,}", f"{unit.differing:,}", theirs
        )
    console.print(table)
    for unit in units:
        if unit.reason:
            console.print(f"{unit.tensor}: {unit.reason}")
    for outcome in found.judgement.outputs:
        console.print(
            f"from end to end, {outcome.differing:,} of {outcome.elements:,} numbers of "
            f"{outcome.tensor!r} differ from onnxruntime, by at most {outcome.largest:.3g}"
        )
    for device in found.devices:
        console.print(
            f"device {device.name}: {device.differing:,} of {device.outputs:,} outputs differ, "
            f"by at most {device.largest_steps:.3g} steps"
        )
    first = found.judgement.first_difference
    if first is not None:
        console.print(
            f"the first node that differs is {first.node}: {first.differing:,} of "
            f"{first.elements:,} numbers of {first.tensor!r}, by at most {first.largest:.3g}"
        )
