"""The steps of one layer: gather, dot products, look-up, selection."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.cpu.column_layer import ColumnLayer, column_layer
from trencadis_host.devices.cpu.constants import requantise_constants
from trencadis_host.devices.cpu.costs import Costs
from trencadis_host.devices.cpu.dot import DotSpec, emit_dot
from trencadis_host.devices.cpu.emit import I64
from trencadis_host.devices.cpu.finish import Builder, distance, write_finish
from trencadis_host.devices.cpu.keys import KeyForm
from trencadis_host.devices.cpu.moves import PatchSpec, emit_patch
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.programs import LayerProgram
from trencadis_host.devices.cpu.sample_dot import SAMPLES
from trencadis_host.devices.cpu.sample_layer import SampleLayer, sample_layer
from trencadis_host.devices.cpu.tile_layer import TileLayer, Windows, choose_band
from trencadis_host.devices.cpu.tiles import Tiling, starts, tile_shape
from trencadis_host.devices.cpu.units import Runs, Units, merged_units, pack_dense, pack_sparse

__all__ = ["LayerChoice", "LayerWriter"]

PATCH_GAIN = 1.25
"""Windows of few bytes are gathered first if that saves this factor of units."""

ALIGNMENT = 64

MAX_SHARED = 4
"""Units of a list that are written out one after the other."""


@dataclass(frozen=True)
class LayerChoice:
    """Kernel that a layer took.

    Attributes
    ----------
    kernel : str
        `sparse`, `dense` or `tiles`.
    gathered : bool
        Windows are gathered first.
    units : int
        Units of all its kernels; with `tiles`, products of tiles per sample.
    nonzeros, weights : int
        Weights other than zero, and all.
    floats : int
        Kernels that requantise in float32.
    sample_lanes : bool
        Blocks of more than eight samples are computed with samples in lanes.
    tile_samples : int
        Samples of a block from which `tiles` computes it; fewer take units. 0 without tiles.
    winner_columns : bool
        A sample alone is computed from the columns of its winners.
    """

    kernel: str
    gathered: bool
    units: int
    nonzeros: int
    weights: int
    floats: int
    sample_lanes: bool
    tile_samples: int
    winner_columns: bool


@dataclass(frozen=True)
class _Form:
    """Computation of a layer's dot products; fields as in `DotSpec`."""

    steps: tuple[int, ...]
    lists: int
    dense: bool
    shared: int
    patch: PatchSpec | None
    keys: KeyForm
    tiles: "_Tiles | None"


@dataclass(frozen=True)
class _Tiles:
    """A layer by tiles, and its constants."""

    layer: TileLayer
    constants: npt.NDArray[np.uint8]
    least_samples: int


