"""Inferences per second of a board, modelled: every factor printed with where it comes from.

inferences/s = cores x samples in lockstep x clock / cycles of a sample group, but no more than
memory and the link to the host can carry. Cycles are the compiler's prediction, which simulated RTL
equals; cores are those that fit by `trencadis_bench.synth.run`; the clock is a stated one.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from trencadis_bench.measure.reference_network import Kind
from trencadis_bench.measure.reference_run import (
    SAMPLES,
    compile_reference,
    load_run,
    run_reference,
)
from trencadis_bench.synth.run import configuration_of, design_of, load_baseline, verilog_of
from trencadis_boards import Board, load_board
from trencadis_compiler.compile import Compiled
from trencadis_compiler.cutting.baselines import predict_baselines
from trencadis_format.command_line import reported
from trencadis_format.config import KernelConfig
from trencadis_format.files import write_atomically

__all__ = [
    "PUBLISHED",
    "Factor",
    "Throughput",
    "hardware_table",
    "measure",
    "measure_board",
    "model_throughput",
    "write_results",
]

PUBLISHED = {
    "u250": {"dense": 12_195, "sparse-dense": 689_655, "sparse-sparse": 1_369_863},
    "zu3eg": {"sparse-dense": 21_053, "sparse-sparse": 45_455},
}
"""Inferences per second of whole chips, as published for this network."""

PUBLISHED_LATENCY_BOUND = {"u250": 102_564}
"""Inferences per second of a single published network on the chip."""

MEMORY_EFFICIENCY = 0.7
"""Part of a memory's peak bandwidth that long bursts get."""


@dataclass(frozen=True)
class Factor:
    """A number of the model.

    Attributes
    ----------
    name : str
        What it is, with its unit.
    value : float
        The number.
    origin : str
        `simulated`, `predicted`, `synthesised`, `stated` or `modelled`, and by what.
    """

    name: str
    value: float
    origin: str


@dataclass(frozen=True)
class Throughput:
    """A board's throughput on one network.

    Attributes
    ----------
    board, network : str
        Names.
    factors : tuple of Factor
        Everything it is made of, in the order of the calculation.
    inferences_per_s : float
        The result.
    """

    board: str
    network: str
    factors: tuple[Factor, ...]
    inferences_per_s: float

    def __getitem__(self, name: str) -> float:
        return next(factor.value for factor in self.factors if factor.name == name)


def model_throughput(
    board: Board,
    compiled: Compiled,
    *,
    cores: int,
    synthesised: bool = True,
    cycles_per_inference: float | None = None,
) -> Throughput:
    """The throughput of a compiled network.

    Parameters
    ----------
    board : Board
        The board.
    compiled : Compiled
        The network, compiled for the board's kernel.
    cores : int
        Cores on the whole board.
    synthesised : bool
        They are known to fit, by `trencadis_bench.synth.run`.
    cycles_per_inference : float, optional
        Cycles of one core, if they were simulated; the prediction otherwise.
    """
    kernel, report = compiled.overlay.kernel, compiled.overlay.report
    cycles = cycles_per_inference or report["cycles_per_word"]
    source = (
        "simulated RTL, transfers included" if cycles_per_inference else "predicted by the compiler"
    )
    clock = board.clock_mhz * 1e6
    by_cores = cores * clock / cycles
    in_bytes, out_bytes = _transfer_bytes(compiled, kernel)
    by_port = board.compute_units * clock * kernel.bus_bytes / max(in_bytes, out_bytes)
    by_memory = MEMORY_EFFICIENCY * board.memory_bytes_per_s / (in_bytes + out_bytes)
    by_host = board.flow.host_bytes_per_s / max(in_bytes, out_bytes)
    samples = min(by_cores, by_port, by_memory, by_host)
    dense = report["dense_products"]
    factors = (
        Factor("cycles per inference of one core", cycles, source),
        Factor("multipliers of one core", kernel.core.multipliers, "configuration"),
        Factor(
            "multiplier use",
            report["useful_products"] / (cycles * kernel.core.multipliers),
            "useful products / (cycles x multipliers)",
        ),
        Factor("clock, MHz", board.clock_mhz, "stated, not from place and route"),
        Factor(
            "cores",
            cores,
            f"configuration, as far as by Yosys they fit {board.budget:.0%} of every resource"
            if synthesised
            else "configuration; this version was not synthesised to see whether they fit",
        ),
        Factor("inferences/s by cores", by_cores, "cores x clock / cycles"),
        Factor("bytes per sample in", in_bytes, "the image's input format"),
        Factor("bytes per sample out", out_bytes, "the image's output format"),
        Factor("inferences/s by AXI ports", by_port, "modelled: kernels x bus x clock"),
        Factor(
            "inferences/s by memory", by_memory, f"modelled: {MEMORY_EFFICIENCY:.0%} of the peak"
        ),
        Factor("inferences/s by the host's link", by_host, "modelled"),
        Factor(
            "latency in steady state, us",
            _latency(compiled) / board.clock_mhz,
            "predicted, at most",
        ),
        Factor(
            "dense-equivalent TOPS", 2e-12 * dense * samples, "2 x dense products x inferences/s"
        ),
    )
    return Throughput(board.name, compiled.network.name, factors, samples)


