"""`sparse-verify`: whether devices and onnxruntime agree with exact arithmetic on real inputs."""

import json
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from trencadis_compiler.calibration import calibration_data
from trencadis_host.cli import build_dir_option, timeout_option
from trencadis_host.device import device_names
from trencadis_hw.arrays import load_array
from trencadis_sim.reported import reported
from trencadis_sim.verify import Agreement, verify

__all__ = ["main"]

FILE = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", type=FILE)
@click.argument("image", type=FILE)
@click.option(
    "--input", "input_path", type=FILE, required=True, help="Inputs (.npy), a word a row."
)
@click.option(
    "--calibration", type=FILE, help="Inputs (.npy) that a float MODEL was compiled with."
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
def main(
    model: Path,
    image: Path,
    input_path: Path,
    calibration: Path | None,
    devices: tuple[str, ...],
    build_dir: Path,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Compare IMAGE (.tcd) on devices with its MODEL (.onnx), quantised, in exact arithmetic.

    Devices must agree bit for bit: if one does not, the exit status is 1. onnxruntime computes in
    float32, so outputs next to a tie may be rounded the other way; those are counted.
    """
    messages = Console(stderr=True)
    started = time.monotonic()

    with reported("sparse-verify"), messages.status("comparing") as status:

        def progress(text: str) -> None:
            status.update(text)
            if not messages.is_terminal and time.monotonic() - started > 1:
                messages.print(f"{text} ...", highlight=False)

        inputs = load_array(input_path)
        with calibration_data(calibration) as data:
            found = verify(
                model,
                image,
                inputs,
                devices,
                calibration=data,
                build_dir=build_dir,
                timeout_s=timeout_s,
                progress=progress,
            )
    if as_json:
        print(json.dumps([vars(agreement) for agreement in found], indent=2))
    else:
        Console().print(_render(found, len(inputs)))
    if any(agreement.differing for agreement in found if agreement.name != "onnxruntime"):
        raise SystemExit(1)


def _render(found: list[Agreement], words: int) -> Table:
    title = f"{found[0].outputs:,} outputs of {words:,} words against exact arithmetic"
    table = Table("", title=title, title_justify="left")
    table.add_column("different", justify="right")
    table.add_column("by at most, steps", justify="right")
    for agreement in found:
        table.add_row(agreement.name, f"{agreement.differing:,}", f"{agreement.largest_steps:.3g}")
    return table
