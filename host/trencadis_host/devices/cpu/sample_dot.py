"""Sparse dot products whose lanes are samples, for processors without exact dot products of bytes.

The maps of sixteen samples are turned round first: bytes of two places, those of all samples in
turn, become one vector. Each such vector is multiplied with two weights of a kernel and added to
16 bits per sample; up to four of these are added (see `groups`), and the sums of such groups are
kept as two halves of 16 bits: their low bits wrap around, their high bytes are added apart, and
both together are the exact sum. No slot of a vector is empty, however few weights there are.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from trencadis_host.devices.cpu.emit import I8, I16, I32, I64, Emitter, vector
from trencadis_host.devices.cpu.groups import GROUP, PAIR_BYTES
from trencadis_host.devices.cpu.keys import Constants, KeyForm, KeyWriter, RequantiseLayout
from trencadis_host.devices.cpu.paths import Path

__all__ = ["SAMPLES", "SampleDotSpec", "TurnSpec", "emit_sample_dot", "emit_turn"]

SAMPLES = 16
"""Samples that are computed together, and kernels whose keys are turned back together."""

BYTES, PAIRS = vector(I8, SAMPLES), vector(I8, 2 * SAMPLES)
SHORTS, LONGS = vector(I16, SAMPLES), vector(I32, SAMPLES)


@dataclass(frozen=True)
class TurnSpec:
    """Maps of sixteen samples, turned round: `name(maps, turned)`.

    Attributes
    ----------
    size : int
        Bytes of a map, a multiple of 16.
    stride : int
        Bytes from sample to sample.
    overlapping : bool
        Every byte and the next are a vector, else every even one and the next.
    """

    size: int
    stride: int
    overlapping: bool


def emit_turn(module: Any, name: str, spec: TurnSpec) -> Any:
    """Write the kernel that turns maps round."""
    e = Emitter(module, name, 2)
    source, target = e.arguments
    per_byte = PAIR_BYTES if spec.overlapping else PAIR_BYTES // 2
    with e.loop(I64(0), I64(spec.size), SAMPLES) as place:
        read, written = e.b.add(source, place), e.scaled(target, place, per_byte)
        first = _columns(e, read, spec.stride)
        if spec.overlapping:
            pairs = list(zip(first, _columns(e, e.at(read, 1), spec.stride), strict=True))
        else:
            pairs = list(zip(first[::2], first[1::2], strict=True))
        for i, (low, high) in enumerate(pairs):
            for j, part in enumerate(_interleaved(e, low, high)):
                e.store(part, e.at(written, i * PAIR_BYTES + j * SAMPLES), SAMPLES)
    return e.finish()


def _columns(e: Emitter, read: Any, stride: int) -> list[Any]:
    """Sixteen bytes of every sample, one vector per byte."""
    return _turned(e, [e.load(BYTES, e.at(read, i * stride)) for i in range(SAMPLES)])


def _turned(e: Emitter, rows: list[Any]) -> list[Any]:
    """A square of bytes, rows as columns."""
    half = SAMPLES // 2
    for _ in range(half.bit_length()):
        pairs = [(rows[i], rows[i + half]) for i in range(half)]
        rows = [part for a, b in pairs for part in _interleaved(e, a, b)]
    return rows


def _interleaved(e: Emitter, first: Any, second: Any) -> list[Any]:
    """The bytes of two vectors in turn, as two vectors."""
    kind = vector(I32, SAMPLES)
    orders = (
        [start + i // 2 + (i % 2) * SAMPLES for i in range(SAMPLES)] for start in (0, SAMPLES // 2)
    )
    return [e.b.shuffle_vector(first, second, ir.Constant(kind, order)) for order in orders]


@dataclass(frozen=True)
class SampleDotSpec:
    """Facts that are fixed when the kernel is compiled.

    Attributes
    ----------
    outputs : tuple of (int, int)
        For each output of a tile, bytes from the tile's first byte, in the turned map that is read
        and in the map that is written.
    steps : tuple of int
        Bytes of the turned map from an output's window to those over which the maximum is taken.
    together : int
        Windows whose sums are computed together.
    chunks : int
        Chunks of a kernel; see `Groups`.
    out_stride : int
        Bytes from sample to sample in the map that is written.
    keys : KeyForm
        What is written; not sums.
    """

    outputs: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    together: int
    chunks: int
    out_stride: int
    keys: KeyForm


PARAMETERS = ("table", "starts", "constants", "tiles", "tile_count", "kernels")
"""Contents of the kernel's table, 64 bits each: addresses and counts."""


def emit_sample_dot(module: Any, name: str, path: Path, spec: SampleDotSpec) -> Any:
    """Write the kernel: `name(parameters, turned map, maps written)`.

    It computes all sixteen samples, and as many kernels as are a multiple of sixteen.
    """
    return _SampleDot(module, name, path, spec).write()


