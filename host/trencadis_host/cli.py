"""`sparse-run` and `sparse-bench`."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from trencadis_format.command_line import reported
from trencadis_format.compiled import CompiledNetwork
from trencadis_format.errors import InputError
from trencadis_format.files import check_output
from trencadis_format.tensors import pack_inputs
from trencadis_host.arrays import check_outputs, load_feed, save_outputs
from trencadis_host.devices.protocol import (
    Statistics,
    device_names,
)
from trencadis_host.measure.benchmark import measure
from trencadis_host.measure.beside import beside_others
from trencadis_host.measure.labelled import LabelOptions, accuracy_table, label_samples
from trencadis_host.measure.trace import trace_layers
from trencadis_host.measure.trace_table import trace_table
from trencadis_host.session import Session
from trencadis_host.tables import figures_table, rows_table

__all__ = ["bench", "build_dir_option", "run", "timeout_option"]

FILE = click.Path(path_type=Path)

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help=f"Where to compute: {', '.join(device_names())}.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads that share a batch, on the device cpu.  [default: one per core]",
)
build_dir_option = click.option(
    "--build-dir",
    type=FILE,
    help="Where simulators are kept.  [default: the user's cache]",
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
    "--input",
    "input_path",
    type=FILE,
    required=True,
    help="Inputs: an .npy file with samples along axis 0, or an .npz file with arrays by name.",
)
@click.option(
    "--output", type=FILE, help="Where to write the outputs (.npy, .npz).  [default: print them]"
)
@device_option
@threads_option
@build_dir_option
@timeout_option
@click.option(
    "--labels",
    "labels_path",
    type=FILE,
    help="Classes of the samples (.npy, integers): print how many are classified well.",
)
@click.option("--scores", metavar="NAME", help="With --labels: the output that has the scores.")
@click.option(
    "--float",
    "float_path",
    type=FILE,
    help="With --labels: the float model (.onnx), counted on onnxruntime beside MODEL.",
)
@click.option(
    "--quantised",
    "quantised_path",
    type=FILE,
    help="With --labels: the quantised model (.onnx), likewise.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print what the run took, and the outputs, as JSON."
)
@click.version_option(package_name="trencadis")
@reported("sparse-run")
def run(
    model: Path,
    input_path: Path,
    output: Path | None,
    device: str,
    threads: int | None,
    build_dir: Path | None,
    timeout_s: float,
    labels_path: Path | None,
    scores: str | None,
    float_path: Path | None,
    quantised_path: Path | None,
    as_json: bool,
) -> None:
    """Run inputs through a compiled MODEL (.tcd)."""
    asked = LabelOptions(labels_path, scores, {"float": float_path, "quantised": quantised_path})
    if output is not None:
        check_output(output, [model, input_path, labels_path, float_path, quantised_path])
    network = CompiledNetwork.load(model)
    feed = load_feed(input_path, [form.name for form in network.inputs])
    names = [form.name for form in network.outputs]
    if output is not None:
        check_outputs(output, names)
    labelled = label_samples(asked, model, network.outputs, feed)
    with _session(network, model, feed, device, threads, build_dir, timeout_s) as session:
        outputs = dict(zip(names, session.run(None, feed), strict=True))
        statistics, taken = session.statistics, session.device_name
    if output is not None:
        save_outputs(output, outputs)
    if device == "auto":
        print(f"device: {taken}", file=sys.stderr)
    took = _figures(statistics) if statistics else {}
    if labelled is not None:
        accuracies = labelled.accuracies(model, outputs)
        if as_json:
            shown = {name: accuracy.to_dict() for name, accuracy in accuracies.items()}
            print(json.dumps(took | {"accuracy": shown}))
        else:
            Console().print(accuracy_table(accuracies))
    elif as_json:
        lists = {name: array.tolist() for name, array in outputs.items()}
        shown = {} if output is not None else {"outputs": _only(lists)}
        print(json.dumps(took | shown))
    elif output is None:
        np.set_printoptions(threshold=1000, linewidth=110)
        print(_only(outputs))
    else:
        for name, array in outputs.items():
            of = f"{name!r}, " if len(outputs) > 1 else ""
            print(f"{output}: {of}{'x'.join(map(str, array.shape))} {array.dtype}")


def _figures(statistics: Statistics) -> dict[str, Any]:
    """JSON of what a run took; samples have the key that they have always had."""
    figures = dict(vars(statistics))
    return {"words": figures.pop("samples"), **figures}


def _only(values: dict[str, Any]) -> Any:
    """The only value, or all of them by name."""
    return next(iter(values.values())) if len(values) == 1 else values


@click.command(context_settings=CONTEXT)
@click.argument("model", type=FILE)
@click.option(
    "--input", "input_path", type=FILE, help="Inputs (.npy, .npz).  [default: random ones]"
)
@click.option(
    "--samples",
    "--words",
    type=click.IntRange(8),
    default=32,
    show_default=True,
    help="Samples per run.",
)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Runs to time.")
@device_option
@threads_option
@build_dir_option
@timeout_option
@click.option(
    "--onnx",
    type=FILE,
    help="The ONNX file that MODEL was compiled from: measure onnxruntime beside the device, and "
    "OpenVINO if it is installed.",
)
@click.option(
    "--layers",
    is_flag=True,
    help="Show what every layer makes of the inputs instead, on the emulator: range, zeros, "
    "saturation.",
)
@click.option(
    "--float",
    "float_path",
    type=FILE,
    help="With --layers: the float model (.onnx), whose tensors are compared.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.version_option(package_name="trencadis")
@reported("sparse-bench")
def bench(
    model: Path,
    input_path: Path | None,
    samples: int,
    runs: int,
    device: str,
    threads: int | None,
    build_dir: Path | None,
    timeout_s: float,
    onnx: Path | None,
    layers: bool,
    float_path: Path | None,
    as_json: bool,
) -> None:
    """Measure a compiled MODEL (.tcd): cycles against the prediction, and inferences per second."""
    network = CompiledNetwork.load(model)
    names = [form.name for form in network.inputs]
    feed = None if input_path is None else load_feed(input_path, names)
    if layers:
        _show_layers(network, model, feed, float_path, device, as_json=as_json)
        return
    if float_path is not None:
        raise InputError("--float is for comparing layers: give --layers, too")
    with _session(network, model, feed, device, threads, build_dir, timeout_s) as session:
        figures = measure(session, feed, samples=samples, runs=runs)
        taken, kernels = session.device_name, session.kernels
    rows = []
    if onnx is not None:
        all_threads = threads or len(os.sched_getaffinity(0))
        rows = beside_others(model, onnx, device, all_threads=all_threads)
    if as_json:
        more = {"kernels": kernels} if kernels else {}
        print(json.dumps(figures | more | ({"beside": rows} if rows else {}), indent=2))
        return
    console = Console()
    console.print(figures_table(f"{model} on {taken}", figures))
    if kernels:
        console.print(rows_table("the kernel that each layer took", kernels))
    if rows:
        console.print(rows_table("inferences per second beside other runtimes", rows))


def _show_layers(
    network: CompiledNetwork,
    model: Path,
    feed: Mapping[str, npt.NDArray[Any]] | None,
    float_path: Path | None,
    device: str,
    *,
    as_json: bool,
) -> None:
    """Print what every layer makes of inputs."""
    if device not in ("auto", "emulator"):
        raise InputError(f"--layers looks into the emulator; leave out --device {device}")
    if feed is None:
        raise InputError("--layers shows what layers make of inputs: give --input x.npy")
    with Console(stderr=True).status("computing layer by layer"):
        rows = trace_layers(network, feed, float_path)
    if as_json:
        print(json.dumps({"layers": rows}, indent=2, allow_nan=False))
        return
    console = Console()
    width = console.width if console.is_terminal else 80
    beside = f" beside {float_path}" if float_path is not None else ""
    title = f"{model}{beside}: values on the emulator, cycles per inference predicted"
    Console(width=width).print(trace_table(rows, title))


@contextmanager
def _session(
    network: CompiledNetwork,
    model: Path,
    feed: Mapping[str, npt.NDArray[Any]] | None,
    device: str,
    threads: int | None,
    build_dir: Path | None,
    timeout_s: float,
) -> Iterator[Session]:
    """A session for inputs that are the model's, if there are any."""
    overlay = network.only_overlay
    if feed is not None and overlay is not None and list(feed) == [overlay.input.name]:
        # Before a device is opened: a simulator may have to be built, which takes minutes.
        pack_inputs(overlay, feed[overlay.input.name])
    started = time.monotonic()
    console = Console(stderr=True)
    with console.status("opening the device") as status:

        def progress(text: str) -> None:
            status.update(text)
            if not console.is_terminal and time.monotonic() - started > 1:
                print(f"{text} ...", file=sys.stderr)

        with Session(
            model,
            device,
            build_dir=build_dir,
            timeout_s=timeout_s,
            progress=progress,
            threads=threads,
        ) as session:
            status.update("running")
            yield session
