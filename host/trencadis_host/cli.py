"""`sparse-run` and `sparse-bench`."""

import io
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from trencadis_host.benchmark import measure
from trencadis_host.device import (
    DeviceError,
    MissingToolError,
    UnknownDeviceError,
    device_names,
)
from trencadis_host.faults import DeviceNameError
from trencadis_host.figures import figures_table
from trencadis_host.packing import pack_inputs
from trencadis_host.session import Session
from trencadis_hw.arrays import load_array
from trencadis_hw.container import ContainerError, InputError, Overlay, write_atomically
from trencadis_hw.reported import reported

__all__ = ["bench", "build_dir_option", "run", "timeout_option"]

MISTAKES = (
    ContainerError,
    DeviceNameError,
    InputError,
    MissingToolError,
    UnknownDeviceError,
)

FILE = click.Path(path_type=Path)

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

device_option = click.option(
    "--device",
    default="emulator",
    show_default=True,
    help=f"Where to compute: {', '.join(device_names())}.",
)
build_dir_option = click.option(
    "--build-dir",
    type=FILE,
    default=Path("build/sim"),
    show_default=True,
    help="Where simulators are kept.",
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds a run may take.",
)


@click.command(context_settings=CONTEXT)
@click.argument("model", type=FILE)
@click.option(
    "--input", "input_path", type=FILE, required=True, help="Inputs (.npy), a word a row."
)
@click.option(
    "--output", type=FILE, help="Where to write the outputs (.npy).  [default: print them]"
)
@device_option
@build_dir_option
@timeout_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print what the run took, and the outputs, as JSON."
)
@click.version_option(package_name="trencadis")
def run(
    model: Path,
    input_path: Path,
    output: Path | None,
    device: str,
    build_dir: Path,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Run inputs through a compiled MODEL (.tcd)."""
    with reported("sparse-run", bad_input=MISTAKES, failed=(DeviceError,)):
        array = load_array(input_path)
        with _session(model, array, device, build_dir, timeout_s) as session:
            outputs = session.run(None, {session.get_inputs()[0].name: array})[0]
            statistics = session.statistics
        if output is not None:
            buffer = io.BytesIO()
            np.save(buffer, outputs)
            write_atomically(output, buffer.getvalue())
    assert statistics is not None
    if as_json:
        shown = {} if output is not None else {"outputs": outputs.tolist()}
        print(json.dumps(vars(statistics) | shown))
    elif output is None:
        np.set_printoptions(threshold=1000, linewidth=110)
        print(outputs)
    else:
        print(f"{output}: {'x'.join(map(str, outputs.shape))} {outputs.dtype}")


@click.command(context_settings=CONTEXT)
@click.argument("model", type=FILE)
@click.option("--input", "input_path", type=FILE, help="Inputs (.npy).  [default: random ones]")
@click.option("--words", type=click.IntRange(8), default=32, show_default=True, help="Words a run.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Runs to time.")
@device_option
@build_dir_option
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.version_option(package_name="trencadis")
def bench(
    model: Path,
    input_path: Path | None,
    words: int,
    runs: int,
    device: str,
    build_dir: Path,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Measure a compiled MODEL (.tcd): cycles against the prediction, and words a second."""
    with reported("sparse-bench", bad_input=MISTAKES, failed=(DeviceError,)):
        array = None if input_path is None else load_array(input_path)
        with _session(model, array, device, build_dir, timeout_s) as session:
            figures = measure(session, array, words=words, runs=runs)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    Console().print(figures_table(f"{model} on {device}", figures))


@contextmanager
def _session(
    model: Path,
    array: npt.NDArray[Any] | None,
    device: str,
    build_dir: Path,
    timeout_s: float,
) -> Iterator[Session]:
    """A session for inputs that are the model's, if there are any."""
    if array is not None:
        # Before a device is opened: a simulator may have to be built, which takes minutes.
        pack_inputs(Overlay.load(model), array)
    started = time.monotonic()
    console = Console(stderr=True)
    with console.status("opening the device") as status:

        def progress(text: str) -> None:
            status.update(text)
            if not console.is_terminal and time.monotonic() - started > 1:
                print(f"{text} ...", file=sys.stderr)

        with Session(
            model, device, build_dir=build_dir, timeout_s=timeout_s, progress=progress
        ) as session:
            status.update("running")
            yield session
