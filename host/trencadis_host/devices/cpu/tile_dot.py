"""Dense dot products by tiles of sixteen windows and sixteen kernels: AMX.

Tiles of sums are stored as they are; the maximum over pooling windows is taken, and results are
requantised, from there. The tiles' names are numbers in the instructions: sums come first, then
those of weights, then those of the map.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.cpu.emit import I8, I32, I64, POINTER, VOID, Emitter, vector
from trencadis_host.devices.cpu.keys import Constants, KeyForm, KeyWriter, RequantiseLayout
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.tile_units import CHUNK, ROWS, TILE_BYTES

__all__ = ["TileDotSpec", "emit_tile_dot", "tile_configuration"]

TILES = 8
"""Tile registers."""

MAX_SUMS = 4
"""Tiles of sums at a time: the others hold the weights and maps of the products under way."""


def tile_configuration() -> npt.NDArray[np.uint8]:
    """Operand of `ldtilecfg`: every tile has all its rows, of 64 bytes each."""
    memory = np.zeros(64, np.uint8)
    memory[0] = 1  # the only palette with tiles
    memory[16 : 16 + 2 * TILES].view(np.uint16)[:] = CHUNK
    memory[48 : 48 + TILES] = ROWS
    return memory


@dataclass(frozen=True)
class TileDotSpec:
    """Facts that are fixed when the kernel is compiled.

    Attributes
    ----------
    reads : tuple of int
        Bytes from a band's first byte to the first window of each tile of the map.
    unit : int
        Bytes from window to window within a tile.
    blocks : int
        Blocks of sixteen kernels that are computed together.
    lists : int
        Tiles of weights of a block that meet the same tile of the map; the maximum is taken over
        their sums.
    steps : int
        Sums of an output over which the maximum is taken.
    samples : int
        Samples of a band.
    in_stride, out_stride : int
        Bytes from sample to sample.
    keys : KeyForm
        What is written.
    """

    reads: tuple[int, ...]
    unit: int
    blocks: int
    lists: int
    steps: int
    samples: int
    in_stride: int
    out_stride: int
    keys: KeyForm

    @property
    def streams(self) -> int:
        """Tiles of weights of each chunk."""
        return self.blocks * self.lists

    @property
    def sum_tiles(self) -> int:
        """Tiles of sums of a band."""
        return len(self.reads) * self.streams


PARAMETERS = (
    "configuration",
    "weights",
    "offsets",
    "chunks",
    "constants",
    "bands",
    "band_count",
    "places",
    "place_count",
    "groups",
)
"""Contents of the kernel's table, 64 bits each: addresses and counts."""


def emit_tile_dot(module: Any, name: str, path: Path, spec: TileDotSpec) -> Any:
    """Write the kernel: `name(parameters, map read, map written, samples)`."""
    return _TileDot(module, name, path, spec).write()


