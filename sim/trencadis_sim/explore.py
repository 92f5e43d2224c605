"""Which engines suit a network and a board: cycles against resources, over a grid of engines.

Layers fall to a chain of engines. For every stage of the chain, all engines of a grid are tried on
its layers: the compiler gives the cycles, `area` the resources. For every speed of the chain the
smallest engine that keeps up is taken at each stage. What is on the Pareto front is then compiled
as a whole.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from trencadis_boards import Board, load_board
from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir import Layer, Network
from trencadis_compiler.place import place
from trencadis_compiler.plan import Feed, LayerPlan, plans_for
from trencadis_compiler.schedule import schedule
from trencadis_hw.config import CoreConfig, EngineConfig, KernelConfig, Routing, WeightMemory
from trencadis_hw.container import write_atomically
from trencadis_hw.timing import LAYER_OVERHEAD, WORD_OVERHEAD
from trencadis_sim.area import core_area, engine_area, kernel_area
from trencadis_sim.netlist import RESOURCES
from trencadis_sim.reference_network import Kind, reference_model
from trencadis_sim.synth import cores_that_fit

__all__ = ["Candidate", "Stage", "explore", "grid", "pareto", "plot", "stages"]

ROOMY = EngineConfig(
    lanes=25,
    tiles=32,
    kernels=32,
    dense_values=1 << 16,
    list_entries=1 << 14,
    weight_rows=1 << 16,
    slot_rows=256,
    queue_beats=128,
    requantise_rows=1 << 14,
    reorder_rows=1 << 12,
    select_rows=64,
    whole_rows=1 << 12,
)
"""An engine whose memories are so large that they decide nothing while cycles are counted."""

MOST_TREES = 4
"""Most kernels of a tile for which adder trees are tried: their cost grows with them."""
MOST_MULTIPLIERS = 1024
MOST_REQUANTISERS = 32
"""Of an engine, by its configuration."""
LANES = (4, 5, 7, 9, 10, 13, 25)
TILES = (2, 4, 8, 16, 32)
REQUANTISERS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Stage:
    """An engine on its layers.

    Attributes
    ----------
    engine : EngineConfig
        With memories as large as these layers need.
    cycles : float
        A word group takes.
    area : mapping of str to float
        Resources by `area`, of all words in lockstep.
    """

    engine: EngineConfig
    cycles: float
    area: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """A chain of engines for a board.

    Attributes
    ----------
    core : CoreConfig
        The chain.
    period : float
        Cycles of a word group.
    area : mapping of str to float
        Resources of a core.
    cores : int
        That fit the board.
    words_per_s : float
        Of the board, bounded by cores alone.
    use : float
        Useful multiplications over those that could be done.
    """

    core: CoreConfig
    period: float
    area: Mapping[str, float]
    cores: int
    words_per_s: float
    use: float


def grid(
    *, dense: bool, kernels: int, weight_memory: WeightMemory, most_lanes: int = 25
) -> Iterator[EngineConfig]:
    """Engines worth a try for a stage.

    Parameters
    ----------
    dense : bool
        The stage reads the network's input.
    kernels : int
        Most kernels in a tile.
    weight_memory : WeightMemory
        For memories too deep to be made of LUTs.
    most_lanes : int
        Most lanes to try.
    """
    routings: tuple[Routing, ...] = ("banked",)
    if kernels <= MOST_TREES:
        routings += ("trees", "split-trees") if dense else ("trees",)
    for lanes, tiles, routing, requantisers in itertools.product(
        LANES, TILES, routings, REQUANTISERS
    ):
        if routing == "split-trees" and lanes % 2:
            continue
        columns = tiles * (1 if routing == "banked" else kernels)
        if columns % requantisers or lanes * tiles > MOST_MULTIPLIERS or lanes > most_lanes:
            continue
        yield replace(
            ROOMY,
            lanes=lanes,
            tiles=tiles,
            kernels=kernels,
            routing=routing,
            requantisers=requantisers,
            dense_values=1 << 16 if dense else 0,
            list_entries=0 if dense else ROOMY.list_entries,
            weight_memory=weight_memory,
        )


def stages(
    layers: Sequence[Layer], feeds: Sequence[Feed], engines: Iterator[EngineConfig], words: int
) -> list[Stage]:
    """All engines that can run these layers, the fastest first."""
    found: list[Stage] = []
    # Requantisers only set a lower limit: what is planned with many of them serves few as well.
    planned: dict[EngineConfig, list[LayerPlan] | None] = {}
    for engine in engines:
        power_of_two = engine.columns & -engine.columns
        key = replace(engine, requantisers=min(power_of_two, MOST_REQUANTISERS))
        if key not in planned:
            try:
                planned[key] = [
                    plans_for(layer, key, feed)[0]
                    for layer, feed in zip(layers, feeds, strict=True)
                ]
            except CompileError:
                planned[key] = None
        best = planned[key]
        if best is None:
            continue
        plans = [replace(plan, config=engine) for plan in best]
        cycles = WORD_OVERHEAD + sum(plan.cycles + plan.tail + LAYER_OVERHEAD for plan in plans)
        cycles = max(cycles, *(_selector_cycles(plan) for plan in plans))
        fitted = _fitted(engine, plans)
        found.append(Stage(fitted, cycles, engine_area(fitted, words)))
    return sorted(found, key=lambda stage: stage.cycles)


def _selector_cycles(plan: LayerPlan) -> float:
    """What k-WTA over a whole layer takes for a word: it holds one vector at a time."""
    winners = plan.layer.winners
    if winners is None or not winners.whole:
        return 0
    rows = math.ceil(plan.layer.weights.shape[0] / plan.config.requantisers)
    return 5 * rows + 20


def _fitted(engine: EngineConfig, plans: Sequence[LayerPlan]) -> EngineConfig:
    """The engine with memories just large enough, in powers of two."""

    def power(rows: float, least: int) -> int:
        return max(least, 1 << math.ceil(math.log2(max(1, rows))))

    vectors = [
        (plan, math.ceil(plan.layer.weights.shape[0] / engine.requantisers)) for plan in plans
    ]
    selected = [(plan.layer.winners, rows) for plan, rows in vectors if plan.layer.winners]
    whole = [rows for winners, rows in selected if winners.whole]
    local = [rows for winners, rows in selected if not winners.whole]
    rows = sum(plan.weight_rows for plan in plans)
    beats = max(plan.beats for plan in plans)
    return replace(
        engine,
        weight_rows=power(rows, 4),
        weight_memory="distributed" if rows <= 64 else engine.weight_memory,
        slot_rows=power(sum(plan.slots for plan in plans), 8),
        queue_beats=power(2 * max(beats, engine.beats), 8),
        requantise_rows=power(sum(p.passes * p.beats * p.groups for p in plans), 64),
        select_rows=min(256, max(local, default=0)),
        whole_rows=max(whole, default=0),
        reorder_rows=power(max(_vectors_held(plan) * rows for plan, rows in vectors), 32),
        dense_values=2048 if engine.dense_values else 0,
        list_entries=0
        if engine.dense_values
        else power(2 * sum(plan.entries * plan.feed.columns * 8 for plan in plans), 512),
        layers=max(2, len(plans)),
    )


def _vectors_held(plan: LayerPlan) -> int:
    """Vectors that the reorder memory is to have room for.

    One is written while another is read; of maps, the keys of more are on their way.
    """
    return 2 if plan.layer.out_shape[1:] == (1, 1) else 4


def explore(
    network: Network,
    board: Board,
    *,
    words: int,
    grids: Sequence[tuple[int, Sequence[EngineConfig]]],
    bus_bits: int,
) -> list[Candidate]:
    """The Pareto front of chains: fewer cycles for more area, for a board.

    Parameters
    ----------
    network : Network
        What is to run.
    board : Board
        Where.
    words : int
        Words in lockstep.
    grids : sequence of (int, sequence of EngineConfig)
        For every stage, its number of layers and the engines to try.
    bus_bits : int
        Of the kernel.
    """
    feeds = _feeds(network)
    options, first = [], 0
    for count, engines in grids:
        layers = network.layers[first : first + count]
        options.append(stages(layers, feeds[first : first + count], iter(engines), words))
        first += count
    useful = sum(
        plan_products(layer, feed) for layer, feed in zip(network.layers, feeds, strict=True)
    )
    loading = math.prod(network.layers[0].in_shape) + 4
    candidates = []
    for period in sorted({stage.cycles for stage in options[0]}):
        limit = max(period, loading)
        chosen = [_smallest(stage, limit, board) for stage in options]
        if any(stage is None for stage in chosen):
            continue
        engines = tuple(stage.engine for stage in chosen if stage is not None)
        core = CoreConfig(engines=engines, words=words)
        kernel = KernelConfig(core=core, bus_bits=bus_bits)
        area = dict.fromkeys(RESOURCES, 0.0) | core_area(kernel)
        cores = cores_that_fit(board, area, kernel_area(kernel))["all"]
        rate = cores * words * board.clock_mhz * 1e6 / limit
        use = useful * words / (limit * core.multipliers)
        candidates.append(Candidate(core, limit, area, cores, rate, use))
    return sorted(candidates, key=lambda c: -c.words_per_s)


def plan_products(layer: Layer, feed: Feed) -> float:
    """Useful multiplications of a word."""
    rows, columns = layer.conv_shape
    density = 1.0 if feed.dense else feed.expected / feed.channels
    return rows * columns * layer.nonzeros * density


def _smallest(options: Sequence[Stage], limit: float, board: Board) -> Stage | None:
    """The stage that keeps up and takes the least of what the board has least of."""

    def share(stage: Stage) -> float:
        return sum(
            stage.area.get(name, 0) / amount for name, amount in board.resources.items() if amount
        )

    return min((stage for stage in options if stage.cycles <= limit), key=share, default=None)


def _feeds(network: Network) -> list[Feed]:
    """What every layer reads, from a placement on engines that hold anything."""
    placed = place(network, CoreConfig(engines=(ROOMY,)))
    return [layer.plan.feed for layer in placed.layers]


def pareto(candidates: Sequence[Candidate], resource: str = "lut") -> list[Candidate]:
    """Those of which none is both faster and smaller."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.period, c.area[resource])):
        if not front or candidate.area[resource] < front[-1].area[resource]:
            front.append(candidate)
    return front


