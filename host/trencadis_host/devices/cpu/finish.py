"""The steps of a layer after its dot products: pooling, look-up, selection."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Selection
from trencadis_host.devices.cpu.emit import Emitter
from trencadis_host.devices.cpu.moves import PoolSpec, TableSpec, emit_pool, emit_table
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.programs import LayerProgram, MapLayout, PoolProgram
from trencadis_host.devices.cpu.select import SelectSpec, emit_select

__all__ = ["Builder", "distance", "write_finish", "write_pool"]


class Builder(Protocol):
    """Function into which the steps of a layer are written."""

    e: Emitter

    def map(self, layout: MapLayout) -> Any:
        """The address of a map of the first sample."""
        ...

    def reserve(self, size: int) -> int:
        """Bytes of the workspace; where they begin."""
        ...

    def overrun(self, size: int) -> None:
        """Let kernels read so many bytes after any map; what is there is not used."""
        ...

    def function(self, emitter: Any, *arguments: Any) -> Any:
        """A function of the module; one for all uses that are alike."""
        ...

    def keep(self, array: npt.NDArray[Any]) -> int:
        """The address of a copy of an array that lives as long as the network."""
        ...

    def address(self, array: npt.NDArray[Any]) -> Any:
        """The address of an array, read from the network's table at run time."""
        ...


def distance(origins: npt.NDArray[np.int64], axis: int) -> int:
    """Positions from one window to the next along an axis."""
    if origins.shape[axis] < 2:
        return 0
    return int(np.diff(origins, axis=axis).ravel()[0])


def write_pool(builder: Builder, program: PoolProgram, path: Path) -> None:
    """Write a pooling step, and what is after it."""
    source, target = program.source, program.target
    spec = PoolSpec(
        rows=target.rows,
        columns=target.columns,
        channels=target.pitch,
        row_step=distance(program.origins, 0) * source.pitch,
        column_step=distance(program.origins, 1) * source.pitch,
        first=int(program.origins.ravel()[0]) * source.pitch,
        steps=tuple(step * source.pitch for step in program.steps),
        row_pitch=target.width * target.pitch,
        pitch=target.pitch,
        out_first=target.first * target.pitch,
        in_stride=source.stride,
        out_stride=target.stride,
    )
    e = builder.e
    maps = [builder.map(source), builder.map(target), e.arguments[2]]
    e.b.call(builder.function(emit_pool, spec), maps)
    write_finish(builder, program, path)


def write_finish(builder: Builder, program: LayerProgram | PoolProgram, path: Path) -> None:
    """Write the steps after keys are in the map: look them up, and choose the winners."""
    samples = builder.e.arguments[2]
    target, e = program.target, builder.e
    written = builder.map(target)
    line = target.width * target.pitch
    first = target.first * target.pitch
    if program.table is not None:
        spec = TableSpec(
            rows=target.rows,
            row_bytes=target.columns * target.pitch,
            pitch=line,
            first=first,
            stride=target.stride,
        )
        table = builder.address(program.table)
        e.b.call(builder.function(emit_table, spec), [written, table, samples])
    if program.selection is Selection.ALL or program.raw:
        return
    selection = SelectSpec(
        rows=target.rows,
        columns=target.columns,
        channels=target.channels,
        row_pitch=line,
        pitch=target.pitch,
        first=first,
        stride=target.stride,
        k=program.k,
        exact=program.selection is Selection.EXACT,
        zero=program.survivor_zero,
    )
    function = builder.function(emit_select, path, selection)
    e.b.call(function, [written, samples])
