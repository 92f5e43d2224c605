"""Compiling one network of layers for a board's kernel: an overlay segment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trencadis_boards import Board
from trencadis_compiler.cutting.program import Program
from trencadis_compiler.emit.assemble import assemble
from trencadis_compiler.emit.formats import input_format, output_format
from trencadis_compiler.ir.network import Network
from trencadis_compiler.ir.verify import verify
from trencadis_compiler.mapping.place import Placement, place
from trencadis_compiler.mapping.schedule import Schedule, schedule
from trencadis_compiler.segments.summary import make_report
from trencadis_format.overlay import Overlay

__all__ = ["CompiledSegment", "assemble_network", "compile_network"]


@dataclass(frozen=True)
class CompiledSegment:
    """An overlay segment, and what it was compiled from."""

    overlay: Overlay
    network: Network
    placement: Placement
    schedule: Schedule

    @property
    def cycles(self) -> float:
        """Cycles per inference of a core."""
        return self.schedule.period / self.placement.core.batch_lanes

    @property
    def latency_cycles(self) -> float:
        """Cycles of an inference alone: engines of a chain work on it one after the other."""
        return Program(self.placement, self.schedule).first_cycles

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Placements of the layers: of the one image."""
        return (self.placement,)

    @property
    def report(self) -> Mapping[str, Any]:
        """Report about it; JSON-ready."""
        return self.overlay.report


def compile_network(
    network: Network,
    board: Board,
    *,
    density: Mapping[str, float],
    profiled: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> CompiledSegment:
    """Compile a network, wherever it comes from, for a board.

    Parameters
    ----------
    network : Network
        The network.
    board : Board
        Target board.
    density : mapping of str to float
        Density for layers whose activations are sparse by ReLU alone: the part that is not zero.
    profiled : bool
        The densities were measured.
    progress : callable
        Called with a message at each step.

    Raises
    ------
    CompileError
        If the network cannot be run on the board's kernel.
    """
    verify(network)
    progress("packing kernels into tiles")
    placement = place(network, board.kernel.core, density, progress=progress)
    progress("scheduling")
    plan = schedule(placement)
    return assemble_network(placement, plan, board, profiled=profiled, progress=progress)


def assemble_network(
    placement: Placement,
    plan: Schedule,
    board: Board,
    *,
    profiled: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> CompiledSegment:
    """Make the image of a network that is placed and scheduled.

    Parameters
    ----------
    placement : Placement
        Placement of the network.
    plan : Schedule
        Schedule of its layers.
    board, profiled, progress
        As for `compile_network`.

    Raises
    ------
    CompileError
        If a requantisation cannot be exact.
    """
    kernel, network = board.kernel, placement.network
    progress("assembling the image")
    image = assemble(placement, plan, kernel)
    overlay = Overlay(
        name=network.name,
        kernel=kernel,
        image=image,
        input=input_format(network.input),
        output=output_format(network, placement),
        report=make_report(placement, plan, kernel, board, len(image), profiled=profiled),
    )
    return CompiledSegment(overlay, network, placement, plan)
