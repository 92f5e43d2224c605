"""Growth of cycles with density, width and the size of the array, against work / multipliers.

Layers of random weights are planned one at a time; cycles are the compiler's prediction, which
simulated RTL equals. Complementary weights pack as well as can be, random ones as well as the
compiler finds. However sparse a layer is, its sums are drained one per tile and cycle: a
position of n kernels takes at least n / tiles cycles.
"""

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from trencadis_bench.measure.layer_run import layer_after_lists, plain_layer, run_layer
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.candidates import plans_for
from trencadis_compiler.mapping.feed import Feed
from trencadis_format.command_line import reported
from trencadis_format.config import EngineConfig
from trencadis_format.files import make_folder, write_atomically

__all__ = [
    "Point",
    "Shape",
    "complementary_weights",
    "conv_layer",
    "measure_point",
    "simulated_sweep",
    "sweep",
]


@dataclass(frozen=True)
class Shape:
    """A convolution: kernels and input channels, side of the window, side of the output map."""

    name: str
    kernels: int
    channels: int
    window: int
    side: int


SHAPES = (
    Shape("3x3 of 64 to 64 channels", 64, 64, 3, 14),
    Shape("1x1 of 64 to 64 channels", 64, 64, 1, 14),
)
"""Kernels of ResNet-50 and MobileNetV2 as the published resource study has them."""

SIMULATED_SHAPE = Shape("3x3 on a 6x6 map, 9x2 multipliers", 64, 64, 3, 6)
SIMULATED_ENGINE = EngineConfig(
    lanes=9,
    tiles=2,
    kernels_per_tile=64,
    queue_beats=128,
    requantisers=2,
    list_entries=1 << 14,
    weight_rows=1 << 12,
    slot_rows=64,
    select_rows=32,
)
"""Configuration so small that its simulator is built in a minute."""

MANY_TILES = 16
"""Arrays with so many are named below their points, so that names do not overlap."""

WAYS = (2, 4, 8, 16, 32, 64)
WINNERS = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Point:
    """A layer on an engine.

    Attributes
    ----------
    sweep, shape, weights : str
        What is varied; the layer; `complementary` or `random`.
    ways : int
        Dense weights over weights that are not zero, about.
    winners : int
        Activations of a list, out of all channels.
    lanes, tiles : int
        Lanes and tiles of the engine.
    cycles : float
        Cycles of the layer.
    ideal : float
        Useful multiplications over multipliers.
    simulated : float or None
        Cycles from sample to sample on RTL, if it was simulated: a few more than the layer's own.
    """

    sweep: str
    shape: str
    weights: str
    ways: int
    winners: int
    lanes: int
    tiles: int
    cycles: float
    ideal: float
    simulated: float | None = None


def complementary_weights(shape: Shape, ways: int, seed: int) -> npt.NDArray[np.int8]:
    """Random weights of which `ways` kernels share the rows of a window and never collide."""
    rng = np.random.default_rng(seed)
    rows = shape.channels * shape.window**2
    weights = np.zeros((shape.kernels, rows), np.int8)
    for members in rng.permutation(shape.kernels).reshape(-1, ways):
        owner = rng.permutation(np.arange(rows) % ways)
        weights[members[owner], np.arange(rows)] = rng.integers(1, 128, rows)
    return weights.reshape(shape.kernels, shape.channels, shape.window, shape.window)


