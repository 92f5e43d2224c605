"""Search for engines that suit a network and a board: cycles against resources, over a grid.

Layers fall to a chain of engines, in all ways. For every stage of a chain, all engines of a grid
are tried on its layers. For every speed of the chain, the smallest engine that keeps up is taken at
each stage. The most promising chains are compiled as a whole, with the smallest memories in which
nothing waits longer than in the largest.
"""

import io
import itertools
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import tomli_w
from rich.console import Console
from rich.table import Table

from trencadis_bench.explore.engines import Planner, Stage, grid, stages
from trencadis_bench.measure.reference_network import Kind, reference_model
from trencadis_bench.synth.netlist import RESOURCES
from trencadis_bench.synth.run import cores_that_fit
from trencadis_boards import Board, BoardError, VitisFlow, ZynqFlow, board_text, load_board
from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.chain import chain_of
from trencadis_compiler.mapping.cycles import LOAD_OVERHEAD
from trencadis_compiler.mapping.place import feeds_of
from trencadis_compiler.mapping.plan import products
from trencadis_compiler.mapping.size_memories import smallest_memories
from trencadis_flows.area import core_area, kernel_area
from trencadis_format.command_line import reported
from trencadis_format.config import (
    KERNEL_LIMITS,
    MAX_ENGINES,
    CoreConfig,
    KernelConfig,
    WeightMemory,
)
from trencadis_format.files import make_folder, write_atomically

__all__ = ["Candidate", "Found", "explore", "kernel_of", "pareto", "plot"]

COMPILED = 24
"""Chains that are compiled, unless stated."""
SHOWN = 8
RESULTS = ("toml", "png", "json")
UNSCALED = 0.01
"""Price of a resource when it is another's turn."""