class LayerWriter:
    """Writes the steps of one layer."""

    def __init__(
        self, builder: Builder, program: LayerProgram, path: Path, block: int, costs: Costs
    ) -> None:
        self._builder, self._program, self._path, self._block = builder, program, path, block
        self._costs = costs
        self._samples = builder.e.arguments[2]

    def write(self, winners: int | None = None) -> LayerChoice:
        """Write all steps of the layer; what it took is returned.

        Parameters
        ----------
        winners : int, optional
            Values other than zero that the map it reads is expected to have.
        """
        program, builder = self._program, self._builder
        runs, steps, patches = self._windows()
        units, lists = self._best(runs), len(runs)
        constants, keys, floats = requantise_constants(program, self._path.lanes)
        arrays = [units.indices, units.weights, units.offsets, units.starts, constants]
        tables = [builder.keep(array) for array in arrays]
        shared = _shared(units, lists) if patches is not None else 0
        tiles = self._tiles(runs, steps, patches, units, constants)
        form = _Form(steps, lists, units.dense, shared, patches, keys, tiles)
        blocks = (len(units.starts) - 1) // lists
        turned = self._turned(units.count / lists)
        columns = self._columns(winners, units)

        def dots() -> None:
            self._dots(tables, blocks, form)

        def many() -> None:
            self._either(">", SAMPLES // 2, turned, constants, keys, dots)

        self._either("==", 1, columns, constants, keys, many)
        nonzeros = int(np.count_nonzero(program.weights))
        kind = "tiles" if tiles is not None else "dense" if units.dense else "sparse"
        write_finish(builder, program, self._path)
        return LayerChoice(
            kind,
            patches is not None,
            units.count if tiles is None else round(tiles.layer.products),
            nonzeros,
            program.weights.size,
            floats,
            turned is not None,
            0 if tiles is None else tiles.least_samples,
            columns is not None,
        )

    def _either(
        self,
        comparison: str,
        count: int,
        layer: SampleLayer | ColumnLayer | None,
        constants: npt.NDArray[np.uint8],
        keys: KeyForm,
        others: Callable[[], None],
    ) -> None:
        """Write a way for blocks of some samples, if there is one, and `others` for the rest."""
        if layer is None:
            others()
            return
        wanted = self._builder.e.b.icmp_signed(comparison, self._samples, I64(count))
        with self._builder.e.b.if_else(wanted) as (then, otherwise):
            with then:
                layer.write(self._builder, self._path, constants, keys)
            with otherwise:
                others()

    def _columns(self, winners: int | None, units: Units) -> ColumnLayer | None:
        """The layer by columns of winners, if a sample alone takes less time so."""
        found = column_layer(self._program, self._path, winners)
        taken = units.count * (self._costs.dense if units.dense else 1)
        return None if found is None or found.time(self._costs) >= taken else found

    def _tiles(
        self,
        runs: list[Runs],
        steps: tuple[int, ...],
        patch: PatchSpec | None,
        units: Units,
        constants: npt.NDArray[np.uint8],
    ) -> _Tiles | None:
        """The layer by tiles, if a whole block of samples takes less time so."""
        if not self._path.tiles or not self._distinct:
            return None
        source, target = self._program.source, self._program.target
        origins, stride = self._program.origins * source.pitch, source.stride
        if patch is not None:
            positions = np.arange(target.rows * target.columns)
            origins = positions.reshape(target.rows, target.columns) * patch.pitch
            stride = patch.out_stride
        windows = Windows(origins, steps, stride)
        rows, columns = np.arange(target.rows)[:, None], np.arange(target.columns)
        layer = TileLayer(
            weights=self._program.weights,
            lists=runs,
            windows=windows,
            targets=(target.first + rows * target.width + columns) * target.pitch,
            out_stride=target.stride,
            band=choose_band(windows, self._block),
        )
        taken = units.count / len(runs) * (self._costs.dense if units.dense else 1)
        if layer.time(self._costs) >= taken:
            return None
        return _Tiles(layer, constants, layer.least_samples(taken, self._costs))

    @property
    def _distinct(self) -> bool:
        """No two weights of a kernel meet the same byte, as in windows wider than a padded row."""
        offsets = self._program.offsets
        return len(np.unique(offsets)) == len(offsets)

    def _turned(self, units: float) -> SampleLayer | None:
        """The layer with samples in lanes, if that takes less time than units of every window."""
        turned = sample_layer(self._program, self._path, self._block)
        return None if turned is None or turned.time(self._costs) >= units else turned

    def _windows(self) -> tuple[list[Runs], tuple[int, ...], PatchSpec | None]:
        """Places of a window's bytes, for each list of units; steps; how windows are gathered."""
        program, path = self._program, self._path
        source = program.source
        direct = Runs.of(program.offsets, source.pitch, source.channels)
        window = path.window
        reach = (np.array(program.steps)[:, None] + program.offsets).ravel()
        gathered = Runs.of(np.unique(reach), source.pitch, source.channels)
        total = int(gathered.lengths.sum())
        apart = direct.windows(window)
        together = -(-total // window)
        if apart > PATCH_GAIN * together:
            return self._gathered(gathered)
        steps = tuple(step * source.pitch for step in program.steps)
        return [direct], steps, None

    def _best(self, lists: list[Runs]) -> Units:
        """The units that take the least time: sparse ones, or dense ones."""
        weights, path = self._program.weights, self._path
        sparse = merged_units([pack_sparse(weights, runs, path) for runs in lists])
        if not path.exact or not self._distinct:
            return sparse
        dense = merged_units([pack_dense(weights, runs, path.lanes) for runs in lists])
        return dense if dense.count * self._costs.dense < sparse.count else sparse

    def _gathered(self, union: Runs) -> tuple[list[Runs], tuple[int, ...], PatchSpec]:
        """Windows as patches: every step of a pooling window has its own units."""
        program = self._program
        source, target = program.source, program.target
        ends = np.cumsum(union.lengths)
        patch_starts = ends - union.lengths
        total = int(ends[-1])
        pitch = -(-total // self._path.window) * self._path.window
        every = np.unique((np.array(program.steps)[:, None] + program.offsets).ravel())
        parts = []
        for step in program.steps:
            at = np.searchsorted(every, program.offsets + step)
            byte = patch_starts[union.run[at]] + union.byte[at]
            runs = Runs(np.zeros_like(byte), byte, np.zeros(1, np.int64), np.array([total]))
            parts.append(runs)
        spec = PatchSpec(
            rows=target.rows,
            columns=target.columns,
            row_step=distance(program.origins, 0) * source.pitch,
            column_step=distance(program.origins, 1) * source.pitch,
            first=(int(program.origins[0, 0])) * source.pitch,
            starts=tuple(union.starts.tolist()),
            lengths=tuple(union.lengths.tolist()),
            pitch=pitch,
            in_stride=source.stride,
            out_stride=-(-(target.rows * target.columns * pitch) // ALIGNMENT) * ALIGNMENT,
        )
        return parts, (0,), spec

    def _dots(
        self,
        tables: list[int],
        blocks: int,
        form: _Form,
    ) -> None:
        """Call the dot products, after windows are gathered if they are."""
        builder = self._builder
        source, target = self._program.source, self._program.target
        e = builder.e
        read, patch = builder.map(source), form.patch
        if patch is not None:
            place = builder.reserve(patch.out_stride * self._block)
            patches = e.at(e.arguments[1], place)
            e.b.call(builder.function(emit_patch, patch), [read, patches, self._samples])
            read = patches
        written, tiles = builder.map(target), form.tiles
        if tiles is None:
            self._units(tables, blocks, form, read, written)
            return
        maps = read, written
        if tiles.least_samples == 1:
            tiles.layer.write(builder, self._path, maps, tiles.constants, form.keys)
            return
        many = e.b.icmp_signed(">=", self._samples, I64(tiles.least_samples))
        with e.b.if_else(many) as (then, otherwise):
            with then:
                tiles.layer.write(builder, self._path, maps, tiles.constants, form.keys)
            with otherwise:
                self._units(tables, blocks, form, read, written)

    def _units(self, tables: list[int], blocks: int, form: _Form, read: Any, written: Any) -> None:
        """Call the dot products of units."""
        builder, target = self._builder, self._program.target
        e = builder.e
        registers = self._path.accumulators
        if form.lists > 1 and not form.shared:
            registers = max(1, registers * 6 // 10)  # the largest so far take some
        sums = form.lists if form.shared else len(form.steps)
        shape = tile_shape(target.rows, target.columns, sums, registers, self._block)
        # One position of a map more than one sample is a tile of few sums if there is one sample.
        shapes = [shape] if shape.samples == 1 else [shape, replace(shape, samples=1)]
        calls = [self._dot(tables, blocks, tiling, form) for tiling in shapes]
        if len(calls) == 1:
            e.b.call(calls[0][0], [calls[0][1], read, written, self._samples])
            return
        many = e.b.icmp_signed(">=", self._samples, I64(max(2, shape.samples // 2)))
        with e.b.if_else(many) as branches:
            for branch, (function, parameters) in zip(branches, calls, strict=True):
                with branch:
                    e.b.call(function, [parameters, read, written, self._samples])

    def _dot(
        self,
        tables: list[int],
        blocks: int,
        tiling: Tiling,
        form: _Form,
    ) -> tuple[Any, Any]:
        """The function for a tiling, and its parameters."""
        builder, program, patch = self._builder, self._program, form.patch
        source, target = program.source, program.target
        origins: npt.NDArray[Any] = program.origins
        rows_of, columns_of = program.target.rows, program.target.columns
        row, column = distance(program.origins, 0), distance(program.origins, 1)
        pitch, stride = source.pitch, source.stride
        if patch is not None:
            origins = np.arange(rows_of * columns_of).reshape(rows_of, columns_of)
            row, column = columns_of, 1
            pitch, stride = patch.pitch, patch.out_stride
        size = target.pitch
        outputs = tuple(
            (
                s * stride + (r * row + c * column) * pitch,
                s * target.stride + (r * target.width + c) * size,
            )
            for s in range(tiling.samples)
            for r in range(tiling.rows)
            for c in range(tiling.columns)
        )
        spec = DotSpec(
            outputs=outputs,
            steps=form.steps,
            lists=form.lists,
            dense=form.dense,
            shared=form.shared,
            samples=tiling.samples,
            in_stride=stride,
            out_stride=target.stride,
            keys=form.keys,
        )
        rows = starts(rows_of, tiling.rows)[:, None]
        columns = starts(columns_of, tiling.columns)
        entries = np.stack(
            [
                origins[rows, columns] * pitch,
                (target.first + rows * target.width + columns) * size,
            ],
            axis=-1,
        ).astype(np.int32)
        parameters = np.array([*tables, builder.keep(entries), entries.size // 2, blocks], np.int64)
        function = builder.function(emit_dot, self._path, spec)
        return function, builder.address(parameters)


def _shared(units: Units, lists: int) -> int:
    """Units of every list, if windows and weights are shared; see `DotSpec.shared`."""
    counts = np.diff(units.starts)
    if not len(counts) or not 0 < counts[0] <= MAX_SHARED or (counts != counts[0]).any():
        return 0
    weights = units.weights.reshape(-1, lists, counts[0], units.weights.shape[1])
    if units.offsets.any() or (weights != weights[:, :1]).any():
        return 0
    return int(counts[0])
