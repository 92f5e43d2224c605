"""Measurements of a network: cycles against the prediction, and the speed of all that computes it.

`make bench` runs this on the demo network.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from trencadis_bench.measure.throughput import hardware_table, measure_board, write_results
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.cutting.baselines import predict_baselines
from trencadis_format.command_line import reported
from trencadis_format.files import make_folder, write_atomically
from trencadis_format.onnxruntime_door import Mode, load_onnxruntime, open_session
from trencadis_host.measure.benchmark import cycles_per_inference, random_inputs
from trencadis_host.session import Session

__all__ = ["main", "measure"]

FILE = click.Path(path_type=Path)


def measure(
    model: Path,
    *,
    board: str,
    build: Path,
    simulated_samples: int,
    emulated_samples: int,
    runs: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a model on random inputs.

    Parameters
    ----------
    model : Path
        An ONNX file.
    board : str
        Whose kernel is simulated.
    build : Path
        Folder for the image and the simulator.
    simulated_samples, emulated_samples : int
        Samples of a run.
    runs : int
        Runs of which the median time is taken.
    progress : callable
        Called with a message at each step.

    Returns
    -------
    dict
        JSON-ready; units are in the names. Cycles are simulated, seconds measured on this machine.
    """
    progress("compiling")
    compiled, compile_s = _timed(lambda: compile_model(model, load_board(board)), runs)
    image = build / f"{model.stem}.tcd"
    compiled.save(image)
    report, kernel = compiled.overlay.report, compiled.overlay.kernel
    predicted = report["cycles_per_word"] / kernel.cores

    with Session(image, "emulator") as session:
        progress("emulating")
        inputs = random_inputs(session, emulated_samples)
        feed = {session.get_inputs()[0].name: inputs}
        _, emulator_s = _timed(lambda: session.run(None, feed), runs)
    progress("running onnxruntime")
    onnxruntime_s, onnxruntime_version = _onnxruntime(model, inputs, runs)

    simulator = Session(image, "sim", progress=progress)
    with simulator as session:
        progress("simulating")
        samples = inputs[:simulated_samples]
        started = time.perf_counter()
        cycles = cycles_per_inference(session, samples)
        simulation_s = time.perf_counter() - started
    assert cycles is not None
    simulated = len(samples) + len(samples) // 4
    progress("predicting the network without its sparsities")
    baselines = predict_baselines(compiled.network, kernel.core)
    return {
        "model": str(model),
        "board": board,
        "cycles_are": report["cycles_are"],
        "predicted_cycles_per_word": predicted,
        "simulated_cycles_per_word": cycles,
        "dense_cycles_per_word": baselines.dense / kernel.cores,
        "sparse_weights_cycles_per_word": baselines.sparse_weights / kernel.cores,
        "multipliers": kernel.multipliers,
        "multiplier_use": report["useful_products"] / (cycles * kernel.multipliers),
        "simulated_words_per_s": simulated / simulation_s,
        "simulated_cycles_per_s": simulated * cycles / simulation_s,
        "emulator_words_per_s": emulated_samples / emulator_s,
        "onnxruntime_words_per_s": emulated_samples / onnxruntime_s,
        "onnxruntime_version": onnxruntime_version,
        "compile_s": compile_s,
    }


def _timed(function: Callable[[], Any], runs: int) -> tuple[Any, float]:
    """A result, and the median time that it took."""
    result, times = None, []
    for _ in range(runs):
        started = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - started)
    return result, statistics.median(times)


def _onnxruntime(model: Path, inputs: npt.NDArray[Any], runs: int) -> tuple[float, str]:
    """Seconds that onnxruntime takes as a user would run it: optimised, with all its threads."""
    session = open_session(model, Mode.FAST, spin=True)
    feed = {session.get_inputs()[0].name: inputs}
    session.run(None, feed)
    return _timed(lambda: session.run(None, feed), runs)[1], load_onnxruntime().__version__


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title=f"{figures['model']} on {figures['board']}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("obtained")
    cycles = figures["simulated_cycles_per_word"]
    dense = figures["dense_cycles_per_word"]
    rows = (
        ("cycles per inference", f"{figures['predicted_cycles_per_word']:,.0f}", "predicted"),
        (
            "cycles per inference, steady state",
            f"{cycles:,.1f}",
            "simulated RTL, transfers included",
        ),
        ("cycles per inference, dense", f"{dense:,.0f}", "predicted, same array"),
        (
            "cycles per inference, sparse weights only",
            f"{figures['sparse_weights_cycles_per_word']:,.0f}",
            "predicted, same array",
        ),
        ("speed-up by both sparsities", f"{dense / cycles:.1f}", "dense / simulated"),
        (
            f"use of {figures['multipliers']} multipliers",
            f"{figures['multiplier_use']:.1%}",
            "useful products / simulated",
        ),
        ("simulation, inferences/s", f"{figures['simulated_words_per_s']:,.0f}", "measured"),
        ("simulation, cycles/s", f"{figures['simulated_cycles_per_s']:,.0f}", "measured"),
        ("emulator, inferences/s", f"{figures['emulator_words_per_s']:,.0f}", "measured"),
        (
            "onnxruntime int8, inferences/s",
            f"{figures['onnxruntime_words_per_s']:,.0f}",
            f"measured, version {figures['onnxruntime_version']}",
        ),
        ("compiling, s", f"{figures['compile_s']:.2f}", "measured"),
    )
    for row in rows:
        table.add_row(*row)
    return table


@click.command()
@click.argument("model", type=FILE, default=Path("examples/digits/digits.onnx"))
@click.option("--board", default="sim", show_default=True)
@click.option("--build", type=FILE, default=Path("build"), show_default=True)
@click.option(
    "--samples",
    "--words",
    type=click.IntRange(8),
    default=160,
    show_default=True,
    help="On the RTL.",
)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Timed runs.")
@click.option(
    "--boards",
    default="u250,zu3eg",
    show_default=True,
    help="Boards to model the reference network on, with commas between; empty for none.",
)
@click.option(
    "--simulate",
    is_flag=True,
    help="Simulate the reference network on a core of each of them; building takes minutes.",
)
@reported("bench")
def main(
    model: Path, board: str, build: Path, samples: int, runs: int, boards: str, simulate: bool
) -> None:
    """Measure MODEL, and model the reference network on cards.

    Writes BUILD/bench/network.json and BUILD/bench/hardware.json.
    """
    folder = build / "bench"
    make_folder(folder)
    messages, console = Console(stderr=True), Console(width=110)
    with messages.status("measuring") as status:
        figures = measure(
            model,
            board=board,
            build=build,
            simulated_samples=samples,
            emulated_samples=1000,
            runs=runs,
            progress=status.update,
        )
    write_atomically(folder / "network.json", (json.dumps(figures, indent=2) + "\n").encode())
    console.print(_table(figures))
    with messages.status("modelling") as status:
        results = {
            name: measure_board(name, build, simulate=simulate, progress=status.update)
            for name in filter(None, boards.split(","))
        }
    if results:
        write_results(results, build)
        console.print(hardware_table(results))


if __name__ == "__main__":
    main()