def _transfer_bytes(compiled: Compiled, kernel: KernelConfig) -> tuple[int, int]:
    """Bytes of a sample on the bus, in and out."""
    overlay = compiled.overlay
    taken = overlay.input.channels * overlay.input.rows * overlay.input.columns
    given = overlay.output.piece_bytes * overlay.output.pieces
    bus = kernel.bus_bytes
    return math.ceil(taken / bus) * bus, math.ceil(given / bus) * bus


def _latency(compiled: Compiled) -> float:
    """Cycles from the start of loading a sample to its last output, at most, in steady state.

    A layer that lags n samples behind begins n periods after its sample has arrived; every engine
    of a chain begins when the one before has ended.
    """
    feed = compiled.placement.input_reader.feed
    cycles = float(feed.channels * feed.rows * feed.columns)
    for engine in compiled.schedule.engines:
        lag = max(turn.delay for turn in engine.turns)
        cycles += (lag + 1) * compiled.schedule.period
    return cycles


def measure(
    board: Board, build: Path, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Everything about a board on the reference network, JSON-ready.

    Cycles are those of `trencadis_bench.measure.reference_run`, if it has run this network on this
    kernel, and the prediction otherwise.
    """
    synthesis = load_baseline(board.name)
    compiled = compile_reference(board, build / "reference")
    kernel = compiled.overlay.kernel
    cores = kernel.cores * board.compute_units
    matches = False
    if synthesis is not None and synthesis["configuration"] == configuration_of(kernel):
        cores = min(cores, synthesis["cores_that_fit"]["all"])
        matches = synthesis["design"] == design_of(verilog_of(kernel, build, progress))
    run = load_run(board, Kind.SPARSE_SPARSE, build)
    samples = kernel.core.batch_lanes
    throughput = model_throughput(
        board,
        compiled,
        cores=cores,
        synthesised=matches,
        cycles_per_inference=run["cycles_per_word"] if run else None,
    )
    baselines = predict_baselines(compiled.network, kernel.core)
    dense, dense_are = _baseline(board, Kind.DENSE, baselines.dense, build)
    sparse, sparse_are = _baseline(board, Kind.SPARSE_DENSE, baselines.sparse_weights, build)
    clock = board.clock_mhz * 1e6
    figures: dict[str, Any] = {
        "board": board.name,
        "words_per_s": throughput.inferences_per_s,
        "published_words_per_s": PUBLISHED.get(board.name, {}),
        "cores": cores,
        "clock_mhz": board.clock_mhz,
        "cycles_per_word": throughput["cycles per inference of one core"],
        "multiplier_use": throughput["multiplier use"],
        "factors": {
            # JSON knows no infinity: what bounds nothing is left open.
            factor.name: {
                "value": factor.value if math.isfinite(factor.value) else None,
                "origin": factor.origin,
            }
            for factor in throughput.factors
        },
        "words_in_lockstep": samples,
        "predicted_latency_us": _latency(compiled) / board.clock_mhz,
        "one_core_words_per_s": clock / throughput["cycles per inference of one core"],
        "published_one_network_words_per_s": PUBLISHED_LATENCY_BOUND.get(board.name),
        "dense_cycles_per_word": dense,
        "dense_cycles_are": dense_are,
        "sparse_weights_cycles_per_word": sparse,
        "sparse_weights_cycles_are": sparse_are,
        "synthesis_matches": matches,
    }
    if run is not None:
        figures["simulated"] = run
        figures["latency_us"] = run["latency_cycles"] / board.clock_mhz
    if synthesis is not None and synthesis["multipliers_per_core"] == kernel.core.multipliers:
        figures["lut_per_multiplier"] = synthesis["lut_per_multiplier"]
        figures["logic_levels"] = synthesis["logic_levels"]
        figures["cores_that_fit"] = synthesis["cores_that_fit"]
        figures["synthesised_by"] = synthesis["tool"]
    return figures


def _baseline(board: Board, kind: Kind, predicted: float, build: Path) -> tuple[float, str]:
    """Cycles per inference with a sparsity less, and how they were obtained."""
    run = load_run(board, kind, build)
    where = "same array, large memories"
    if run is None:
        return predicted, f"predicted, {where}"
    return run["cycles_per_word"], f"simulated RTL, {where}"


def measure_board(
    name: str, build: Path, *, simulate: bool, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Result of `measure` for a board by name, after simulating one of its cores if asked to."""
    board = load_board(name)
    if simulate:
        run_reference(board, Kind.SPARSE_SPARSE, samples=SAMPLES, build=build, progress=progress)
    progress(f"modelling {name}")
    return measure(board, build, progress)


def _table(figures: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"reference network on {figures['board']}: "
        f"{figures['words_per_s']:,.0f} inferences/s, modelled",
        title_justify="left",
    )
    table.add_column("factor")
    table.add_column("value", justify="right")
    table.add_column("origin")
    if not figures["synthesis_matches"]:
        table.caption = (
            "synthesised figures were made from other RTL than this"
            if "lut_per_multiplier" in figures
            else "this kernel has no baseline of `python -m trencadis_bench.synth.run` yet"
        )
    for name, factor in figures["factors"].items():
        value = math.inf if factor["value"] is None else factor["value"]
        small = isinstance(value, float) and abs(value) < 1000
        table.add_row(name, f"{value:,.3g}" if small else f"{value:,.0f}", factor["origin"])
    if "lut_per_multiplier" in figures:
        by = figures["synthesised_by"]
        table.add_row("LUTs per multiplier, whole core", f"{figures['lut_per_multiplier']:.1f}", by)
        table.add_row("logic levels", f"{figures['logic_levels']}", by)
    cycles = figures["factors"]["cycles per inference of one core"]["value"]
    for label, key in (
        ("both sparsities", "dense_cycles"),
        ("sparse activations", "sparse_weights_cycles"),
    ):
        without, origin = figures[f"{key}_per_word"], figures[f"{key}_are"]
        table.add_row(f"cycles per inference without {label}", f"{without:,.0f}", origin)
        table.add_row(f"speed-up by {label}", f"{without / cycles:.1f}", "")
    if "latency_us" in figures:
        table.add_row("a single inference, us", f"{figures['latency_us']:.1f}", "simulated RTL")
    published = figures["published_one_network_words_per_s"]
    table.add_row(
        "inferences/s of one core", f"{figures['one_core_words_per_s']:,.0f}", "clock / cycles"
    )
    if published:
        table.add_row("published, one network", f"{published:,}", "inferences/s")
    for kind, samples in figures["published_words_per_s"].items():
        table.add_row(f"published, {kind}", f"{samples:,}", "inferences/s; see docs/performance.md")
    return table


def hardware_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """All boards beside the published figures."""
    table = Table(title="reference network, sparse-sparse", title_justify="left")
    table.add_column("figure")
    for name in results:
        table.add_column(name, justify="right")
    table.add_column("obtained")

    def row(label: str, values: list[str], origin: str) -> None:
        table.add_row(label, *values, origin)

    every = list(results.values())
    simulated = ["simulated" in figures for figures in every]

    def synthesised(figures: Mapping[str, Any], text: Callable[[Mapping[str, Any]], str]) -> str:
        if "lut_per_multiplier" not in figures:
            return "-"
        return text(figures) + ("" if figures["synthesis_matches"] else " *")

    origin = "synthesised; *: from other RTL than this; -: not synthesised"
    published = [figures["published_words_per_s"].get("sparse-sparse") for figures in every]
    row(
        "inferences/s, published",
        [f"{samples:,}" if samples else "" for samples in published],
        "stated",
    )
    row("inferences/s", [f"{figures['words_per_s']:,.0f}" for figures in every], "modelled")
    row(
        "ours / published",
        [
            f"{figures['words_per_s'] / samples:.2f}" if samples else ""
            for figures, samples in zip(every, published, strict=True)
        ],
        "",
    )
    row(
        "cycles per inference of one core",
        [f"{figures['cycles_per_word']:,.1f}" for figures in every],
        "simulated RTL" if all(simulated) else "predicted; simulated RTL where there is a speed",
    )
    row("cores", [f"{figures['cores']}" for figures in every], "configuration")
    row(
        "cores that fit",
        [synthesised(figures, lambda f: f"{f['cores_that_fit']['all']}") for figures in every],
        origin,
    )
    row("clock, MHz", [f"{figures['clock_mhz']:g}" for figures in every], "stated")
    row(
        "LUTs per multiplier, whole core",
        [synthesised(figures, lambda f: f"{f['lut_per_multiplier']:.1f}") for figures in every],
        origin,
    )
    row(
        "multiplier use",
        [f"{figures['multiplier_use']:.1%}" for figures in every],
        "useful products / cycles",
    )
    if any(simulated):
        row(
            "simulated cycles/s",
            [
                f"{figures['simulated']['simulated_cycles_per_s']:,.0f}"
                if "simulated" in figures
                else "-"
                for figures in every
            ],
            "measured",
        )
    return table


def write_results(results: Mapping[str, Any], build: Path) -> None:
    """Keep the results as BUILD/bench/hardware.json."""
    folder = build / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "hardware.json", (json.dumps(results, indent=1) + "\n").encode())


@click.command()
@click.argument("boards", nargs=-1)
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@click.option("--simulate", is_flag=True, help="Simulate a core of each board first.")
@reported("throughput")
def main(boards: tuple[str, ...], build: Path, simulate: bool) -> None:
    """Model the reference network on BOARDS (u250 and zu3eg); writes BUILD/bench/hardware.json."""
    messages, console = Console(stderr=True), Console(width=110)
    results = {}
    for name in boards or ("u250", "zu3eg"):
        with messages.status(f"modelling {name}") as status:
            results[name] = measure_board(name, build, simulate=simulate, progress=status.update)
        console.print(_table(results[name]))
    console.print(hardware_table(results))
    write_results(results, build)


if __name__ == "__main__":
    main()
