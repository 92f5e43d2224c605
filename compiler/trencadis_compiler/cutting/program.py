"""A device image's worth of layers: placed, scheduled, and what running it costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from trencadis_compiler.cutting.identity import identity_before
from trencadis_compiler.cutting.image_size import load_cycles
from trencadis_compiler.cutting.sub_network import sub_network
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.ranges import prove_range
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.cycles import LayerCycles
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.mapping.place import Placement, place
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.mapping.schedule import Schedule, schedule
from trencadis_format.config import KernelConfig
from trencadis_format.layer_tables import FEED, INPUT_ENTRY
from trencadis_format.widths import INPUT_INDEX_BITS

__all__ = ["Program", "Target", "check_program", "find_program"]


MEMORY_CYCLES = 64
"""Cycles in which the first values are read from memory, and the last results written."""


@dataclass(frozen=True)
class Target:
    """Circumstances for which programs are made.

    Attributes
    ----------
    kernel : KernelConfig
        Its core and bus.
    density : mapping of str to float
        As for `place`.
    planner : Planner
        Makes the plans.
    thorough : bool
        Search for better packings than those that are found quickly.
    """

    kernel: KernelConfig
    density: Mapping[str, float]
    planner: Planner
    thorough: bool = True


@dataclass(frozen=True)
class Program:
    """Layers in one device image.

    Attributes
    ----------
    placement : Placement
        Placement of the layers, and of those that only hand the map on.
    schedule : Schedule
        Their schedule.
    """

    placement: Placement
    schedule: Schedule

    @cached_property
    def load_cycles(self) -> int:
        """Cycles in which the image is loaded and the maps are cleared, about."""
        return load_cycles(self.placement)

    @cached_property
    def first_cycles(self) -> float:
        """Cycles from the start of a run to the last result of its first sample, about."""
        return MEMORY_CYCLES + LayerCycles(self.placement).first_sample

    def cycles(self, runs: int) -> float:
        """Cycles of loading the image and of some runs on one core, maps moved included."""
        core = self.placement.core
        rounds = math.ceil(runs / core.batch_lanes)
        return self.load_cycles + self.first_cycles + (rounds - 1) * self.schedule.period


def find_program(
    name: str, layers: Sequence[Layer], target: Target, survivors: int | None = None
) -> Program | None:
    """The fastest program of consecutive layers, of those that read their input in various ways.

    Engines of a chain that would be left without a layer hand the map on.

    Parameters
    ----------
    name : str
        Name of the network.
    layers : sequence of Layer
        Each reads what the one before it makes.
    target : Target
        Target.
    survivors : int, optional
        At most so many channels of an input position are not zero.

    Returns
    -------
    Program or None
        None if the layers do not fit.
    """
    core = target.kernel.core
    missing = len(core.engines) - len(layers)
    padded = list(layers)
    for number in range(missing):
        padded.insert(0, identity_before(padded[0], number))
    found: list[Program] = []
    for nonzeros, least in _inputs(padded[0], target, survivors):
        if any(program.schedule.period <= least for program in found):
            continue
        try:
            network = sub_network(name, padded, nonzeros)
            placement = place(
                network, core, target.density, planner=target.planner, thorough=target.thorough
            )
            check_program(placement, target.kernel)
        except CompileError:
            continue
        found.append(Program(placement, schedule(placement)))
    return min(found, key=lambda program: program.cycles(1), default=None)


def _inputs(first: Layer, target: Target, survivors: int | None) -> list[tuple[int | None, float]]:
    """Ways to send the input map, as channels that are sent of a position (None: all of them).

    Each with the cycles that the first layer takes at least; the most promising first.
    """
    channels, rows, columns = first.in_shape
    core = target.kernel.core
    ways: list[int | None] = [None]
    if core.sparse_input and channels <= 1 << INPUT_INDEX_BITS:
        ways.append(survivors or channels)
    found = []
    for nonzeros in ways:
        entries = channels if nonzeros is None else nonzeros
        dense = nonzeros is None
        feed = Feed(channels, rows, columns, dense, entries, True, entries, dense)
        plans = target.planner.ideal_plans(first, core.engines[0], feed)
        least = min((plan.cycles for plan in plans), default=math.inf)
        if least < math.inf:
            found.append((nonzeros, least))
    return sorted(found, key=lambda way: way[1])


def check_program(placement: Placement, kernel: KernelConfig) -> None:
    """Check that accumulators hold all sums, and formats the numbers of input and output.

    Raises
    ------
    CompileError
        If not.
    """
    for placed in placement.layers:
        prove_range(placed.layer, placed.feed.survivors, placed.config.sum_bits)
    last = placement.output_producer
    feed, layer = placement.input_reader.feed, last.layer
    values = feed.channels * feed.rows * feed.columns
    in_bytes = values
    if not feed.dense:
        in_bytes = feed.rows * feed.columns * feed.entries * INPUT_ENTRY.bits // 8
    raw = layer.requantised is None
    _, rows, columns = layer.out_shape
    pieces = rows * columns * (last.requantise_rows * 4 if raw else last.vector_rows)
    out_bytes = pieces * last.config.requantisers
    fields = {field.name: field for field in FEED.fields}
    for name, value in {
        "beats": math.ceil(in_bytes / kernel.bus_bytes) - 1,
        "row_values": feed.channels * feed.columns - 1 if feed.dense else 0,
        "rows": feed.rows - 1,
        "out_beats": math.ceil(out_bytes / kernel.bus_bytes) - 1,
        "out_pieces": pieces - 1,
    }.items():
        if value > fields[name].high:
            raise CompileError(
                f"network {placement.network.name!r}: FEED.{name} is {value}, at most "
                f"{fields[name].high} by the hardware's formats; use smaller maps"
            )
