"""The device `cpu` beside onnxruntime: `build/bench/cpu.json`, a table and a plot.

One thread, CPU seconds, whole sessions with their quantisation and host segments, all in turn on
one machine.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
from rich.console import Console

from trencadis_bench.cpu.first_emulator import FirstEmulator
from trencadis_bench.cpu.resnet import BATCH, prepare_resnet50
from trencadis_bench.cpu.sweep import plot_sweep, sweep
from trencadis_bench.cpu.timing import rates, ratio
from trencadis_bench.measure.reference_network import Kind, reference_model
from trencadis_boards import Board, load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.command_line import reported
from trencadis_format.compiled import CompiledNetwork, load_overlay
from trencadis_format.files import write_atomically
from trencadis_format.onnxruntime_door import Mode, has_vnni, open_session
from trencadis_format.tensors import pack_inputs, unpack_outputs
from trencadis_host import Session
from trencadis_host.devices.cpu.paths import Path as CpuPath
from trencadis_host.devices.cpu.paths import choose_path
from trencadis_host.measure.benchmark import random_feed, random_inputs

__all__ = ["main", "measure"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Effort:
    """Length of a measurement: turns, and CPU seconds of a turn."""

    repetitions: int = 7
    seconds: float = 0.25


@dataclass(frozen=True)
class Network:
    """A model, and its image."""

    name: str
    model: Path
    image: Path


def processor() -> str:
    """Name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def baseline_mode() -> str:
    """The mode of onnxruntime that is exact: its default where products are not saturated."""
    return "default" if has_vnni() else "session.x64quantprecision=1"


def prepare(folder: Path) -> list[Network]:
    """Models and images: the two examples, and the reference network with dense weights."""
    dense = folder / "dense.onnx"
    onnx.save(reference_model(Kind.DENSE), str(dense))
    wanted = [
        ("reference", Path("examples/speech_commands/reference.onnx"), load_board("u250")),
        ("digits", Path("examples/digits/digits.onnx"), load_board("sim")),
        ("dense", dense, _roomy(load_board("u250"))),
    ]
    networks = []
    for name, model, board in wanted:
        image = folder / f"{name}.tcd"
        CompiledNetwork.of_overlay(compile_model(model, board).overlay).save(image)
        networks.append(Network(name, model, image))
    return networks


def _roomy(board: Board) -> Board:
    """A board like another, with memories for dense weights; no card has that many."""
    core = board.kernel.core
    engines = tuple(
        replace(
            engine,
            weight_rows=1 << 16,
            sum_bits=28,
            lanes=max(8, engine.lanes),
            list_entries=8 * engine.list_entries,
            slot_rows=64,
        )
        for engine in core.engines
    )
    return replace(board, kernel=replace(board.kernel, core=replace(core, engines=engines)))


def compare(
    network: Network,
    device: str,
    batches: tuple[int, ...],
    effort: Effort,
    *,
    threads: int,
    samples: int = 256,
) -> tuple[dict[str, dict[str, float]], int]:
    """Samples per second of us and of onnxruntime, ratios, and outputs that differ.

    Returns
    -------
    dict, int
        By batch: `cpu`, `onnxruntime` and, with quantisers that are not merged into operators on
        integers, `onnxruntime_in_floats` as samples per CPU second; the ratios; how many outputs
        of `samples` random samples are not those of onnxruntime.
    """
    theirs = open_session(network.model, Mode.BASELINE, threads=threads)
    in_floats = open_session(network.model, Mode.INTEGER, threads=threads)
    name = theirs.get_inputs()[0].name
    found = {}
    with Session(network.image, device, threads=threads) as ours:
        inputs = random_feed(ours, samples)[name]
        expected = theirs.run(None, {name: inputs})[0]
        different = int(np.count_nonzero(ours.run(None, {name: inputs})[0] != expected))
        for batch in batches:
            part = np.ascontiguousarray(inputs[:batch])
            runs: dict[str, Callable[[], object]] = {
                "cpu": lambda part=part: ours.run(None, {name: part}),
                "onnxruntime": lambda part=part: theirs.run(None, {name: part}),
                "onnxruntime_in_floats": lambda part=part: in_floats.run(None, {name: part}),
            }
            measured = rates(runs, repetitions=effort.repetitions, seconds=effort.seconds)
            found[str(batch)] = {
                **{key: float(np.median(values)) * batch for key, values in measured.items()},
                "ratio": ratio(measured, "cpu", "onnxruntime"),
                "ratio_in_floats": ratio(measured, "cpu", "onnxruntime_in_floats"),
            }
    return found, different


