"""A chain of layers as stages that each fit a core: sections of the chain, and layers in pieces."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from trencadis_compiler.cutting.choose_grid import (
    choose_grid,
    cut_programs,
    first_fitting,
    stage_cycles,
)
from trencadis_compiler.cutting.grid import Grid, select_on_host, without_winners
from trencadis_compiler.cutting.identity import handed_on_densities
from trencadis_compiler.cutting.program import Program, Target, check_program, find_program
from trencadis_compiler.cutting.ways_to_send import ways_to_send
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer, Network
from trencadis_compiler.mapping.chain import chain_of
from trencadis_compiler.mapping.place import place
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.mapping.schedule import schedule
from trencadis_compiler.packing.tiles import FULL_EFFORT
from trencadis_format.config import KernelConfig
from trencadis_format.layer_tables import Selection
from trencadis_format.pieces import Join, Piece, Region, Stage
from trencadis_format.widths import MAP_COUNT

__all__ = ["Cut", "CutStage", "FitsNowhere", "plan_cut"]


class FitsNowhere(CompileError):
    """A layer fits the core in no pieces.

    Parameters
    ----------
    layer : str
        Its name.
    reason : str
        What it lacks; may be empty.
    """

    def __init__(self, layer: str, reason: str) -> None:
        reason = f": {reason}" if reason else ""
        super().__init__(
            f"layer {layer!r} fits the core in no pieces{reason}; choose a larger "
            "configuration, or run the layer on the host"
        )
        self.layer = layer


@dataclass(frozen=True)
class CutStage:
    """A stage with the programs of its device images, in the order of their numbers."""

    stage: Stage
    programs: tuple[Program, ...]

    @property
    def cycles(self) -> float:
        """Cycles for one inference, loading the images and moving the maps included."""
        return stage_cycles(self.stage, self.programs)

    @property
    def load_cycles(self) -> int:
        """Cycles, of these, of loading the images, about."""
        return sum(program.load_cycles for program in self.programs)


@dataclass(frozen=True)
class Cut:
    """A network as stages that follow each other.

    Attributes
    ----------
    network : Network
        What was cut.
    stages : tuple of CutStage
        Stages, in the order of the network. Images are numbered through.
    density : mapping of str to float
        Density of activations, as it was planned for.
    """

    network: Network
    stages: tuple[CutStage, ...]
    density: Mapping[str, float]

    @property
    def whole(self) -> bool:
        """The network is one device image, and nothing is left to the host."""
        return len(self.stages) == 1 and self.stages[0].stage.whole

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs of all device images, by number."""
        return tuple(program for stage in self.stages for program in stage.programs)

    @property
    def cycles(self) -> float:
        """Cycles for one inference.

        Of a network in one image the cycles from inference to inference; else those of loading
        every image, of moving its maps and of running its pieces, one after the other.
        """
        if self.whole:
            (program,) = self.programs
            return program.schedule.period / program.placement.core.batch_lanes
        return sum(stage.cycles for stage in self.stages)


