"""The grid in which a layer is cut that fits no core whole: the cheapest of those that fit."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from trencadis_compiler.cutting.grid import Grid, cut_layer, largest_part
from trencadis_compiler.cutting.identity import identity_before
from trencadis_compiler.cutting.program import Program, Target, find_program
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.addresses import map_size
from trencadis_compiler.mapping.deal import Reading
from trencadis_compiler.mapping.feed import Feed
from trencadis_format.config import EngineConfig
from trencadis_format.pieces import Stage
from trencadis_format.widths import INDEX_BITS

__all__ = ["GridChoice", "choose_grid", "cut_programs", "stage_cycles"]

MAX_PIECES = 1 << 9
"""Pieces of a layer beyond which there is no use in cutting it."""

MAX_GRIDS = 4
"""Grids that fit of which the cheapest is taken."""


MAX_RATIO = 4
"""Times more pieces than those of a grid that fits, beyond which none is tried."""


@dataclass(frozen=True)
class GridChoice:
    """A grid, and the cycles of all its pieces, about."""

    grid: Grid
    cycles: float


def choose_grid(layer: Layer, target: Target) -> GridChoice | None:
    """Choose the grid in which a layer is cut that does not fit whole; None if no grid fits."""
    best: GridChoice | None = None
    fitting = 0
    for grid in _grids(layer):
        if best is not None and grid.pieces > MAX_RATIO * best.grid.pieces:
            break
        if not _may_fit(layer, grid, target):
            continue
        # The other parts are like the largest: what they take is known well enough to choose.
        program = find_program(layer.name, [largest_part(layer, grid)], target)
        if program is None:
            continue
        cycles = grid.images * program.cycles(grid.pieces // grid.images)
        if best is None or cycles < best.cycles:
            best = GridChoice(grid, cycles)
        fitting += 1
        if fitting == MAX_GRIDS:
            break
    return best


def stage_cycles(stage: Stage, programs: tuple[Program, ...]) -> float:
    """Cycles of a stage for one inference: every image is loaded, and run for all its pieces."""
    first = stage.images[0]
    runs = [0] * len(programs)
    for piece in stage.pieces:
        runs[piece.image - first] += 1
    return sum(program.cycles(count) for program, count in zip(programs, runs, strict=True))


def cut_programs(
    layer: Layer, grid: Grid, target: Target
) -> tuple[Stage, tuple[Program, ...]] | None:
    """The stage of a layer that is cut, and the program of each image; None if one does not fit."""
    parts, stage = cut_layer(layer, grid)
    programs = []
    for part in parts:
        program = find_program(layer.name, [part], target)
        if program is None:
            return None
        programs.append(program)
    return stage, tuple(programs)


def first_fitting(layer: Layer, target: Target) -> tuple[Stage, tuple[Program, ...]] | None:
    """The stage and programs of the first grid all of whose parts fit; None if there is none."""
    for grid in _grids(layer):
        if _may_fit(layer, grid, target):
            found = cut_programs(layer, grid, target)
            if found is not None:
                return found
    return None


def _grids(layer: Layer) -> Iterator[Grid]:
    """Grids with ever more pieces; of as many, those with fewest images first."""
    channels, rows, columns = layer.out_shape
    counts = itertools.product(
        _counts(rows), _counts(columns), _counts(channels), _counts(layer.in_shape[0])
    )
    grids = [grid for grid in itertools.starmap(Grid, counts) if 1 < grid.pieces <= MAX_PIECES]
    return iter(sorted(grids, key=lambda grid: (grid.pieces, grid.images, grid.column_strips)))


def _counts(size: int) -> list[int]:
    """Numbers of equal parts worth a try: powers of two, and three times those."""
    counts = {1 << i for i in range(size.bit_length())} | {size}
    counts |= {3 << i for i in range(size.bit_length())}
    # Only those that make parts smaller than the next lower number does.
    sizes: dict[int, int] = {}
    for count in sorted(counts):
        if count <= size:
            sizes.setdefault(math.ceil(size / count), count)
    return sorted(sizes.values())


def _may_fit(layer: Layer, grid: Grid, target: Target) -> bool:
    """Tell whether a part of a grid may fit, before any packing is searched."""
    config = target.kernel.core.engines[-1]
    first = target.kernel.core.engines[0]
    part_channels = math.ceil(layer.weights.shape[0] / grid.output_groups)
    if math.ceil(part_channels / config.requantisers) > config.reorder_rows:
        return False
    inputs = math.ceil(layer.in_shape[0] / grid.input_groups)
    height, width = _input_size(layer, grid)
    modes = []
    if inputs <= 1 << INDEX_BITS and height * width * inputs <= first.dense_values:
        modes.append(True)
    least_owned = math.ceil(inputs / first.lanes) if layer.weights.window == 1 else 1
    if target.kernel.core.sparse_input and height * width * least_owned <= first.list_entries:
        modes.append(False)
    if not modes:
        return False
    part = largest_part(layer, grid)
    if first is not config:
        handing_on = identity_before(part, 0)
        return _ideal_fits(handing_on, first, True, target) and _ideal_fits(
            part, config, False, target
        )
    return any(_ideal_fits(part, config, dense, target) for dense in modes)


def _ideal_fits(part: Layer, config: EngineConfig, dense: bool, target: Target) -> bool:
    channels, rows, columns = part.in_shape
    feed = Feed(channels, rows, columns, dense, channels, True, channels, dense)
    for plan in target.planner.ideal_plans(part, config, feed):
        memory = config.dense_values if plan.reading is Reading.DENSE else config.list_entries
        if map_size(plan) <= memory:
            return True
    return False


def _input_size(layer: Layer, grid: Grid) -> tuple[int, int]:
    """Rows and columns of a part's padded input map."""
    sizes = []
    for axis, strips in enumerate((grid.row_strips, grid.column_strips)):
        if grid.row_strips * grid.column_strips == 1:
            sizes.append(layer.padded_shape[axis])
            continue
        outputs = math.ceil(layer.out_shape[1 + axis] / strips)
        sums = (outputs - 1) * layer.pool.stride[axis] + layer.pool.kernel[axis]
        reach = (layer.weights.shape[2 + axis] - 1) * layer.dilation[axis]
        sizes.append((sums - 1) * layer.stride[axis] + reach + 1)
    return sizes[0], sizes[1]
