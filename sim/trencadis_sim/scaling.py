"""How cycles grow with density, width and the size of the array, against work / multipliers.

Layers of random weights are planned one at a time; cycles are the compiler's prediction, which
simulated RTL equals. Complementary weights pack as well as can be, random ones as well as the
compiler finds. However sparse a layer is, its sums are drained one a tile and cycle: a position of
n kernels takes at least n / tiles cycles.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir import Layer, Pool, Quantisation
from trencadis_compiler.plan import Feed, plans_for
from trencadis_hw.config import EngineConfig
from trencadis_hw.container import write_atomically

__all__ = ["Point", "Shape", "complementary_weights", "measure_point", "sweep"]


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
        Of the engine.
    cycles : float
        Of the layer.
    ideal : float
        Useful multiplications over multipliers.
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
    """As many weights anywhere."""
    rng = np.random.default_rng(seed)
    size = (shape.kernels, shape.channels, shape.window, shape.window)
    weights = np.zeros(math.prod(size), np.int8)
    kept = rng.permutation(weights.size)[: weights.size // ways]
    weights[kept] = rng.integers(1, 128, kept.size)
    return weights.reshape(size)


def measure_point(
    what: str, shape: Shape, kind: str, ways: int, winners: int, engine: EngineConfig
) -> Point | None:
    """A layer with so many winners on its input; None if the engine does not hold it."""
    make = complementary_weights if kind == "complementary" else random_weights
    weights = make(shape, ways, seed=ways)
    byte = Quantisation(np.float32(1), 0, signed=False)
    height = shape.side + shape.window - 1
    layer = Layer(
        name=shape.name,
        weights=weights,
        weight_scale=(Fraction(1),) * shape.kernels,
        bias=(),
        stride=(1, 1),
        dilation=(1, 1),
        padding=(0, 0, 0, 0),
        in_shape=(shape.channels, height, height),
        input=byte,
        low=0,
        high=255,
        requantised=byte,
        table=None,
        output=byte,
        pool=Pool(),
        winners=None,
    )
    feed = Feed(shape.channels, height, height, False, winners, True, winners)
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


def _engine(lanes: int, tiles: int) -> EngineConfig:
    """An engine that requantises as many sums as it drains, so that requantisers are no limit."""
    return EngineConfig(
        lanes=lanes,
        tiles=tiles,
        kernels=64,
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
        "weights": ("dense / non-zero weights", "ways"),
        "activations": ("winners of 64 channels", "winners"),
        "array": ("multipliers", ""),
        "width": ("winners (1/8 of the channels)", "winners"),
    }
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axis, (what, (label, attribute)) in zip(axes.flat, names.items(), strict=True):
        mine = [point for point in points if point.sweep == what]
        for shape, kind in sorted({(p.shape, p.weights) for p in mine}):
            line = [p for p in mine if (p.shape, p.weights) == (shape, kind)]
            x = [getattr(p, attribute) if attribute else p.lanes * p.tiles for p in line]
            order = np.argsort(x, kind="stable")
            xs, cycles = np.array(x)[order], np.array([p.cycles for p in line])[order]
            style = "o-" if len(line) > 1 else "o"
            (drawn,) = axis.loglog(xs, cycles, style, label=f"{shape}, {kind}")
            ideal = np.array([p.ideal for p in line])[order]
            axis.loglog(xs, ideal, ":" if len(line) > 1 else "_", color=drawn.get_color())
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel(label)
        axis.set_ylabel("cycles (dotted: work / multipliers)")
        axis.legend(fontsize=7)
    figure.suptitle("predicted cycles of a layer on 9 x 8 multipliers unless varied")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


@click.command()
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
def main(build: Path) -> None:
    """Sweep densities, widths and arrays; writes BUILD/bench/scaling.json and scaling.png."""
    folder = build / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with Console(stderr=True).status("planning layers"):
        points = sweep()
    text = json.dumps([asdict(point) for point in points], indent=1) + "\n"
    write_atomically(folder / "scaling.json", text.encode())
    _plot(points, folder / "scaling.png")
    print(folder / "scaling.png")


if __name__ == "__main__":
    main()
