"""A kernel sized for a model: given arrays, with memories and sums grown to what it needs.

The formats bound every memory; what passes them is cut. The result depends on the model and the
given kernel alone, and is named by the digest of its configuration.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trencadis_compiler.cutting.plan_cut import Cut, CutStage, plan_cut
from trencadis_compiler.cutting.program import Program
from trencadis_compiler.exact.ranges import reachable_sums
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.place import PlacedLayer, Placement
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.mapping.schedule import schedule
from trencadis_compiler.mapping.size_memories import needed_memories, power_of_two, roomy
from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_format.layer_tables import Selection

__all__ = ["Sized", "kernel_for", "largest_kernel", "moved", "size_kernel"]

MAX_SUM_BITS = 32
MAX_SELECT_ROWS = 256
MAX_WHOLE_ROWS = 1 << 12


@dataclass(frozen=True)
class Sized:
    """A kernel, and how networks run on it.

    Attributes
    ----------
    kernel : KernelConfig
        Kernel with memories that are large enough.
    cuts : tuple of Cut
        Cuts of each network; mostly in one piece.
    """

    kernel: KernelConfig
    cuts: tuple[Cut, ...]


def size_kernel(
    networks: Sequence[Network],
    base: KernelConfig,
    density: Mapping[str, float] | None = None,
    *,
    planner: Planner | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Sized:
    """Grow the memories of a kernel, so that networks run in as few pieces as formats allow.

    Parameters
    ----------
    networks : sequence of Network
        Chains that are to run on it.
    base : KernelConfig
        Arrays, and the least memories. Returned as it is if it holds all networks.
    density : mapping of str to float, optional
        As for `place`.
    planner : Planner, optional
        Makes the plans.
    progress : callable
        Called with a message at each step.

    Raises
    ------
    CompileError
        If a layer fits the formats in no way.
    """
    planner = planner or Planner(progress=progress)

    def cuts_for(kernel: KernelConfig) -> tuple[Cut, ...]:
        return tuple(
            plan_cut(network, kernel, density, planner=planner, progress=progress)
            for network in networks
        )

    cuts = cuts_for(largest_kernel(base, networks))
    kernel = kernel_for(base, cuts)
    if kernel == base:
        # Whatever fits has the plans that it has always had there.
        return Sized(base, cuts_for(base))
    return Sized(kernel, tuple(moved(cut, kernel) for cut in cuts))


def largest_kernel(base: KernelConfig, networks: Sequence[Network]) -> KernelConfig:
    """The arrays of a kernel with what the formats allow around them, for some networks."""
    return replace(base, core=_largest(base.core, networks))


def kernel_for(base: KernelConfig, cuts: Sequence[Cut]) -> KernelConfig:
    """The kernel with memories for cuts that were made for the largest one; no smaller ones."""
    programs = [program for cut in cuts for program in cut.programs]
    if not programs:
        return base
    engines = tuple(
        _grown(engine, number, programs) for number, engine in enumerate(base.core.engines)
    )
    return replace(base, core=replace(base.core, engines=engines))


def _largest(core: CoreConfig, networks: Sequence[Network]) -> CoreConfig:
    """Memories and sums as large as the formats allow; selectors as large as vectors are."""
    selected = [
        layer.weights.shape[0]
        for network in networks
        for layer in network.layers
        if layer.winners and layer.winners.selection is not Selection.ALL
    ]

    def larger(engine: EngineConfig) -> EngineConfig:
        changes = {"sum_bits": MAX_SUM_BITS}
        rows = math.ceil(max(selected, default=0) / engine.requantisers)
        if rows > max(engine.select_rows, engine.whole_rows):
            name = "select_rows" if rows <= MAX_SELECT_ROWS else "whole_rows"
            changes[name] = min(power_of_two(rows), MAX_WHOLE_ROWS)
        return replace(engine, **changes)

    large = roomy(core)
    return replace(large, engines=tuple(map(larger, large.engines)))


def _grown(engine: EngineConfig, number: int, programs: Sequence[Program]) -> EngineConfig:
    """An engine with what each program needs of it, and no less than it has."""
    needs: dict[str, int] = {}
    for program in programs:
        placed = program.placement.on_engine(number)
        needed = needed_memories(placed) | {"sum_bits": max(map(_sum_bits, placed))}
        needs |= {name: max(needs.get(name, 0), rows) for name, rows in needed.items()}
    used = programs[0].placement.core.engines[number]
    needs |= {"select_rows": used.select_rows, "whole_rows": used.whole_rows}
    larger = {name: max(rows, getattr(engine, name)) for name, rows in needs.items()}
    larger["reorder_rows"] = power_of_two(max(larger["reorder_rows"], 2 * larger["select_rows"]))
    return replace(engine, **larger)


def _sum_bits(placed: PlacedLayer) -> int:
    """Width of a sum of the layer's weights; even, as multipliers come in pairs."""
    least, most = reachable_sums(placed.layer, placed.feed.survivors)
    bits = max((-int(least.min()) - 1).bit_length(), int(most.max()).bit_length()) + 1
    return bits + bits % 2


def moved(cut: Cut, kernel: KernelConfig) -> Cut:
    """The same cut on a kernel that differs in the sizes of memories alone."""
    stages = tuple(
        CutStage(stage.stage, tuple(_on(program, kernel.core) for program in stage.programs))
        for stage in cut.stages
    )
    return Cut(cut.network, stages, cut.density)


def _on(program: Program, core: CoreConfig) -> Program:
    layers = tuple(
        replace(placed, plan=replace(placed.plan, config=core.engines[placed.engine]))
        for placed in program.placement.layers
    )
    placement = Placement(program.placement.network, core, layers)
    return Program(placement, schedule(placement))