class _TileDot:
    def __init__(self, module: Any, name: str, path: Path, spec: TileDotSpec) -> None:
        self.e = Emitter(module, name, 4)
        self.path, self.spec = path, spec
        self.keys = KeyWriter(self.e, path, spec.keys)
        self.table = {
            field: self.e.load(I64, self.e.at(self.e.arguments[0], 8 * i), 8)
            for i, field in enumerate(PARAMETERS)
        }
        self.sums = self.e.scratch(I8, spec.sum_tiles * TILE_BYTES)

    def write(self) -> Any:
        """The whole function."""
        e, spec = self.e, self.spec
        _, source, target, samples = e.arguments
        size = spec.blocks * ROWS * (4 if spec.keys.raw else 1)
        constants_size = spec.blocks * RequantiseLayout(ROWS).size
        last = e.largest(e.b.sub(samples, I64(spec.samples)), I64(0))
        group_bytes = e.b.mul(self.table["chunks"], I64(spec.streams * TILE_BYTES))
        e.call("llvm.x86.ldtilecfg", VOID, self._pointer(self.table["configuration"]))
        with e.loop(I64(0), self.table["groups"]) as group:
            weights = e.b.add(self.table["weights"], e.b.mul(group, group_bytes))
            constants = e.scaled(self.table["constants"], group, constants_size)
            column = e.scaled(target, group, size)
            with e.loop(I64(0), samples, spec.samples) as first:
                sample = e.smallest(first, last)
                read = e.scaled(source, sample, spec.in_stride)
                written = e.scaled(column, sample, spec.out_stride)
                with e.loop(I64(0), self.table["band_count"]) as band:
                    entry = e.scaled(self.table["bands"], band, 8)
                    at = e.b.add(read, e.wide(e.load(I32, entry, 4)))
                    to = e.b.add(written, e.wide(e.load(I32, e.at(entry, 4), 4)))
                    for tiles, streams in _products(len(spec.reads), spec.streams):
                        self._multiply(at, weights, tiles, streams)
                    self._finish(to, constants)
        e.call("llvm.x86.tilerelease", VOID)
        return e.finish()

    def _pointer(self, address: Any) -> Any:
        return self.e.b.inttoptr(address, POINTER)

    def _multiply(self, at: Any, weights: Any, tiles: range, streams: range) -> None:
        """Sums of some tiles of the map with some tiles of weights, over all chunks."""
        e, spec = self.e, self.spec
        count = len(tiles) * len(streams)
        for number in range(count):
            e.call("llvm.x86.tilezero", VOID, I8(number))
        # What is left after the sums: one each for the streams, as far as they go, and for a map.
        held = min(len(streams), TILES - count - 1)
        maps = TILES - count - held
        with e.loop(I64(0), self.table["chunks"]) as chunk:
            place = e.scaled(weights, chunk, spec.streams * TILE_BYTES)
            offset = e.wide(e.load(I32, e.scaled(self.table["offsets"], chunk, 4), 4))
            window = e.b.add(at, offset)
            for i, tile in enumerate(tiles):
                own = count + held + i % maps
                self._load(own, e.at(window, spec.reads[tile]), spec.unit)
                for j, stream in enumerate(streams):
                    theirs = count + j % held
                    if i == 0 or len(streams) > held:
                        self._load(theirs, e.at(place, stream * TILE_BYTES), CHUNK)
                    e.call("llvm.x86.tdpbusd", VOID, I8(i * len(streams) + j), I8(own), I8(theirs))
        for i, tile in enumerate(tiles):
            for j, stream in enumerate(streams):
                to = self._pointer(e.at(self.sums, (tile * spec.streams + stream) * TILE_BYTES))
                number = I8(i * len(streams) + j)
                e.call("llvm.x86.tilestored64", VOID, number, to, I64(CHUNK))

    def _load(self, number: int, address: Any, stride: int) -> None:
        pointer = self._pointer(address)
        self.e.call("llvm.x86.tileloadd64", VOID, I8(number), pointer, I64(stride))

    def _finish(self, to: Any, constants: Any) -> None:
        """Write all outputs of a band from its tiles of sums."""
        e, spec = self.e, self.spec
        kind = vector(I32, ROWS)
        size = 4 * (1 + spec.steps)
        layout = RequantiseLayout(ROWS)
        with e.loop(I64(0), self.table["place_count"]) as number:
            entry = e.scaled(self.table["places"], number, size)
            aim = e.b.add(to, e.wide(e.load(I32, entry, 4)))
            rows = [
                e.b.add(self.sums, e.wide(e.load(I32, e.at(entry, 4 + 4 * step), 4)))
                for step in range(spec.steps)
            ]
            for block in range(spec.blocks):
                first = block * spec.lists * TILE_BYTES
                sums = [
                    e.load(kind, e.at(row, first + part * TILE_BYTES), CHUNK)
                    for row in rows
                    for part in range(spec.lists)
                ]
                own = Constants(e.at(constants, block * layout.size))
                written = e.at(aim, block * ROWS * (4 if spec.keys.raw else 1))
                self.keys.write(
                    [self.keys.largest(sums, own)],
                    own,
                    lambda values, written=written: self._store(values[0], written),
                )

    def _store(self, value: Any, to: Any) -> None:
        raw = self.spec.keys.raw
        self.e.store(value if raw else self.e.b.trunc(value, vector(I8, ROWS)), to)


def _products(tiles: int, streams: int) -> Iterator[tuple[range, range]]:
    """Tiles of the map and of weights whose sums are computed together."""
    across = min(streams, 2 if tiles > 1 and streams == 2 else MAX_SUMS)
    down = max(1, MAX_SUMS // across)
    for first in range(0, tiles, down):
        for stream in range(0, streams, across):
            yield (
                range(first, min(first + down, tiles)),
                range(stream, min(stream + across, streams)),
            )
