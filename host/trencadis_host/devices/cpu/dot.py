"""The kernel that everything is about: sparse dot products of many windows, lanes being kernels.

For a tile of windows it walks over the units of a block of kernels. A unit's bytes are permuted out
of each window and multiplied and added in one go. The sums stay in registers until the maximum over
a pooling window is taken and the result is requantised and written.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from trencadis_host.devices.cpu.emit import I8, I16, I32, I64, Emitter, vector
from trencadis_host.devices.cpu.keys import Constants, KeyForm, KeyWriter, RequantiseLayout
from trencadis_host.devices.cpu.paths import Dot, Path

__all__ = ["DotSpec", "emit_dot"]

UNROLLED = 4
"""Units that are summed apart where a tile has few windows, to hide the latency of products."""


@dataclass(frozen=True)
class DotSpec:
    """Facts that are fixed when the kernel is compiled.

    Attributes
    ----------
    outputs : tuple of (int, int)
        For each output of a tile, bytes from the tile's first byte, in the map that is read and in
        the one that is written.
    steps : tuple of int
        Bytes from an output's window to those over which the maximum is taken.
    lists : int
        Lists of units for one output after another; the maximum is taken over them, too.
    dense : bool
        A unit's four bytes are the same for all kernels.
    shared : int
        Units of every list if all of them have as many, all windows are the same and so are the
        weights of the lists of a block: a window is loaded once for all lists. Else 0.
    samples : int
        Samples of a tile; `outputs` has all of them.
    in_stride, out_stride : int
        Bytes from sample to sample.
    keys : KeyForm
        What is written.
    """

    outputs: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    lists: int
    dense: bool
    shared: int
    samples: int
    in_stride: int
    out_stride: int
    keys: KeyForm


PARAMETERS = (
    "indices",
    "weights",
    "offsets",
    "starts",
    "constants",
    "tiles",
    "tile_count",
    "blocks",
)
"""Contents of the kernel's table, 64 bits each: addresses and counts."""


def emit_dot(module: Any, name: str, path: Path, spec: DotSpec) -> Any:
    """Write the kernel: `name(parameters, map read, map written, samples)`."""
    return _Dot(module, name, path, spec).write()