@dataclass(frozen=True)
class Candidate:
    """A chain of engines for a board.

    Attributes
    ----------
    core : CoreConfig
        The chain.
    period : float
        Cycles of a sample group.
    area : mapping of str to float
        Resources of a core.
    cores : int
        Cores that fit the board.
    inferences_per_s : float
        Inferences per second of the board, bounded by cores alone.
    use : float
        Useful multiplications over those that could be done.
    """

    core: CoreConfig
    period: float
    area: Mapping[str, float]
    cores: int
    inferences_per_s: float
    use: float


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes
    ----------
    compiled : sequence of Candidate
        Compiled as a whole, the fastest first.
    estimated : sequence of Candidate
        All chains of the grid, by the cycles and memories of their stages alone.
    """

    compiled: Sequence[Candidate]
    estimated: Sequence[Candidate]


def explore(
    network: Network,
    board: Board,
    *,
    batch_lanes: int,
    bus_bits: int,
    compiled: int = COMPILED,
    progress: Callable[[str], None] = lambda message: None,
) -> Found:
    """Chains of engines for a network and a board.

    Parameters
    ----------
    network : Network
        What is to run.
    board : Board
        Where.
    batch_lanes : int
        Samples in lockstep.
    bus_bits : int
        Bus bits of the kernel.
    compiled : int
        Chains to compile, the most promising first.
    progress : callable
        Called with a message at each step.

    Raises
    ------
    BoardError
        If the board is of a flow that the area model does not know.
    CompileError
        If no chain of the grid runs the network, or none is small enough for the board.
    """
    if not isinstance(board.flow, VitisFlow | ZynqFlow):
        raise BoardError(
            f"board {board.name}: the area model is of UltraScale+ parts, not of flow "
            f"{board.flow.kind}; choose a board of flow {VitisFlow.kind} or {ZynqFlow.kind}"
        )
    search = _Search(network, board, batch_lanes, bus_bits)
    for split in _splits(len(network.layers)):
        progress(f"trying engines for {' + '.join(map(str, split))} layers")
        search.add_chains(split)
    estimated = sorted(search.chains.values(), key=_fastest_and_smallest)
    found: list[Candidate] = []
    problem = search.problem if not estimated else None
    for number, chain in enumerate(estimated[:compiled]):
        # What is left was estimated to be slower, without what its memories and waits may cost.
        if not chain.cores or (found and found[0].inferences_per_s >= chain.inferences_per_s):
            break
        progress(f"compiling chain {number + 1} of at most {compiled}")
        try:
            core, program = smallest_memories(chain.core, network)
        except CompileError as error:  # a stage fits its engine, but not what is beside it
            problem = problem or error
            continue
        candidate = search.candidate(core, program.period)
        if candidate.cores:
            found = sorted([*found, candidate], key=_fastest_and_smallest)
    if not found:
        reason = "runs it" if problem or not estimated else f"is small enough for {board.name}"
        raise CompileError(
            f"no chain of the grid {reason}{f' ({problem})' if problem else ''}, with "
            f"{batch_lanes} sample{'s' * (batch_lanes > 1)} in lockstep; choose a larger "
            "board or a smaller network"
        )
    return Found(found, estimated)


def _fastest_and_smallest(candidate: Candidate) -> tuple[float, float]:
    return -candidate.inferences_per_s, candidate.area["lut"]


class _Search:
    """Chains for a network and a board, and what is known of their stages."""

    def __init__(self, network: Network, board: Board, batch_lanes: int, bus_bits: int) -> None:
        self._layers, feeds = chain_of(network), feeds_of(network, {})
        self._feeds = [feeds[layer.target] for layer in self._layers]
        self._board, self._batch_lanes, self._bus_bits = board, batch_lanes, bus_bits
        self._weight_memory: WeightMemory = "ultra" if board.resources.get("uram") else "block"
        self._stages: dict[tuple[int, int], list[Stage]] = {}
        self._planner = Planner()
        first = self._feeds[0]
        values = first.rows * first.columns * first.channels
        self._loading = float(values + LOAD_OVERHEAD) if first.dense else 0.0
        self._products = sum(map(products, self._layers, self._feeds))
        self.chains: dict[CoreConfig, Candidate] = {}

    @property
    def problem(self) -> CompileError | None:
        """Reason why a layer did not fit an engine, if one did not."""
        return self._planner.problem

    def add_chains(self, split: Sequence[int]) -> None:
        """Chains whose engines run so many layers each: for every speed, the smallest ones.

        What is small depends on what there is least of, so every resource has its turn.
        """
        starts = itertools.accumulate(split, initial=0)
        options = [self._options(*part) for part in zip(starts, split, strict=False)]
        if not all(options):
            return
        slowest = max(option[0].cycles for option in options)
        periods = {stage.cycles for option in options for stage in option}
        for period in sorted(cycles for cycles in periods if cycles >= slowest):
            for prices in self._prices():
                chosen = [_cheapest(option, period, prices) for option in options]
                core = CoreConfig(
                    engines=tuple(stage.engine for stage in chosen),
                    batch_lanes=self._batch_lanes,
                    sparse_input=not self._feeds[0].dense,
                )
                cycles = max(self._loading, *(stage.cycles for stage in chosen))
                self.chains[core] = self.candidate(core, cycles)

    def candidate(self, core: CoreConfig, period: float) -> Candidate:
        """A chain on the board."""
        kernel = KernelConfig(core=core, bus_bits=self._bus_bits)
        area = dict.fromkeys(RESOURCES, 0.0) | core_area(kernel)
        fit = cores_that_fit(self._board, area, kernel_area(kernel))["all"]
        cores = min(fit, KERNEL_LIMITS["cores"].high * self._board.compute_units)
        rate = cores * self._batch_lanes * self._board.clock_mhz * 1e6 / period
        use = self._products * self._batch_lanes / (period * core.multipliers)
        return Candidate(core, period, area, cores, rate, use)

    def _options(self, start: int, count: int) -> list[Stage]:
        """All engines that can run these layers, the fastest first."""
        if (start, count) not in self._stages:
            layers = self._layers[start : start + count]
            feeds = self._feeds[start : start + count]
            engines = grid(layers, dense=feeds[0].dense, weight_memory=self._weight_memory)
            self._stages[start, count] = stages(
                layers, feeds, engines, self._batch_lanes, self._planner
            )
        return self._stages[start, count]

    def _prices(self) -> Iterator[Mapping[str, float]]:
        """Prices of resources: by their shares of the board, and with a turn for each."""
        shares = {name: 1 / amount for name, amount in self._board.resources.items() if amount}
        yield shares
        for turn in shares:
            yield {n: price * (1 if n == turn else UNSCALED) for n, price in shares.items()}


def _splits(layers: int) -> Iterator[tuple[int, ...]]:
    """Ways to give consecutive layers to the engines of a chain: how many each of them runs."""
    for engines in range(1, min(MAX_ENGINES, layers) + 1):
        for ends in itertools.combinations(range(1, layers), engines - 1):
            yield tuple(b - a for a, b in itertools.pairwise((0, *ends, layers)))


def _cheapest(options: Sequence[Stage], period: float, prices: Mapping[str, float]) -> Stage:
    """Choose, of the stages that keep up, the one that costs least; there is one."""

    def price(stage: Stage) -> float:
        return sum(stage.area[name] * prices.get(name, 0.0) for name in stage.area)

    fast = itertools.takewhile(lambda stage: stage.cycles <= period, options)
    return min(fast, key=price)


def pareto(candidates: Sequence[Candidate], resource: str = "lut") -> list[Candidate]:
    """Those of which none is both faster and smaller."""
    front: list[Candidate] = []
    for candidate in sorted(
        candidates, key=lambda c: (c.period / c.core.batch_lanes, c.area[resource])
    ):
        if not front or candidate.area[resource] < front[-1].area[resource]:
            front.append(candidate)
    return front


def kernel_of(candidate: Candidate, board: Board) -> KernelConfig:
    """The kernel of a board with as many of these cores as fit in place of its own."""
    cores = candidate.cores // board.compute_units
    return replace(board.kernel, core=candidate.core, cores=cores)


def plot(found: Found, path: Path, title: str) -> None:
    """Cycles and rate against LUTs: all chains, the front, and those that were compiled."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    figure.suptitle(f"Chains of engines for {title} (modelled)")
    groups = (
        ("all chains, estimated stage by stage", found.estimated, "."),
        ("none is faster and smaller", pareto(found.estimated), "-"),
        ("compiled as a whole", found.compiled, "o"),
    )
    for axis, value, label in (
        (left, lambda c: c.period / c.core.batch_lanes, "cycles per inference of one core"),
        (right, lambda c: c.inferences_per_s, "inferences/s of the board, by cores alone"),
    ):
        for name, candidates, marks in groups if axis is left else groups[::2]:
            luts = [c.area["lut"] for c in candidates]
            style = {"drawstyle": "steps-post"} if marks == "-" else {}
            axis.plot(luts, [value(c) for c in candidates], marks, label=name, **style)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("LUTs of a core, by the area model")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, picture.getvalue())
    pyplot.close(figure)


