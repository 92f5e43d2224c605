"""A compiled network, with what it was compiled from."""

import os
from dataclasses import dataclass
from pathlib import Path

import onnx

from trencadis_compiler.compile_chains import CompiledPart
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.place import Placement
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.mapping.schedule import Schedule
from trencadis_compiler.maps.compile_maps import CompiledMaps
from trencadis_compiler.maps.place import MapPlacement
from trencadis_compiler.segments.cut_segment import CompiledPieces
from trencadis_compiler.segments.segment import CompiledSegment
from trencadis_format.compiled import CompiledNetwork
from trencadis_format.overlay import Overlay

__all__ = ["Compiled"]


@dataclass(frozen=True)
class Compiled:
    """A compiled network, and what it was compiled from.

    Attributes
    ----------
    compiled : CompiledNetwork
        What is written to a file.
    parts : tuple of CompiledSegment, CompiledPieces or CompiledMaps
        The overlay segments, in order.
    judged : Path or ModelProto
        The yardstick of what is computed: the model's own file, or the quantised copy of a float
        model.
    runnable : ModelProto
        The whole model as onnxruntime runs it.
    planner : Planner
        What was found out about packings and plans.
    """

    compiled: CompiledNetwork
    parts: tuple[CompiledPart, ...]
    judged: Path | onnx.ModelProto
    runnable: onnx.ModelProto
    planner: Planner

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the compiled network."""
        self.compiled.save(path)

    @property
    def segments(self) -> tuple[CompiledSegment | CompiledPieces, ...]:
        """The segments for list engines, in order."""
        return tuple(part for part in self.parts if not isinstance(part, CompiledMaps))

    @property
    def placements(self) -> tuple[Placement | MapPlacement, ...]:
        """Placements of all overlay segments and their pieces, in order."""
        return tuple(placement for part in self.parts for placement in part.placements)

    @property
    def overlay(self) -> Overlay:
        """The program of a network that is one overlay segment."""
        found = self.compiled.only_overlay
        if found is None:
            raise self._several()
        return found

    @property
    def network(self) -> Network:
        """The layers of a network that is one overlay segment."""
        return self._only.network

    @property
    def placement(self) -> Placement:
        """Placement of the layers of a network that is one overlay segment."""
        return self._only.placement

    @property
    def schedule(self) -> Schedule:
        """The program of a network that is one overlay segment."""
        return self._only.schedule

    @property
    def _only(self) -> CompiledSegment:
        if self.compiled.only_overlay is None:
            raise self._several()
        segment = self.parts[0]
        assert isinstance(segment, CompiledSegment), "the network is one image of list engines"
        return segment

    def _several(self) -> CompileError:
        return CompileError(
            f"{self.compiled.name!r} has {len(self.compiled.segments)} segments; only networks "
            "that are one overlay segment can be used here: compile with --strict"
        )
