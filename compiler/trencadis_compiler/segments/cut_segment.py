"""Compiling a network that no core holds whole: a segment in pieces."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from trencadis_boards import Board
from trencadis_compiler.cutting.plan_cut import Cut
from trencadis_compiler.cutting.program import Program
from trencadis_compiler.emit.assemble import assemble
from trencadis_compiler.emit.formats import input_format, output_format, output_scales
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.place import Placement
from trencadis_compiler.segments.pieces import cut_report
from trencadis_format.config import KernelConfig
from trencadis_format.cut_segment import CutSegment
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import OutputFormat

__all__ = ["CompiledPieces", "compile_cut", "compile_pieces"]


@dataclass(frozen=True)
class CompiledPieces:
    """A segment in pieces, and what it was compiled from."""

    segment: CutSegment
    network: Network
    cut: Cut

    @property
    def cycles(self) -> float:
        """Cycles per inference of a core, loading every image included."""
        return self.cut.cycles

    @property
    def latency_cycles(self) -> float:
        """Cycles of an inference alone."""
        return self.cut.cycles

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Placements of the layers, of every image."""
        return tuple(program.placement for program in self.cut.programs)

    @property
    def report(self) -> Mapping[str, Any]:
        """Report about it; JSON-ready."""
        return self.segment.report


def compile_pieces(
    cut: Cut,
    board: Board,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> CompiledPieces:
    """Make the images of a network that was cut for a board's kernel.

    Parameters
    ----------
    cut : Cut
        The network and its stages.
    board, progress
        As for `compile_network`.

    Raises
    ------
    CompileError
        If a requantisation cannot be exact.
    """
    report = cut_report(cut, board)
    segment = compile_cut(cut, board.kernel, report, progress=progress)
    return CompiledPieces(segment, cut.network, cut)


def compile_cut(
    cut: Cut,
    kernel: KernelConfig,
    report: Mapping[str, Any],
    nodes: tuple[str, ...] = (),
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> CutSegment:
    """Assemble the device images of a network that was cut.

    Parameters
    ----------
    cut : Cut
        The network and its stages.
    kernel : KernelConfig
        What they are for.
    report : mapping
        What there is to say about it; JSON-ready.
    nodes : tuple of str
        The model's nodes that it computes.
    progress : callable
        Called with a message for each image.

    Raises
    ------
    CompileError
        If a requantisation cannot be exact.
    """
    overlays = []
    for number, program in enumerate(cut.programs, 1):
        progress(f"assembling image {number} of {len(cut.programs)}")
        overlays.append(_overlay(cut.network.name, program, kernel))
    last = cut.programs[-1].placement
    return CutSegment(
        overlays=tuple(overlays),
        stages=tuple(stage.stage for stage in cut.stages),
        input=input_format(cut.network.input),
        output=_whole_output(cut, output_format(last.network, last)),
        report=report,
        nodes=nodes,
    )


def _overlay(name: str, program: Program, kernel: KernelConfig) -> Overlay:
    placement = program.placement
    form = output_format(placement.network, placement)
    if form.raw:
        # Sums as they are, exact in float64.
        channels = form.channels
        form = replace(
            form,
            dtype="float64",
            scales=(1.0,) * channels,
            offsets=(0.0,) * channels,
            numerators=(),
            addends=(),
            denominators=(),
        )
    return Overlay(
        name=name,
        kernel=kernel,
        image=assemble(placement, program.schedule, kernel),
        input=input_format(placement.network.input),
        output=form,
        report={
            "cycles_per_word": program.schedule.period / kernel.core.batch_lanes,
            "cycles_are": "those of a piece after the other",
        },
    )


def _whole_output(cut: Cut, last: OutputFormat) -> OutputFormat:
    """The format of the tensor that the network makes."""
    value = cut.network.output
    channels, rows, columns = value.shape
    producer = cut.network.producer(value.name)
    assert producer is not None, "a network has layers"
    quantisation = value.quantisation
    return replace(
        last,
        name=value.tensor.name,
        dtype=value.tensor.dtype,
        shape=value.tensor.shape,
        axes=value.axes,
        channels=channels,
        rows=rows,
        columns=columns,
        piece_bytes=1,
        pieces=channels * rows * columns * (4 if quantisation is None else 1),
        places=channels,
        order=tuple(range(channels)),
        raw=quantisation is None,
        integer=value.integer,
        zero_key=quantisation.zero_key if quantisation else 0,
        key_offset=quantisation.key_offset if quantisation else 0,
        **asdict(output_scales(producer)),
    )