def against_first_emulator(network: Network, device: str, effort: Effort) -> float:
    """Speed-up of a session over the first emulator, batches of 256."""
    overlay = load_overlay(network.image)
    emulator = FirstEmulator(overlay)
    with Session(network.image, device, threads=1) as session:
        name = session.get_inputs()[0].name
        inputs = random_inputs(session, 256)
        runs: dict[str, Callable[[], object]] = {
            "cpu": lambda: session.run(None, {name: inputs}),
            "emulator": lambda: unpack_outputs(overlay, emulator.run(pack_inputs(overlay, inputs))),
        }
        measured = rates(runs, repetitions=max(2, effort.repetitions // 2), seconds=effort.seconds)
    return ratio(measured, "cpu", "emulator")


def measure(folder: Path, path: CpuPath, effort: Effort, progress: Callable[[str], None]) -> Any:
    """All figures of a path; keys as in `cpu.json`."""
    device = f"cpu:{path.name}"
    figures: dict[str, Any] = {
        "processor": processor(),
        "path": path.name,
        "mode": baseline_mode(),
    }
    networks, different = {}, 0
    known = prepare(folder)
    for network in known:
        progress(f"{network.name} on {device}")
        batches = (32,) if network.name == "dense" else (1, 32, 256)
        networks[network.name], count = compare(network, device, batches, effort, threads=1)
        different += count
    for name in ("reference", "digits"):
        for batch in ("32", "1"):
            figures[f"ratio_onnxruntime_{name}_{batch}"] = networks[name][batch]["ratio"]
    figures["ratio_dense_cnn"] = networks["dense"]["32"]["ratio"]
    progress("ResNet-50, 75 % sparse")
    model, image = prepare_resnet50(folder)
    resnet, steps = compare(
        Network("resnet50", model, image), device, (BATCH,), effort, threads=1, samples=BATCH
    )
    figures["ratio_resnet50"] = resnet[str(BATCH)]["ratio"]
    # The host adds in float32, which onnxruntime does in another order where it merges nodes.
    figures["resnet50_outputs_different"] = steps
    progress("the first emulator")
    figures["ratio_emulator_256"] = against_first_emulator(known[0], device, effort)
    figures["outputs_different"] = different
    figures["samples_per_second"] = networks | {"resnet50": resnet}
    return figures


@click.command()
@click.option("--path", "names", multiple=True, help="Paths of the device.  [default: the fastest]")
@click.option("--repetitions", default=7, show_default=True, help="Turns of every measurement.")
@click.option("--seconds", default=0.25, show_default=True, help="CPU seconds of a turn.")
@click.option("--no-sweep", is_flag=True, help="Leave the sweep over densities out.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True
)
def main(
    names: tuple[str, ...], repetitions: int, seconds: float, no_sweep: bool, output: Path
) -> None:
    """Measure the device cpu beside onnxruntime."""
    with reported("cpu benchmark"):
        console = Console(stderr=True)
        paths = [choose_path(name) for name in names or ("",)]
        output.mkdir(parents=True, exist_ok=True)
        folder = output / "cpu"
        folder.mkdir(exist_ok=True)
        effort = Effort(repetitions, seconds)
        measured = [measure(folder, path, effort, console.print) for path in paths]
        figures = measured[0] | {"paths": {found["path"]: found for found in measured}}
        if not no_sweep:
            console.print("densities")
            figures["sweep"] = sweep(paths[0])
            plot_sweep(figures["sweep"], output / "cpu.png")
        text = json.dumps(figures, indent=1)
        write_atomically(output / "cpu.json", text.encode())
    shown = {key: value for key, value in measured[0].items() if not isinstance(value, dict)}
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