def plot(candidates: Sequence[Candidate], front: Sequence[Candidate], path: Path) -> None:
    """Cycles against LUTs of all candidates, and the front."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for axis, value, label in (
        (left, lambda c: c.period / c.core.words, "cycles a word of one core"),
        (right, lambda c: c.words_per_s, "words/s of the board, by cores alone"),
    ):
        axis.plot([c.area["lut"] for c in candidates], [value(c) for c in candidates], "o")
        axis.plot([c.area["lut"] for c in front], [value(c) for c in front], "o-", label="front")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("LUTs of a core, by the area model")
        axis.set_ylabel(label)
        axis.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _describe(core: CoreConfig) -> str:
    engines = ", ".join(
        f"{e.lanes}x{e.tiles}/{e.kernels} {e.routing}, {e.requantisers} requantisers"
        for e in core.engines
    )
    return f"{core.words} x ({engines})"


def _as_json(candidate: Candidate) -> dict[str, Any]:
    kernel = KernelConfig(core=candidate.core).to_dict()
    return {
        "core": kernel["core"],
        "period_cycles": candidate.period,
        "area": dict(candidate.area),
        "cores": candidate.cores,
        "words_per_s": candidate.words_per_s,
        "multiplier_use": candidate.use,
    }


@click.command()
@click.argument("board")
@click.option("--words", type=click.IntRange(1, 2), default=2, show_default=True)
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
def main(board: str, words: int, build: Path) -> None:
    """Search engines for the reference network on BOARD.

    Writes BUILD/bench/explore-BOARD.json and .png.
    """
    folder = build / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "reference.onnx"
    model.write_bytes(reference_model(Kind.SPARSE_SPARSE).SerializeToString(deterministic=True))
    description = load_board(board)
    bus_bits = KernelConfig.from_dict(dict(description.kernel)).bus_bits
    weights: WeightMemory = "ultra" if description.resources.get("uram") else "block"
    messages, console = Console(stderr=True), Console(width=150)
    with messages.status("trying engines"):
        grids = [
            (1, list(grid(dense=True, kernels=2, weight_memory=weights))),
            (1, list(grid(dense=False, kernels=8, weight_memory=weights))),
            (2, list(grid(dense=False, kernels=32, weight_memory=weights, most_lanes=5))),
        ]
        network = import_model(model)
        found = explore(network, description, words=words, grids=grids, bus_bits=bus_bits)
    table = Table(title=f"reference network on {board}", title_justify="left")
    for heading in ("chain", "cycles", "use", *RESOURCES, "cores", "words/s"):
        table.add_column(heading, justify="left" if heading == "chain" else "right")
    for candidate in found[:12]:
        table.add_row(
            _describe(candidate.core),
            f"{candidate.period:,.0f}",
            f"{candidate.use:.0%}",
            *(f"{candidate.area[name]:,.0f}" for name in RESOURCES),
            f"{candidate.cores}",
            f"{candidate.words_per_s:,.0f}",
        )
    console.print(table)
    best = found[0]
    check = schedule(place(network, best.core))
    console.print(f"the first, compiled: {check.period:,.0f} cycles a word group")
    front = pareto(found)
    plot(found, front, folder / f"explore-{board}.png")
    results = [{**_as_json(c), "on_front": c in front} for c in found]
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(folder / f"explore-{board}.json", text.encode())


if __name__ == "__main__":
    main()
