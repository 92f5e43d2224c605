"""A layer's dot products with samples in lanes: what is packed, and the calls."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.cpu.costs import Costs
from trencadis_host.devices.cpu.finish import Builder, distance
from trencadis_host.devices.cpu.groups import PAIR_BYTES, Groups, pack_groups
from trencadis_host.devices.cpu.keys import KeyForm
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.programs import LayerProgram
from trencadis_host.devices.cpu.sample_dot import (
    SAMPLES,
    SampleDotSpec,
    TurnSpec,
    emit_sample_dot,
    emit_turn,
)
from trencadis_host.devices.cpu.tiles import Tiling, starts, tile_shape

__all__ = ["SampleLayer", "sample_layer"]

TOGETHER = 4
"""Windows whose sums, two vectors each, fit the registers beside the weights."""


@dataclass(frozen=True)
class SampleLayer:
    """A layer that may be computed with samples in lanes.

    Attributes
    ----------
    program : LayerProgram
        The layer.
    groups : Groups
        Its weights.
    per_byte : int
        Bytes of turned maps for every byte of a map.
    """

    program: LayerProgram
    groups: Groups
    per_byte: int

    def time(self, costs: Costs) -> float:
        """Time per window and sample, in those of a sparse unit."""
        program = self.program
        windows = _tile(program).outputs * len(program.steps)
        return self.groups.count * costs.group + _padded(program) * costs.kernel / windows

    def write(
        self,
        builder: Builder,
        path: Path,
        constants: npt.NDArray[np.uint8],
        keys: KeyForm,
    ) -> None:
        """Write the calls: turn the map round, and compute.

        Parameters
        ----------
        builder : Builder
            What they are written into.
        path : Path
            What is compiled for.
        constants : uint8 array, shape (blocks, bytes)
            Constants of blocks of `path.lanes` kernels.
        keys : KeyForm
            Their form.
        """
        e, program = builder.e, self.program
        source, target = program.source, program.target
        size = -(-source.positions * source.pitch // SAMPLES) * SAMPLES
        turned = e.at(e.arguments[1], builder.reserve(size * self.per_byte))
        read, written = builder.map(source), builder.map(target)
        turn = TurnSpec(size, source.stride, self.per_byte == PAIR_BYTES)
        e.b.call(builder.function(emit_turn, turn), [read, turned])
        kernels = _padded(program)
        tile = _tile(program)
        row, column = distance(program.origins, 0), distance(program.origins, 1)
        spec = SampleDotSpec(
            outputs=tuple(
                (
                    (r * row + c * column) * source.pitch * self.per_byte,
                    (r * target.width + c) * target.pitch,
                )
                for r in range(tile.rows)
                for c in range(tile.columns)
            ),
            steps=tuple(step * source.pitch * self.per_byte for step in program.steps),
            together=TOGETHER,
            chunks=self.groups.chunks,
            out_stride=target.stride,
            keys=keys,
        )
        rows = starts(target.rows, tile.rows)[:, None]
        columns = starts(target.columns, tile.columns)
        entries = np.stack(
            [
                program.origins[rows, columns] * source.pitch * self.per_byte,
                (target.first + rows * target.width + columns) * target.pitch,
            ],
            axis=-1,
        ).astype(np.int32)
        missing = kernels // path.lanes - len(constants)
        whole = np.concatenate([constants, np.zeros((missing, constants.shape[1]), np.uint8)])
        tables = [self.groups.table, self.groups.starts, whole, entries]
        parameters = [*(builder.keep(table) for table in tables), entries.size // 2, kernels]
        function = builder.function(emit_sample_dot, path, spec)
        table = builder.address(np.array(parameters, np.int64))
        e.b.call(function, [table, turned, written])


def sample_layer(program: LayerProgram, path: Path, block: int) -> SampleLayer | None:
    """The layer with samples in lanes; None where that is not possible.

    Parameters
    ----------
    program : LayerProgram
        The layer.
    path : Path
        What is compiled for.
    block : int
        Samples that are computed together.
    """
    if not path.sample_lanes or program.raw or block != SAMPLES:
        return None
    places: npt.NDArray[Any] = program.offsets[:, None] * program.source.pitch
    bytes_of = places + np.arange(program.source.channels)
    overlapping = program.source.pitch % 2 == 1
    groups = pack_groups(program.weights, bytes_of, _padded(program), overlapping=overlapping)
    return SampleLayer(program, groups, PAIR_BYTES if overlapping else PAIR_BYTES // 2)


def _padded(program: LayerProgram) -> int:
    """Kernels of the tables."""
    return -(-len(program.weights) // SAMPLES) * SAMPLES


def _tile(program: LayerProgram) -> Tiling:
    """Outputs that are computed together."""
    target = program.target
    return tile_shape(target.rows, target.columns, len(program.steps), TOGETHER, 1)