class _SampleDot:
    def __init__(self, module: Any, name: str, path: Path, spec: SampleDotSpec) -> None:
        self.e = Emitter(module, name, 3)
        self.path, self.spec = path, spec
        self.keys = KeyWriter(self.e, path, spec.keys)
        self.table = {
            field: self.e.load(I64, self.e.at(self.e.arguments[0], 8 * i), 8)
            for i, field in enumerate(PARAMETERS)
        }
        self.found = self.e.scratch(I8, len(spec.outputs) * SAMPLES * SAMPLES)

    def write(self) -> Any:
        """The whole function."""
        e, spec = self.e, self.spec
        _, source, target = e.arguments
        with e.loop(I64(0), self.table["tile_count"]) as tile:
            entry = e.scaled(self.table["tiles"], tile, 8)
            at = e.b.add(source, e.wide(e.load(I32, entry, 4)))
            to = e.b.add(target, e.wide(e.load(I32, e.at(entry, 4), 4)))
            with e.loop(I64(0), self.table["kernels"], SAMPLES) as first:
                with e.loop(I64(0), I64(SAMPLES)) as kernel:
                    place = e.scaled(self.found, kernel, SAMPLES)
                    self._kernel(at, e.b.add(first, kernel), place)
                for i, (_, written) in enumerate(spec.outputs):
                    place = e.at(self.found, i * SAMPLES * SAMPLES)
                    aim = e.at(e.b.add(to, first), written)
                    for sample, row in enumerate(_columns(e, place, SAMPLES)):
                        e.store(row, e.at(aim, sample * spec.out_stride))
        return e.finish()

    def _kernel(self, at: Any, kernel: Any, place: Any) -> None:
        """Keys of one kernel for all outputs of a tile."""
        e, spec = self.e, self.spec
        size = RequantiseLayout(self.path.lanes).size
        block = e.b.udiv(kernel, I64(self.path.lanes))
        constants = Constants(
            e.scaled(self.table["constants"], block, size), e.b.urem(kernel, I64(self.path.lanes))
        )
        points = [read + step for read, _ in spec.outputs for step in spec.steps]
        sums: list[list[Any]] = []
        for first in range(0, len(points), spec.together):
            sums += self._sums(points[first : first + spec.together], at, kernel)
        for i in range(len(spec.outputs)):
            own = sums[i * len(spec.steps) : (i + 1) * len(spec.steps)]
            best = [self.keys.largest(list(halves), constants) for halves in zip(*own, strict=True)]
            to = e.at(place, i * SAMPLES * SAMPLES)
            self.keys.write(best, constants, lambda keys, to=to: self._store(keys, to))

    def _store(self, keys: list[Any], to: Any) -> None:
        """Write the keys of all samples."""
        e = self.e
        kind = vector(I8, self.path.lanes)
        for i, part in enumerate(keys):
            e.store(e.b.trunc(part, kind), e.at(to, i * self.path.lanes))

    def _sums(self, points: list[int], at: Any, kernel: Any) -> list[list[Any]]:
        """Sums of windows, each as vectors of 32 bits."""
        e, chunks = self.e, self.spec.chunks
        start = e.scaled(self.table["starts"], kernel, 4 * chunks)
        if chunks == 1:
            return [self._halves(sums) for sums in self._chunk(points, at, start)]
        totals = [e.variable(LONGS) for _ in points]
        for total in totals:
            e.put(e.constant(LONGS, 0), total)
        with e.loop(I64(0), I64(chunks)) as chunk:
            found = self._chunk(points, at, e.scaled(start, chunk, 4))
            for total, sums in zip(totals, found, strict=True):
                e.put(e.b.add(e.get(total, LONGS), sums), total)
        return [self._halves(e.get(total, LONGS)) for total in totals]

    def _halves(self, sums: Any) -> list[Any]:
        """A vector of all samples as vectors of the path's size."""
        lanes = self.path.lanes
        return [
            self.e.b.shuffle_vector(
                sums,
                ir.Constant(LONGS, ir.Undefined),
                ir.Constant(vector(I32, lanes), [*range(first, first + lanes)]),
            )
            for first in range(0, SAMPLES, lanes)
        ]

    def _chunk(self, points: list[int], at: Any, start: Any) -> list[Any]:
        """Exact sums of a chunk of groups."""
        e = self.e
        begin, end = e.wide(e.load(I32, start, 4)), e.wide(e.load(I32, e.at(start, 4), 4))
        low, high = ([e.variable(SHORTS) for _ in points] for _ in range(2))
        for variable in (*low, *high):
            e.put(e.constant(SHORTS, 0), variable)
        with e.loop(begin, end) as group:
            self._group(points, at, group, low, high)
        return [
            self._exact(e.get(below, SHORTS), e.get(above, SHORTS))
            for below, above in zip(low, high, strict=True)
        ]

    def _group(self, points: list[int], at: Any, group: Any, low: Any, high: Any) -> None:
        """Add one group to the sums of every window."""
        e = self.e
        row = e.scaled(self.table["table"], group, 8 * GROUP)
        reads, weights = [], []
        for i in range(GROUP):
            reads.append(e.b.add(at, e.wide(e.load(I32, e.at(row, 4 * i), 4))))
            pair = e.load(I32, e.at(row, 4 * (GROUP + i)), 4)
            weights.append(e.b.bitcast(e.splat(pair, SAMPLES // 2), PAIRS))
        for point, below, above in zip(points, low, high, strict=True):
            products = [
                e.call(
                    "llvm.x86.avx2.pmadd.ub.sw",
                    SHORTS,
                    e.load(PAIRS, e.at(read, point), PAIR_BYTES),
                    weight,
                )
                for read, weight in zip(reads, weights, strict=True)
            ]
            total = e.b.add(e.b.add(*products[:2]), e.b.add(*products[2:]))
            e.put(e.b.add(e.get(below, SHORTS), total), below)
            byte = e.b.ashr(total, e.constant(SHORTS, 8))
            e.put(e.b.add(e.get(above, SHORTS), byte), above)

    def _exact(self, low: Any, high: Any) -> Any:
        """The exact sum of two halves: low bytes wrap around at 2**16, and add up to less."""
        e = self.e
        rest = e.b.zext(e.b.sub(low, e.b.shl(high, e.constant(SHORTS, 8))), LONGS)
        return e.b.add(rest, e.b.shl(e.b.sext(high, LONGS), e.constant(LONGS, 8)))
