"""Words a second of a board, modelled: every factor printed with where it comes from.

words/s = cores x words in lockstep x clock / cycles of a word group, but no more than memory and
the link to the host can carry. Cycles are the compiler's prediction, which simulated RTL equals;
cores are those that fit the part by `trencadis_sim.synth`; the clock is a stated one.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from trencadis_boards import Board, load_board
from trencadis_compiler.baselines import predict_baselines
from trencadis_compiler.compile import Compiled, compile_model
from trencadis_hw.config import KernelConfig
from trencadis_hw.container import write_atomically
from trencadis_sim.reference_network import Kind, reference_model
from trencadis_sim.reported import reported
from trencadis_sim.synth import configuration_of, load_baseline

__all__ = ["PUBLISHED", "Factor", "Throughput", "host_bytes_per_s", "model_throughput"]

PUBLISHED = {
    "u250": {"dense": 12_195, "sparse-dense": 689_655, "sparse-sparse": 1_369_863},
    "zu3eg": {"sparse-dense": 21_053, "sparse-sparse": 45_455},
}
"""Words a second of whole chips, as published for this network."""

PUBLISHED_LATENCY_BOUND = {"u250": 102_564}
"""Words a second of a single published network on the chip."""

MEMORY_EFFICIENCY = 0.7
"""Part of a memory's peak bandwidth that long bursts get."""
PCIE_BYTES_PER_S = 12e9
"""What hosts move over 16 lanes of PCIe 3, each way."""
DDR_TRANSFERS = {"u250": (4, 19.2e9), "zu3eg": (1, 4.26e9)}
"""Banks and peak bytes a second of one: DDR4-2400 of 64 bits, LPDDR4-2133 of 32 bits shared with
the processors, of which half is taken for ours."""


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
    words_per_s : float
        The result.
    """

    board: str
    network: str
    factors: tuple[Factor, ...]
    words_per_s: float

    def __getitem__(self, name: str) -> float:
        return next(factor.value for factor in self.factors if factor.name == name)


def host_bytes_per_s(board: Board) -> float:
    """Bytes a second, each way, between host memory and the board's; infinite where it is one."""
    return PCIE_BYTES_PER_S if board.family == "vitis" else math.inf


