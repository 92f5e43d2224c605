"""A layer of one position, computed from the columns of its winners: what is packed, the call."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.cpu.columns import SCANNED, ColumnSpec, emit_columns
from trencadis_host.devices.cpu.costs import Costs
from trencadis_host.devices.cpu.finish import Builder
from trencadis_host.devices.cpu.keys import KeyForm
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.programs import LayerProgram
from trencadis_host.devices.cpu.units import Runs

__all__ = ["ColumnLayer", "column_layer"]

MAX_TABLE_BYTES = 1 << 28
"""Weights of all columns, zeros included."""

MAX_PADDING = 2
"""Bytes that are looked at for every byte of the map, at most, where maps are not small."""

SMALL_MAP = 1024
"""Bytes of a map."""


@dataclass(frozen=True)
class ColumnLayer:
    """A layer that may be computed from columns, one sample at a time.

    Attributes
    ----------
    program : LayerProgram
        The layer.
    runs : Runs
        Bytes of the map that it reads.
    winners : int
        Values other than zero that are expected in the map.
    lanes : int
        Kernels of a block.
    """

    program: LayerProgram
    runs: Runs
    winners: int
    lanes: int

    @property
    def blocks(self) -> int:
        """Blocks of kernels."""
        return -(-len(self.program.weights) // self.lanes)

    def time(self, costs: Costs) -> float:
        """Time of a sample, in those of a sparse unit."""
        return (self.winners + 1) // 2 * self.blocks * costs.column

    def write(
        self,
        builder: Builder,
        path: Path,
        constants: npt.NDArray[np.uint8],
        keys: KeyForm,
    ) -> None:
        """Write the call.

        Parameters
        ----------
        builder : Builder
            What it is written into.
        path : Path
            What is compiled for.
        constants : uint8 array, shape (blocks, bytes)
            Of blocks of kernels.
        keys : KeyForm
            Their form.
        """
        e, program = builder.e, self.program
        source, target = program.source, program.target
        chunks = -(-self.runs.lengths // SCANNED)
        ends = np.cumsum(chunks) * SCANNED
        weights = program.weights
        table = np.zeros((int(ends[-1]), self.blocks * self.lanes), np.int8)
        columns = (ends - chunks * SCANNED)[self.runs.run] + self.runs.byte
        table[columns.ravel(), : len(weights)] = weights.reshape(len(weights), -1).T
        spec = ColumnSpec(
            runs=tuple(zip(self.runs.starts.tolist(), chunks.tolist(), strict=True)),
            zero=source.zero,
            row_bytes=table.shape[1],
            together=min(self.blocks, path.accumulators),
            blocks=self.blocks,
            keys=keys,
        )
        places, values = (
            e.at(e.arguments[1], builder.reserve((len(table) + 2) * size)) for size in (4, 2)
        )
        first = int(program.origins[0, 0]) * source.pitch
        read = e.at(builder.map(source), first)
        written = e.at(builder.map(target), target.first * target.pitch)
        addresses = np.array([builder.keep(table), builder.keep(constants)], np.int64)
        function = builder.function(emit_columns, path, spec)
        e.b.call(function, [builder.address(addresses), read, written, places, values])


def column_layer(program: LayerProgram, path: Path, winners: int | None) -> ColumnLayer | None:
    """The layer by columns; None where that is not possible, or the zeros are not known.

    Parameters
    ----------
    program : LayerProgram
        The layer.
    path : Path
        What is compiled for.
    winners : int or None
        Values other than zero that are expected in the map that it reads.
    """
    if winners is None or program.origins.size != 1 or len(program.steps) != 1:
        return None
    if len(np.unique(program.offsets)) != len(program.offsets):
        return None
    source = program.source
    runs = Runs.of(program.offsets, source.pitch, source.channels)
    looked = int((-(-runs.lengths // SCANNED)).sum()) * SCANNED
    layer = ColumnLayer(program, runs, winners, path.lanes)
    if looked > MAX_PADDING * max(SMALL_MAP, program.offsets.size * source.channels):
        return None
    return layer if looked * layer.blocks * path.lanes <= MAX_TABLE_BYTES else None