class _Dot:
    def __init__(self, module: Any, name: str, path: Path, spec: DotSpec) -> None:
        self.e = Emitter(module, name, 4)
        self.path, self.spec = path, spec
        self.keys = KeyWriter(self.e, path, spec.keys)
        self.sums = vector(I32, path.lanes)
        self.bytes = vector(I8, 4 * path.lanes)
        table = self.e.arguments[0]
        self.table = {
            field: self.e.load(I64, self.e.at(table, 8 * i), 8)
            for i, field in enumerate(PARAMETERS)
        }
        per_output = max(1, path.accumulators // len(spec.outputs))
        self.groups = [
            spec.steps[i : i + per_output] for i in range(0, len(spec.steps), per_output)
        ]

    def write(self) -> Any:
        """The whole function."""
        e, spec = self.e, self.spec
        _, source, target, samples = e.arguments
        layout = RequantiseLayout(self.path.lanes)
        size = self.path.lanes * (4 if spec.keys.raw else 1)
        last = e.largest(e.b.sub(samples, I64(spec.samples)), I64(0))
        with e.loop(I64(0), self.table["blocks"]) as block:
            constants = Constants(e.scaled(self.table["constants"], block, layout.size))
            column = e.scaled(target, block, size)
            with e.loop(I64(0), samples, spec.samples) as first:
                sample = e.smallest(first, last)
                read = e.scaled(source, sample, spec.in_stride)
                written = e.scaled(column, sample, spec.out_stride)
                with e.loop(I64(0), self.table["tile_count"]) as tile:
                    entry = e.scaled(self.table["tiles"], tile, 8)
                    at = e.b.add(read, e.wide(e.load(I32, entry, 4)))
                    to = e.b.add(written, e.wide(e.load(I32, e.at(entry, 4), 4)))
                    self._tile(block, at, to, constants)
        return e.finish()

    def _tile(self, block: Any, at: Any, to: Any, constants: Constants) -> None:
        """All steps of all outputs of a tile."""
        e, spec = self.e, self.spec
        if spec.shared:
            for sums, (_, written) in zip(self._shared(block, at), spec.outputs, strict=True):
                self._finish(self.keys.largest(sums, constants), constants, e.at(to, written))
            return
        best = [e.variable(self.sums) for _ in spec.outputs]
        fresh = True
        for number in range(spec.lists):
            start = e.scaled(
                self.table["starts"], e.b.add(e.b.mul(block, I64(spec.lists)), I64(number)), 4
            )
            begin = e.wide(e.load(I32, start, 4))
            end = e.wide(e.load(I32, e.at(start, 4), 4))
            for group in self.groups:
                points = [read + step for read, _ in spec.outputs for step in group]
                sums = self._sums(points, at, begin, end)
                for i, place in enumerate(best):
                    found = sums[i * len(group) : (i + 1) * len(group)]
                    largest = self.keys.largest(found, constants)
                    if not fresh:
                        largest = e.largest(e.get(place, self.sums), largest)
                    e.put(largest, place)
                fresh = False
        for place, (_, written) in zip(best, spec.outputs, strict=True):
            self._finish(e.get(place, self.sums), constants, e.at(to, written))

    def _shared(self, block: Any, at: Any) -> list[list[Any]]:
        """Sums of all lists, for every output: what each window has, several times."""
        e, spec, size = self.e, self.spec, 4 * self.path.lanes
        windows = [e.load(vector(I8, self.path.window), e.at(at, read)) for read, _ in spec.outputs]
        sums = [[e.constant(self.sums, 0) for _ in range(spec.lists)] for _ in windows]
        first = e.b.mul(block, I64(spec.lists * spec.shared))
        for number in range(spec.shared):
            weights = e.load(
                self.bytes,
                e.scaled(self.table["weights"], e.b.add(first, I64(number)), size),
                size,
            )
            for part in range(spec.lists):
                unit = e.b.add(first, I64(part * spec.shared + number))
                place = e.scaled(self.table["indices"], unit, size)
                indices = e.load(self.bytes, place, size)
                for window, row in zip(windows, sums, strict=True):
                    row[part] = self._added(row[part], self._chosen(window, indices), weights)
        return sums

    def _sums(self, points: list[int], at: Any, begin: Any, end: Any) -> list[Any]:
        """Sums of every window of a tile."""
        e = self.e
        unrolled = UNROLLED if len(points) < UNROLLED else 1
        sums = [[e.variable(self.sums) for _ in points] for _ in range(unrolled)]
        for row in sums:
            for place in row:
                e.put(e.constant(self.sums, 0), place)
        middle = end
        if unrolled > 1:
            count = e.b.sub(end, begin)
            middle = e.b.sub(end, e.b.srem(count, I64(unrolled)))
            with e.loop(begin, middle, unrolled) as unit:
                for i, row in enumerate(sums):
                    self._unit(points, at, e.b.add(unit, I64(i)), row)
            begin = middle
        with e.loop(begin, end) as unit:
            self._unit(points, at, unit, sums[0])
        totals = [e.get(place, self.sums) for place in sums[0]]
        for row in sums[1:]:
            totals = [
                e.b.add(t, e.get(place, self.sums)) for t, place in zip(totals, row, strict=True)
            ]
        return totals

    def _unit(self, points: list[int], at: Any, unit: Any, sums: list[Any]) -> None:
        """Add one unit to every window's sums."""
        e, size = self.e, 4 * self.path.lanes
        weights = e.load(self.bytes, e.scaled(self.table["weights"], unit, size), size)
        offset = e.wide(e.load(I32, e.scaled(self.table["offsets"], unit, 4), 4))
        base = e.b.add(at, offset)
        indices = None
        if not self.spec.dense:
            indices = e.load(self.bytes, e.scaled(self.table["indices"], unit, size), size)
        for point, place in zip(points, sums, strict=True):
            address = e.at(base, point)
            if indices is None:
                quad = e.splat(e.load(I32, address), self.path.lanes)
                values = e.b.bitcast(quad, self.bytes)
            else:
                values = self._permuted(address, indices)
            e.put(self._added(e.get(place, self.sums), values, weights), place)

    def _permuted(self, address: Any, indices: Any) -> Any:
        """The bytes of a window that `indices` name."""
        window = self.e.load(vector(I8, self.path.window), address)
        return self._chosen(window, indices)

    def _chosen(self, window: Any, indices: Any) -> Any:
        e, path = self.e, self.path
        if path.window == 64:
            return e.call("llvm.x86.avx512.permvar.qi.512", self.bytes, window, indices)
        if path.dot is Dot.ARM:
            return e.call("llvm.aarch64.neon.tbl1.v16i8", self.bytes, window, indices)
        repeat = path.bits // 128
        if repeat > 1:
            nothing = ir.Constant(window.type, ir.Undefined)
            order = ir.Constant(vector(I32, 16 * repeat), [*range(16)] * repeat)
            window = e.b.shuffle_vector(window, nothing, order)
        name = {1: "ssse3.pshuf.b.128", 2: "avx2.pshuf.b", 4: "avx512.pshuf.b.512"}[repeat]
        return e.call(f"llvm.x86.{name}", self.bytes, window, indices)

    def _added(self, sums: Any, values: Any, weights: Any) -> Any:
        """Sums with four products more."""
        e, path = self.e, self.path
        if path.dot is Dot.EXACT:
            name = f"llvm.x86.avx512.vpdpbusd.{path.bits}"
            return e.call(name, self.sums, sums, values, weights)
        if path.dot is Dot.ARM:
            return e.call("llvm.aarch64.neon.usdot.v4i32.v16i8", self.sums, sums, values, weights)
        pairs = vector(I16, 2 * path.lanes)
        wide = path.bits == 256
        first = "llvm.x86.avx2.pmadd.ub.sw" if wide else "llvm.x86.ssse3.pmadd.ub.sw.128"
        second = "llvm.x86.avx2.pmadd.wd" if wide else "llvm.x86.sse2.pmadd.wd"
        products = e.call(first, pairs, values, weights)
        quads = e.call(second, self.sums, products, e.constant(pairs, 1))
        return e.b.add(sums, quads)

    def _finish(self, sums: Any, constants: Constants, to: Any) -> None:
        """Write an output's sums, or their keys."""
        kind = self.sums if self.spec.keys.raw else vector(I8, self.path.lanes)

        def store(values: list[Any]) -> None:
            value = values[0] if self.spec.keys.raw else self.e.b.trunc(values[0], kind)
            self.e.store(value, to)

        self.keys.write([sums], constants, store)