def random_weights(shape: Shape, ways: int, seed: int) -> npt.NDArray[np.int8]:
    """Draw as many weights anywhere."""
    rng = np.random.default_rng(seed)
    size = (shape.kernels, shape.channels, shape.window, shape.window)
    weights = np.zeros(math.prod(size), np.int8)
    kept = rng.permutation(weights.size)[: weights.size // ways]
    weights[kept] = rng.integers(1, 128, kept.size)
    return weights.reshape(size)


def conv_layer(shape: Shape, weights: npt.NDArray[np.int8], winners: int) -> tuple[Layer, Feed]:
    """A convolution, and the lists of so many activations that it reads."""
    height = shape.side + shape.window - 1
    layer = plain_layer(shape.name, weights, height, Fraction(1))
    return layer, Feed(shape.channels, height, height, False, winners, True, winners)


def measure_point(
    what: str, shape: Shape, kind: str, ways: int, winners: int, engine: EngineConfig
) -> Point | None:
    """A layer with so many winners on its input; None if the engine does not hold it."""
    make = complementary_weights if kind == "complementary" else random_weights
    weights = make(shape, ways, seed=ways)
    layer, feed = conv_layer(shape, weights, winners)
    try:
        plan = plans_for(layer, engine, feed)[0]
    except CompileError:
        return None
    return Point(
        what,
        shape.name,
        kind,
        ways,
        winners,
        engine.lanes,
        engine.tiles,
        plan.cycles,
        plan.products / engine.multipliers,
    )


def sweep(shapes: Sequence[Shape] = SHAPES) -> list[Point]:
    """All sweeps."""
    points: list[Point | None] = []
    for shape in shapes:
        for kind in ("complementary", "random"):
            for ways in WAYS:
                points.append(measure_point("weights", shape, kind, ways, 8, _engine(9, 8)))
        for winners in WINNERS:
            points.append(
                measure_point("activations", shape, "complementary", 8, winners, _engine(9, 8))
            )
        for lanes, tiles in ((3, 8), (9, 2), (9, 4), (9, 8), (9, 16), (18, 8), (36, 8)):
            points.append(
                measure_point("array", shape, "complementary", 8, 8, _engine(lanes, tiles))
            )
        for channels in (32, 64, 128, 256):
            wide = Shape(f"{shape.window}x{shape.window}", channels, channels, shape.window, 14)
            points.append(
                measure_point("width", wide, "complementary", 8, channels // 8, _engine(9, 8))
            )
    return [point for point in points if point is not None]


def simulated_sweep(
    build: Path,
    progress: Callable[[str], None],
    *,
    shape: Shape = SIMULATED_SHAPE,
    engine: EngineConfig = SIMULATED_ENGINE,
    ways: Sequence[int] = WAYS,
    winners: Sequence[int] = WINNERS,
    build_dir: Path | None = None,
) -> list[Point]:
    """Both densities on the RTL of a small kernel.

    Raises
    ------
    ValueError
        If RTL gives other outputs than the emulator.
    """
    cases = [("weights", count, 8) for count in ways]
    cases += [("activations", 8, count) for count in winners]
    points = []
    for what, sharing, count in cases:
        progress(f"simulating {sharing} ways, {count} winners")
        point = measure_point(what, shape, "complementary", sharing, count, engine)
        if point is None:
            continue
        weights = complementary_weights(shape, sharing, seed=sharing)
        network = layer_after_lists(weights, shape.side + shape.window - 1, count)
        run = run_layer(network, engine, build / "scaling", build_dir=build_dir)
        if not run.outputs_equal:
            raise ValueError(f"RTL and emulator differ at {sharing} ways and {count} winners")
        points.append(replace(point, simulated=run.simulated))
    return points


def _engine(lanes: int, tiles: int) -> EngineConfig:
    """An engine that requantises as many sums as it drains, so that requantisers are no limit."""
    return EngineConfig(
        lanes=lanes,
        tiles=tiles,
        kernels_per_tile=64,
        queue_beats=128,
        requantisers=tiles,
        list_entries=1 << 14,
        weight_rows=1 << 16,
        slot_rows=256,
    )


def _plot(points: Sequence[Point], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = {
        "weights": ("fewer weights: dense over non-zero", "ways"),
        "activations": ("fewer activations: winners of 64 channels", "winners"),
        "array": ("more multipliers", ""),
        "width": ("wider layers: winners, 1/8 of the channels", "winners"),
    }
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axis, (what, (label, attribute)) in zip(axes.flat, names.items(), strict=True):
        mine = [point for point in points if point.sweep == what]
        for shape, kind in sorted({(p.shape, p.weights) for p in mine}):
            line = [p for p in mine if (p.shape, p.weights) == (shape, kind)]
            x = [getattr(p, attribute) if attribute else p.lanes * p.tiles for p in line]
            order = np.argsort(x, kind="stable")
            xs, cycles = np.array(x)[order], np.array([p.cycles for p in line])[order]
            # Arrays of equal size differ in shape: points, not a line.
            style = "o-" if len(line) > 1 and attribute else "o"
            (drawn,) = axis.loglog(xs, cycles, style, label=f"{shape}, {kind}")
            simulated = [(x[i], line[i].simulated) for i in order if line[i].simulated]
            if simulated:
                axis.loglog(*zip(*simulated, strict=True), "kx", markersize=9, label="simulated")
            if not attribute:
                for point in line:
                    place = point.lanes * point.tiles, point.cycles
                    axis.annotate(
                        f"{point.lanes}x{point.tiles}",
                        place,
                        xytext=(0, 5 if point.tiles < MANY_TILES else -11),
                        textcoords="offset points",
                        ha="center",
                        fontsize=7,
                    )
            ideal = np.array([p.ideal for p in line])[order]
            axis.loglog(xs, ideal, ":" if len(line) > 1 else "_", color=drawn.get_color())
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel(label)
        axis.set_ylabel("cycles of the layer")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.suptitle(
        "Cycles of a layer, predicted, on 9x8 multipliers unless stated\n"
        "dotted: useful multiplications over multipliers; crosses: simulated RTL"
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, picture.getvalue())
    pyplot.close(figure)


@click.command()
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@click.option("--simulate", is_flag=True, help="Simulate some points on the RTL of a small kernel.")
@reported("scaling")
def main(build: Path, simulate: bool) -> None:
    """Sweep densities, widths and arrays; writes BUILD/bench/scaling.json and scaling.png."""
    folder = build / "bench"
    make_folder(folder)
    with Console(stderr=True).status("planning layers") as status:
        points = sweep()
        if simulate:
            points += simulated_sweep(build, status.update)
    text = json.dumps([asdict(point) for point in points], indent=1) + "\n"
    write_atomically(folder / "scaling.json", text.encode())
    _plot(points, folder / "scaling.png")
    for point in points:
        if point.simulated is not None:
            print(
                f"{point.sweep}: {point.ways} ways, {point.winners} winners: "
                f"{point.simulated:,.1f} cycles simulated, {point.cycles:,.0f} of the layer "
                f"predicted, {point.ideal:,.0f} ideal"
            )
    print(folder / "scaling.png")


if __name__ == "__main__":
    main()