def _describe(core: CoreConfig) -> str:
    engines = ", ".join(
        f"{e.lanes}x{e.tiles}/{e.kernels_per_tile} {e.routing}, requantisers: {e.requantisers}"
        for e in core.engines
    )
    return f"{core.batch_lanes} sample{'s' * (core.batch_lanes > 1)} in lockstep: {engines}"


def _as_json(candidate: Candidate) -> dict[str, Any]:
    kernel = KernelConfig(core=candidate.core).to_dict()
    return {
        "core": kernel["core"],
        "period_cycles": candidate.period,
        "area": dict(candidate.area),
        "cores": candidate.cores,
        "words_per_s": candidate.inferences_per_s,
        "multiplier_use": candidate.use,
    }


def _table(candidates: Sequence[Candidate], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.caption = "cycles and resources are those of one core"
    for heading in ("chain", "cycles per inference", "use", *RESOURCES, "cores", "inferences/s"):
        table.add_column(heading, justify="left" if heading == "chain" else "right")
    for candidate in candidates:
        table.add_row(
            _describe(candidate.core),
            f"{candidate.period / candidate.core.batch_lanes:,.1f}",
            f"{candidate.use:.0%}",
            *(f"{candidate.area[name]:,.0f}" for name in RESOURCES),
            f"{candidate.cores}",
            f"{candidate.inferences_per_s:,.0f}",
        )
    return table


def _searched(network: Network, board: Board, batch_lanes: Sequence[int], bus_bits: int) -> Found:
    """Search with each of some numbers of samples in lockstep."""
    messages = Console(stderr=True)
    results: list[Found] = []
    problem: CompileError | None = None
    with messages.status("") as status:
        for count in batch_lanes:

            def tell(message: str, count: int = count) -> None:
                status.update(f"{count} in lockstep: {message}")

            try:
                results.append(
                    explore(network, board, batch_lanes=count, bus_bits=bus_bits, progress=tell)
                )
            except CompileError as error:
                problem = error
    if not results and problem:
        raise problem
    compiled = [candidate for found in results for candidate in found.compiled]
    estimated = [candidate for found in results for candidate in found.estimated]
    return Found(sorted(compiled, key=_fastest_and_smallest), estimated)


@click.command()
@click.argument("board")
@click.option(
    "--model", type=click.Path(path_type=Path), help="ONNX; the reference network if not given."
)
@click.option(
    "--batch-lanes",
    "--words",
    type=click.IntRange(1, 2),
    help="In lockstep; both are tried if not given.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Inputs (.npy) to quantise a float model with.",
)
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@reported("explore")
def main(
    board: str, model: Path | None, batch_lanes: int | None, calibration: Path | None, build: Path
) -> None:
    """Search engines for a network on BOARD.

    Writes to BUILD/bench: explore-BOARD.json with all chains that were compiled, explore-BOARD.png,
    and explore-BOARD.toml, which is the board with a kernel of the best chain: `sparse-compile` and
    `make bitstream` take it as a board.
    """
    folder = build / "bench"
    description = load_board(board)
    bus_bits = description.kernel.bus_bits
    make_folder(folder)
    if model is None:
        model = folder / "reference.onnx"
        text = reference_model(Kind.SPARSE_SPARSE).SerializeToString(deterministic=True)
        write_atomically(model, text)
    network = import_model(model, calibration)
    # What is left of another search is not to be taken for this one's.
    files = {end: folder / f"explore-{description.name}.{end}" for end in RESULTS}
    for file in files.values():
        file.unlink(missing_ok=True)
    try:
        tried = (1, 2) if batch_lanes is None else (batch_lanes,)
        found = _searched(network, description, tried, bus_bits)
    except CompileError as error:
        raise CompileError(f"{model}: {error}") from error
    kernel = kernel_of(found.compiled[0], description)
    made = tomllib.loads(board_text(board)) | {"kernel": kernel.to_dict()}
    title = f"# Made for {model.name}.\n".encode()
    write_atomically(files["toml"], title + tomli_w.dumps(made).encode())
    plot(found, files["png"], f"{model.name} on {description.name}")
    text = json.dumps([_as_json(candidate) for candidate in found.compiled], indent=1)
    write_atomically(files["json"], f"{text}\n".encode())
    console = Console(width=150)
    console.print(_table(found.compiled[:SHOWN], f"{model.stem} on {description.name}"))
    console.print(f"the first as a board: {files['toml']}", highlight=False)


if __name__ == "__main__":
    main()
