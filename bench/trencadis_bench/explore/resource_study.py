"""Resources of a kernel of a well-known network, against both sparsities, at one throughput.

For 1x1 and 3x3 convolutions of 64 to 64 channels, as ResNet-50 and MobileNetV2 have them: of all
engines of a grid that finish a position in time, the one with the fewest LUTs. Cycles are the
compiler's, resources those of the area model (`trencadis_flows.area`): modelled, not
synthesised.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from trencadis_bench.explore.engines import AMPLE, stages
from trencadis_bench.measure.scaling import (
    SHAPES,
    WAYS,
    WINNERS,
    Shape,
    complementary_weights,
    conv_layer,
)
from trencadis_format.command_line import reported
from trencadis_format.config import EngineConfig
from trencadis_format.files import make_folder, write_atomically

__all__ = ["Resources", "smallest", "study"]

POSITION_CYCLES = 64
"""Cycles of a position, unless stated: a sum a cycle."""
LANES = (1, 2, 3, 4, 6, 9, 12, 18, 24, 36, 48, 72, 96, 144, 192)
TILES = (2, 4, 8)


@dataclass(frozen=True)
class Resources:
    """The smallest engine for a layer.

    Attributes
    ----------
    shape : str
        The layer.
    ways : int
        Dense weights over weights that are not zero.
    winners : int
        Activations of a list of 64.
    lanes, tiles : int
        Lanes and tiles of the engine.
    cycles : float
        Cycles of a position.
    lut, ff, dsp, bram36, uram : float
        Resources by the area model.
    """

    shape: str
    ways: int
    winners: int
    lanes: int
    tiles: int
    cycles: float
    lut: float
    ff: float
    dsp: float
    bram36: float
    uram: float


def smallest(shape: Shape, ways: int, winners: int, position_cycles: float) -> Resources | None:
    """The engine with the fewest LUTs that finishes a position in time; None if none does."""
    weights = complementary_weights(shape, ways, seed=ways)
    layer, feed = conv_layer(shape, weights, winners)
    limit = position_cycles * shape.side**2
    found = [
        stage
        for stage in stages([layer], [feed], _engines(ways), batch_lanes=1)
        # The few cycles in which a layer begins are no part of a position.
        if stage.cycles <= limit + 16
    ]
    if not found:
        return None
    best = min(found, key=lambda stage: stage.area["lut"])
    return Resources(
        shape=shape.name,
        ways=ways,
        winners=winners,
        lanes=best.engine.lanes,
        tiles=best.engine.tiles,
        cycles=best.cycles / shape.side**2,
        **{name: best.area.get(name, 0.0) for name in ("lut", "ff", "dsp", "bram36", "uram")},
    )


def _engines(ways: int) -> Iterator[EngineConfig]:
    for lanes, tiles in itertools.product(LANES, TILES):
        yield replace(
            AMPLE,
            lanes=lanes,
            tiles=tiles,
            kernels_per_tile=ways,
            requantisers=min(tiles, 4),
            dense_values=0,
            weight_memory="ultra",
        )


def study(
    shapes: Sequence[Shape] = SHAPES,
    ways: Sequence[int] = WAYS,
    winners: Sequence[int] = WINNERS,
    position_cycles: float = POSITION_CYCLES,
) -> list[Resources]:
    """Every shape at every pair of sparsities that an engine of the grid is fast enough for."""
    found = (smallest(*case, position_cycles) for case in itertools.product(shapes, ways, winners))
    return [resources for resources in found if resources is not None]


@click.command()
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@click.option(
    "--cycles",
    type=click.FloatRange(1),
    default=POSITION_CYCLES,
    show_default=True,
    help="Of a position, at most.",
)
@reported("resource_study")
def main(build: Path, cycles: float) -> None:
    """Model engines for 64 to 64 channels; writes BUILD/bench/resource-study.json."""
    with Console(stderr=True).status("trying engines"):
        found = study(position_cycles=cycles)
    console = Console(width=110)
    for shape in SHAPES:
        table = Table(title=f"{shape.name}, a position in {cycles:g} cycles", title_justify="left")
        for heading in ("ways", "winners", "lanes x tiles", "cycles", "LUT", "FF", "DSP", "URAM"):
            table.add_column(heading, justify="right")
        for r in found:
            if r.shape == shape.name:
                figures = (f"{r.cycles:.1f}", f"{r.lut:,.0f}", f"{r.ff:,.0f}")
                table.add_row(
                    f"{r.ways}",
                    f"{r.winners}",
                    f"{r.lanes} x {r.tiles}",
                    *figures,
                    f"{r.dsp:g}",
                    f"{r.uram:g}",
                )
        console.print(table)
    folder = build / "bench"
    make_folder(folder)
    text = json.dumps([asdict(resources) for resources in found], indent=1) + "\n"
    write_atomically(folder / "resource-study.json", text.encode())


if __name__ == "__main__":
    main()
