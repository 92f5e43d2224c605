"""A layer's dot products by tiles: how its windows are covered, what is packed, and the calls."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.cpu.costs import Costs
from trencadis_host.devices.cpu.finish import Builder
from trencadis_host.devices.cpu.keys import KeyForm
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.tile_dot import TileDotSpec, emit_tile_dot, tile_configuration
from trencadis_host.devices.cpu.tile_units import CHUNK, ROWS, TILE_BYTES, Cover, cover, pack_tiles
from trencadis_host.devices.cpu.tiles import starts
from trencadis_host.devices.cpu.units import Runs

__all__ = ["Band", "TileLayer", "Windows", "choose_band"]

Array = npt.NDArray[np.int64]

MAX_TILES = 6
"""Tiles of the map per band: their sums stay in the first-level cache."""

MAX_COLUMNS = 64
"""Outputs of a row of a band."""

NEAR_BYTES = 1 << 15
"""Tiles of weights that the first-level cache keeps."""

TOGETHER = 2
"""Blocks of kernels whose tiles share the tiles of the map."""


@dataclass(frozen=True)
class Windows:
    """Beginnings of windows, in bytes.

    Attributes
    ----------
    origins : int64 array, shape (rows, columns)
        Origins of the first step of every output.
    steps : tuple of int
        Distances from there to those over which the maximum is taken.
    stride : int
        Stride from sample to sample.
    """

    origins: Array
    steps: tuple[int, ...]
    stride: int


@dataclass(frozen=True)
class Band:
    """Outputs that are computed together.

    Attributes
    ----------
    samples, rows, columns : int
        Samples, rows and columns of a band.
    cover : Cover
        The tiles that have its windows, those of an output one after the other.
    """

    samples: int
    rows: int
    columns: int
    cover: Cover


def choose_band(windows: Windows, block: int) -> Band:
    """The band that computes a map with the fewest tiles.

    Parameters
    ----------
    windows : Windows
        Those of the map.
    block : int
        Samples that are computed together.
    """
    rows, columns = windows.origins.shape
    if rows * columns == 1 and len(windows.steps) == 1:
        samples = min(block, ROWS)
        points = np.arange(samples) * windows.stride
        return Band(samples, 1, 1, cover(points, {windows.stride}))
    pieces = -(-columns // MAX_COLUMNS)
    across = -(-columns // pieces)
    best, least = None, 0
    for down in range(1, rows + 1):
        band = _band(windows, down, across)
        tiles = len(band.cover.starts)
        if best is not None and tiles > MAX_TILES:
            break
        computed = tiles * -(-rows // down)
        if best is None or computed < least:
            best, least = band, computed
    assert best is not None
    return best


def _band(windows: Windows, rows: int, columns: int) -> Band:
    part = windows.origins[:rows, :columns]
    points = (part.ravel()[:, None] + np.array(windows.steps)).ravel() - part[0, 0]
    distances = np.unique(np.concatenate([np.diff(np.unique(points)), np.diff(part[0])]))
    units = {int(distance) for distance in distances[:3] if distance > 0} or {windows.stride}
    return Band(1, rows, columns, cover(points, units))


@dataclass(frozen=True)
class TileLayer:
    """A layer that may be computed by tiles.

    Attributes
    ----------
    weights : int8 array, shape (outputs, window positions, channels)
        The kernels.
    lists : list of Runs
        Where their bytes are; see `pack_tiles`.
    windows : Windows
        Windows of the map that is read.
    targets : int64 array, shape (rows, columns)
        Where outputs are written, in bytes.
    out_stride : int
        Bytes from sample to sample in the map that is written.
    band : Band
        Outputs that are computed together.
    """

    weights: npt.NDArray[np.int8]
    lists: list[Runs]
    windows: Windows
    targets: Array
    out_stride: int
    band: Band

    @property
    def products(self) -> float:
        """Products of tiles per sample, and what takes as long as one.

        That is: to store a tile of sums, and to load a tile of weights that meets a single tile of
        the map, unless the first-level cache has it.
        """
        band = self.band
        blocks = -(-len(self.weights) // ROWS)
        chunks = int((-(-self.lists[0].lengths // CHUNK)).sum())
        rows, columns = self.targets.shape
        bands = -(-rows // band.rows) * -(-columns // band.columns)
        streams, tiles = blocks * len(self.lists), len(band.cover.starts)
        loaded = tiles == 1 and streams * chunks * TILE_BYTES > NEAR_BYTES
        return streams * tiles * (chunks * (2 if loaded else 1) + 1) * bands / band.samples

    def time(self, costs: Costs) -> float:
        """Time per window and sample, in those of a sparse unit."""
        windows = self.targets.size * len(self.windows.steps) * len(self.lists)
        return self.products * costs.tile / windows

    def least_samples(self, units: float, costs: Costs) -> int:
        """Samples from which tiles take less time than so many units for every window."""
        if self.band.samples == 1:
            return 1
        return max(1, round(self.time(costs) * self.band.samples / max(units, 1e-9)))

    def write(
        self,
        builder: Builder,
        path: Path,
        maps: tuple[Any, Any],
        constants: npt.NDArray[np.uint8],
        keys: KeyForm,
    ) -> None:
        """Write the calls.

        Parameters
        ----------
        builder : Builder
            What they are written into.
        path : Path
            What is compiled for.
        maps : (llvmlite value, llvmlite value)
            Addresses of the maps read and written, of the first sample.
        constants : uint8 array, shape (blocks, bytes)
            Constants of blocks of sixteen kernels.
        keys : KeyForm
            Their form.
        """
        tiles, offsets = pack_tiles(self.weights, self.lists)
        together = TOGETHER if len(self.lists) == 1 else 1
        whole = len(tiles) // together * together
        builder.overrun(ROWS * self.band.cover.unit)
        for first, last, blocks in ((0, whole, together), (whole, len(tiles), 1)):
            if first == last:
                continue
            spec = self._spec(blocks, keys)
            groups = tiles[first:last].reshape(-1, blocks, *tiles.shape[1:])
            groups = groups.transpose(0, 3, 1, 2, 4)
            places, bands = self._places(spec), self._bands()
            parameters = [
                builder.keep(tile_configuration()),
                builder.keep(groups),
                builder.keep(offsets),
                len(offsets),
                builder.keep(constants[first:last]),
                builder.keep(bands),
                len(bands),
                builder.keep(places),
                len(places),
                len(groups),
            ]
            e, (read, written) = builder.e, maps
            aim = e.at(written, first * ROWS * (4 if keys.raw else 1))
            function = builder.function(emit_tile_dot, path, spec)
            table = builder.address(np.array(parameters, np.int64))
            e.b.call(function, [table, read, aim, e.arguments[2]])

    def _spec(self, blocks: int, keys: KeyForm) -> TileDotSpec:
        """Kernel that is compiled for so many blocks of kernels at a time."""
        band = self.band
        return TileDotSpec(
            reads=tuple(band.cover.starts.tolist()),
            unit=band.cover.unit,
            blocks=blocks,
            lists=len(self.lists),
            steps=len(self.windows.steps),
            samples=band.samples,
            in_stride=self.windows.stride,
            out_stride=self.out_stride,
            keys=keys,
        )

    def _places(self, spec: TileDotSpec) -> npt.NDArray[np.int32]:
        """Places of each output of a band, and of its sums; in bytes."""
        band = self.band
        tile, row = np.divmod(band.cover.places, ROWS)
        sums = tile * spec.streams * TILE_BYTES + row * (TILE_BYTES // ROWS)
        targets = self.targets[: band.rows, : band.columns] - self.targets[0, 0]
        aims = (np.arange(band.samples)[:, None] * self.out_stride + targets.ravel()).ravel()
        places = np.concatenate([aims[:, None], sums.reshape(len(aims), -1)], axis=1)
        return places.astype(np.int32)

    def _bands(self) -> npt.NDArray[np.int32]:
        """Beginnings of bands in the maps read and written, in bytes; the last may overlap."""
        rows = starts(self.targets.shape[0], self.band.rows)[:, None]
        columns = starts(self.targets.shape[1], self.band.columns)
        both = [self.windows.origins[rows, columns], self.targets[rows, columns]]
        return np.stack(both, axis=-1).reshape(-1, 2).astype(np.int32)