def model_throughput(
    board: Board,
    compiled: Compiled,
    *,
    cores: int,
    synthesised: bool = True,
    cycles_per_word: float | None = None,
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
        They are known to fit, by `trencadis_sim.synth`.
    cycles_per_word : float, optional
        Of one core, if they were simulated; the prediction otherwise.
    """
    kernel, report = compiled.overlay.kernel, compiled.overlay.report
    cycles = cycles_per_word or report["cycles_per_word"]
    source = "simulated RTL, transfers included" if cycles_per_word else "predicted by the compiler"
    clock = board.clock_mhz * 1e6
    by_cores = cores * clock / cycles
    in_bytes, out_bytes = _transfer_bytes(compiled, kernel)
    banks, peak = DDR_TRANSFERS.get(board.name, (1, math.inf))
    by_port = board.kernels * clock * kernel.bus_bytes / max(in_bytes, out_bytes)
    by_memory = MEMORY_EFFICIENCY * banks * peak / (in_bytes + out_bytes)
    by_host = host_bytes_per_s(board) / max(in_bytes, out_bytes)
    words = min(by_cores, by_port, by_memory, by_host)
    dense = report["dense_products"]
    factors = (
        Factor("cycles a word of one core", cycles, source),
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
            f"synthesised by Yosys, in {board.budget:.0%} of every resource"
            if synthesised
            else "configuration; not yet synthesised to see whether they fit",
        ),
        Factor("words/s by cores", by_cores, "cores x clock / cycles"),
        Factor("bytes a word in", in_bytes, "the image's input format"),
        Factor("bytes a word out", out_bytes, "the image's output format"),
        Factor("words/s by AXI ports", by_port, "modelled: kernels x bus x clock"),
        Factor("words/s by memory", by_memory, f"modelled: {MEMORY_EFFICIENCY:.0%} of the peak"),
        Factor("words/s by the host's link", by_host, "modelled"),
        Factor("latency of a word, us", _latency(compiled) / board.clock_mhz, "predicted, at most"),
        Factor("dense-equivalent TOPS", 2e-12 * dense * words, "2 x dense products x words/s"),
    )
    return Throughput(board.name, compiled.network.name, factors, words)


def _transfer_bytes(compiled: Compiled, kernel: KernelConfig) -> tuple[int, int]:
    """Bytes of a word on the bus, in and out."""
    overlay = compiled.overlay
    taken = overlay.input.channels * overlay.input.rows * overlay.input.columns
    given = overlay.output.piece_bytes * overlay.output.pieces
    bus = kernel.bus_bytes
    return math.ceil(taken / bus) * bus, math.ceil(given / bus) * bus


def _latency(compiled: Compiled) -> float:
    """Cycles from the start of loading a word to its last output, at most, in steady state.

    A layer that lags behind by n words begins n periods after its word has arrived; every engine
    of a chain begins when the one before has ended.
    """
    feed = compiled.placement.layers[0].plan.feed
    cycles = float(feed.channels * feed.rows * feed.columns)
    for engine in compiled.schedule.engines:
        lag = max(turn.delay for turn in engine.turns)
        cycles += (lag + 1) * compiled.schedule.period
    return cycles


def compile_reference(board: Board, folder: Path, kind: Kind = Kind.SPARSE_SPARSE) -> Compiled:
    """The reference network, compiled for a board."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"reference-{kind.value}.onnx"
    if not path.exists():
        write_atomically(path, reference_model(kind).SerializeToString(deterministic=True))
    return compile_model(path, board)


def measure(board: Board, build: Path) -> dict[str, Any]:
    """Everything about a board on the reference network, JSON-ready."""
    synthesis = load_baseline(board.name)
    compiled = compile_reference(board, build / "reference")
    kernel = compiled.overlay.kernel
    matches = synthesis is not None and synthesis["configuration"] == configuration_of(kernel)
    cores = kernel.cores * board.kernels
    if synthesis is not None and matches:
        cores = synthesis["cores_that_fit"]["all"]
    words = kernel.core.words
    throughput = model_throughput(board, compiled, cores=cores, synthesised=matches)
    latency = _latency(compiled)
    baselines = predict_baselines(compiled.network, kernel.core)
    figures: dict[str, Any] = {
        "board": board.name,
        "words_per_s": throughput.words_per_s,
        "published_words_per_s": PUBLISHED.get(board.name, {}),
        "factors": {
            factor.name: {"value": factor.value, "origin": factor.origin}
            for factor in throughput.factors
        },
        "words_in_lockstep": words,
        "latency_us": latency / board.clock_mhz,
        "one_core_words_per_s": board.clock_mhz * 1e6 / throughput["cycles a word of one core"],
        "published_one_network_words_per_s": PUBLISHED_LATENCY_BOUND.get(board.name),
        "dense_cycles_per_word": baselines.dense,
        "sparse_weights_cycles_per_word": baselines.sparse_weights,
        "synthesis_matches": matches,
    }
    if synthesis is not None:
        figures["lut_per_multiplier"] = synthesis["lut_per_multiplier"]
        figures["logic_levels"] = synthesis["logic_levels"]
        figures["cores_that_fit"] = synthesis["cores_that_fit"]
        figures["synthesised_by"] = synthesis["tool"]
    return figures


def _table(figures: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"reference network on {figures['board']}: {figures['words_per_s']:,.0f} words/s, "
        "modelled",
        title_justify="left",
    )
    table.add_column("factor")
    table.add_column("value", justify="right")
    table.add_column("origin")
    for name, factor in figures["factors"].items():
        value = factor["value"]
        small = isinstance(value, float) and abs(value) < 1000
        table.add_row(name, f"{value:,.3g}" if small else f"{value:,.0f}", factor["origin"])
    if "lut_per_multiplier" in figures:
        by = figures["synthesised_by"]
        table.add_row("LUT a multiplier, whole core", f"{figures['lut_per_multiplier']:.1f}", by)
        table.add_row("logic levels", f"{figures['logic_levels']}", by)
    cycles = figures["factors"]["cycles a word of one core"]["value"]
    for label, key in (
        ("speed-up by both sparsities", "dense_cycles_per_word"),
        ("speed-up by sparse activations", "sparse_weights_cycles_per_word"),
    ):
        table.add_row(
            label, f"{figures[key] / cycles:.1f}", "predicted, same array, large memories"
        )
    for kind, words in figures["published_words_per_s"].items():
        table.add_row(f"published, {kind}", f"{words:,}", "words/s; see docs/performance.md")
    return table


@click.command()
@click.argument("boards", nargs=-1)
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
def main(boards: tuple[str, ...], build: Path) -> None:
    """Model the reference network on BOARDS (u250 and zu3eg); writes BUILD/bench/hardware.json."""
    messages, console = Console(stderr=True), Console(width=110)
    results = {}
    for name in boards or ("u250", "zu3eg"):
        with reported("throughput"), messages.status(f"modelling {name}"):
            results[name] = measure(load_board(name), build)
        console.print(_table(results[name]))
    folder = build / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "hardware.json", (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