def plan_cut(
    network: Network,
    kernel: KernelConfig,
    density: Mapping[str, float] | None = None,
    *,
    planner: Planner | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Cut:
    """Cut a network, so that every part fits a core of a kernel; in one piece if it fits whole.

    Parameters
    ----------
    network : Network
        A chain between one input and one output.
    kernel : KernelConfig
        Target.
    density : mapping of str to float, optional
        Density for layers whose activations are sparse by ReLU alone: the part that is not zero.
    planner : Planner, optional
        Makes the plans, where more networks share layers.
    progress : callable
        Called with a message at each step.

    Raises
    ------
    FitsNowhere
        If a layer fits in no way, naming it and what it lacks.
    """
    layers = chain_of(network)
    planner = planner or Planner(FULL_EFFORT.shared(len(layers)), progress)
    density = density or {}
    handed_on = handed_on_densities(network, density, len(kernel.core.engines))
    target = Target(kernel, {**handed_on, **density}, planner)
    problem: CompileError | None = None
    if len(layers) >= len(kernel.core.engines):
        wholes: list[Cut] = []
        for tried in ways_to_send(network, kernel.core):
            try:
                wholes.append(_whole(tried, layers, kernel, density, planner))
            except CompileError as error:
                problem = problem or error
        if wholes:
            return min(wholes, key=lambda cut: cut.cycles)
    return Cut(network, _best_sections(network, layers, target, problem, progress), density)


def _whole(
    network: Network,
    layers: tuple[Layer, ...],
    kernel: KernelConfig,
    density: Mapping[str, float],
    planner: Planner,
) -> Cut:
    """A network in one image.

    Raises
    ------
    CompileError
        If it does not fit, or its last layer has k-WTA.
    """
    placement = place(network, kernel.core, density, planner=planner, thorough=False)
    check_program(placement, kernel)
    placement = place(network, kernel.core, density, planner=planner)
    check_program(placement, kernel)
    program = Program(placement, schedule(placement))
    return Cut(network, (CutStage(_section(layers, 0), (program,)),), density)


def _best_sections(
    network: Network,
    layers: tuple[Layer, ...],
    target: Target,
    problem: CompileError | None,
    progress: Callable[[str], None],
) -> tuple[CutStage, ...]:
    """The cheapest stages, by dynamic programming over where sections begin and end.

    Sections and grids are chosen by packings that are found quickly; those of what is chosen are
    then improved.
    """
    quick = replace(target, thorough=False)
    most = sum(min(e.layers, MAP_COUNT) for e in target.kernel.core.engines)
    best: list[tuple[float, int, Grid | None]] = [(math.inf, 0, None)] * (len(layers) + 1)
    best[0] = 0.0, 0, None
    for start, layer in enumerate(layers):
        progress(f"cutting at layer {start + 1} of {len(layers)}")
        survivors = _survivors(network, layers, start)
        for stop in range(start + 1, min(start + most, len(layers)) + 1):
            stage = _whole_section(network.name, layers[start:stop], quick, survivors)
            grid, cycles = None, math.inf if stage is None else stage.cycles
            if stage is None and stop == start + 1:
                choice = choose_grid(layer, quick)
                if choice is None:
                    raise FitsNowhere(layer.name, str(problem or ""))
                grid, cycles = choice.grid, choice.cycles
            if cycles == math.inf:
                break
            if best[start][0] + cycles < best[stop][0]:
                best[stop] = best[start][0] + cycles, start, grid
    stages: list[CutStage] = []
    stop = len(layers)
    while stop:
        _, start, grid = best[stop]
        progress(f"packing layer {start + 1} of {len(layers)}")
        survivors = _survivors(network, layers, start)
        stage = None
        for tried in (target, quick):  # fewer tiles may need more rows than there is room for
            if grid is None:
                stage = _whole_section(network.name, layers[start:stop], tried, survivors)
            else:
                stage = _cut_stage(layers[start], grid, tried)
            if stage is not None:
                break
        if stage is None:  # grids are chosen by their largest part: another may have larger sums
            found = first_fitting(layers[start], quick)
            if found is None:
                raise FitsNowhere(layers[start].name, str(problem or ""))
            stage = CutStage(*found)
        stages.insert(0, stage)
        stop = start
    return _numbered(stages)


def _cut_stage(layer: Layer, grid: Grid, target: Target) -> CutStage | None:
    found = cut_programs(layer, grid, target)
    return None if found is None else CutStage(*found)


def _survivors(network: Network, layers: tuple[Layer, ...], start: int) -> int | None:
    """Bound of the non-zero channels per position of a layer's input; None if there is none."""
    if start == 0:
        return network.input.nonzeros
    winners = layers[start - 1].winners
    if winners is None or winners.selection is not Selection.EXACT:
        return None
    return min(winners.k, layers[start].in_shape[0])


def _whole_section(
    name: str, layers: tuple[Layer, ...], target: Target, survivors: int | None
) -> CutStage | None:
    # The host takes all activations of the last layer, and selects.
    program = find_program(name, (*layers[:-1], without_winners(layers[-1])), target, survivors)
    return None if program is None else CutStage(_section(layers, 0), (program,))


def _section(layers: tuple[Layer, ...], image: int) -> Stage:
    """The stage of layers that one image computes."""
    first, last = layers[0], layers[-1]
    piece = Piece(image, _everything(first.in_shape), _everything(last.out_shape))
    return Stage(
        layers=tuple(layer.name for layer in layers),
        in_shape=first.in_shape,
        zero_key=first.input.zero_key,
        pieces=(piece,),
        join=Join(last.out_shape, last.requantised is None, select_on_host(last)),
    )


def _everything(shape: tuple[int, int, int]) -> Region:
    channels, rows, columns = shape
    return Region((0, channels), (0, rows), (0, columns))


def _numbered(stages: list[CutStage]) -> tuple[CutStage, ...]:
    """The stages with their images numbered through."""
    numbered = []
    image = 0
    for item in stages:
        numbered.append(CutStage(item.stage.from_image(image), item.programs))
        image += len(item.programs)
    return tuple(numbered)
