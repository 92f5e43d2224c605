"""Sums of a sample alone, over the values that its map has: the columns of winners.

A layer whose map is mostly zero reads few of its weights: those that meet a value. First the
values are listed, then the columns of every two of them are multiplied and added, lanes being
kernels. The sums of some blocks of kernels stay in registers for the whole list.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from trencadis_host.devices.cpu.emit import I8, I16, I32, I64, Emitter, vector
from trencadis_host.devices.cpu.keys import Constants, KeyForm, KeyWriter, RequantiseLayout
from trencadis_host.devices.cpu.paths import Dot, Path

__all__ = ["SCANNED", "ColumnSpec", "emit_columns"]

SCANNED = 64
"""Bytes of the map that are looked at together."""


@dataclass(frozen=True)
class ColumnSpec:
    """Facts that are fixed when the kernel is compiled.

    Attributes
    ----------
    runs : tuple of (int, int)
        Bytes from the map's first to a run that is read, and the `SCANNED` bytes that it has.
    zero : int
        Key of the value zero.
    row_bytes : int
        Of a column of the table: one weight of every kernel of all blocks.
    together : int
        Blocks of kernels whose sums are in registers.
    blocks : int
        Of kernels, at least `together`.
    keys : KeyForm
        What is written.
    """

    runs: tuple[tuple[int, int], ...]
    zero: int
    row_bytes: int
    together: int
    blocks: int
    keys: KeyForm


PARAMETERS = ("columns", "constants")
"""Contents of the kernel's table, 64 bits each: addresses."""


def emit_columns(module: Any, name: str, path: Path, spec: ColumnSpec) -> Any:
    """Write the kernel: `name(parameters, map read, map written, places, values)`.

    Places and values are memory for 4 and 2 bytes per byte that is read, and for two more.
    """
    return _Columns(module, name, path, spec).write()


class _Columns:
    def __init__(self, module: Any, name: str, path: Path, spec: ColumnSpec) -> None:
        self.e = Emitter(module, name, 5)
        self.path, self.spec = path, spec
        self.keys = KeyWriter(self.e, path, spec.keys)
        self.sums = vector(I32, path.lanes)
        table = self.e.arguments[0]
        self.table = {
            field: self.e.load(I64, self.e.at(table, 8 * i), 8)
            for i, field in enumerate(PARAMETERS)
        }

    def write(self) -> Any:
        """The whole function."""
        e, spec = self.e, self.spec
        pairs = self._list()
        last = I64(spec.blocks - spec.together)
        with e.loop(I64(0), I64(spec.blocks), spec.together) as begin:
            self._blocks(e.smallest(begin, last), pairs)
        return e.finish()

    def _list(self) -> Any:
        """List the values that are not zero; pairs of them are returned."""
        e, spec = self.e, self.spec
        count = e.variable(I64)
        e.put(I64(0), count)
        column = 0
        for start, chunks in spec.runs:
            with e.loop(I64(0), I64(chunks)) as chunk:
                read = e.scaled(e.at(e.arguments[1], start), chunk, SCANNED)
                first = e.b.add(e.b.mul(chunk, I64(SCANNED)), I64(column))
                self._chunk(read, first, count)
            column += chunks * SCANNED
        # One value more, of nothing, makes pairs of any number.
        self._append(e.get(count, I64), I64(0), I16(0))
        return e.b.lshr(e.b.add(e.get(count, I64), I64(1)), I64(1))

    def _chunk(self, read: Any, first: Any, count: Any) -> None:
        """List the values of some bytes, the first of which is column `first`."""
        e = self.e
        kind = vector(I8, SCANNED)
        there = e.b.icmp_unsigned("!=", e.load(kind, read), e.constant(kind, self.spec.zero))
        left = e.variable(I64)
        e.put(e.b.bitcast(there, I64), left)
        found = e.call("llvm.ctpop.i64", I64, e.get(left, I64))
        with e.loop(I64(0), found):
            mask = e.get(left, I64)
            byte = e.call("llvm.cttz.i64", I64, mask, ir.Constant(ir.IntType(1), 1))
            value = e.b.zext(e.load(I8, e.b.add(read, byte)), I16)
            number = e.get(count, I64)
            self._append(number, e.b.add(first, byte), e.b.sub(value, I16(self.spec.zero)))
            e.put(e.b.add(number, I64(1)), count)
            e.put(e.b.and_(mask, e.b.sub(mask, I64(1))), left)

    def _append(self, number: Any, column: Any, value: Any) -> None:
        """Put a column and its value at the end of the list."""
        e = self.e
        place = e.b.trunc(e.b.mul(column, I64(self.spec.row_bytes)), I32)
        e.store(place, e.scaled(e.arguments[3], number, 4), 4)
        e.store(value, e.scaled(e.arguments[4], number, 2), 2)

    def _blocks(self, block: Any, pairs: Any) -> None:
        """Compute and write some blocks of kernels."""
        e, spec, lanes = self.e, self.spec, self.path.lanes
        layout = RequantiseLayout(lanes)
        constants = e.scaled(self.table["constants"], block, layout.size)
        totals = [e.variable(self.sums) for _ in range(spec.together)]
        for i, total in enumerate(totals):
            # What zeros add to a sum of keys; it is taken off again with the correction.
            place = e.at(constants, i * layout.size + layout.place("correction"))
            e.put(e.load(self.sums, place, 4), total)
        weights = e.scaled(self.table["columns"], block, lanes)
        with e.loop(I64(0), pairs) as pair:
            places = [
                e.b.add(weights, e.b.zext(e.load(I32, e.at(place, 4 * i), 4), I64))
                for place in [e.scaled(e.arguments[3], pair, 8)]
                for i in range(2)
            ]
            both = e.splat(e.load(I32, e.scaled(e.arguments[4], pair, 4), 4), lanes)
            values = e.b.bitcast(both, vector(I16, 2 * lanes))
            for i, total in enumerate(totals):
                columns = [e.load(vector(I8, lanes), e.at(place, i * lanes)) for place in places]
                e.put(self._added(e.get(total, self.sums), columns, values), total)
        size = lanes * (4 if spec.keys.raw else 1)
        written = e.scaled(e.arguments[2], block, size)
        for i, total in enumerate(totals):
            own = Constants(e.at(constants, i * layout.size))
            sums = self.keys.largest([e.get(total, self.sums)], own)
            to = e.at(written, i * size)
            self.keys.write([sums], own, lambda found, to=to: self._store(found[0], to))

    def _added(self, sums: Any, columns: list[Any], values: Any) -> Any:
        """Sums with the products of two columns more."""
        e, lanes = self.e, self.path.lanes
        order = [i // 2 + (i % 2) * lanes for i in range(2 * lanes)]
        mixed = e.b.shuffle_vector(*columns, ir.Constant(vector(I32, 2 * lanes), order))
        weights = e.b.sext(mixed, vector(I16, 2 * lanes))
        if self.path.dot is Dot.ARM:
            wide = vector(I32, 2 * lanes)
            products = e.b.mul(e.b.sext(weights, wide), e.b.sext(values, wide))
            nothing = ir.Constant(wide, ir.Undefined)
            for part in range(2):
                chosen = ir.Constant(vector(I32, lanes), [*range(part, 2 * lanes, 2)])
                sums = e.b.add(sums, e.b.shuffle_vector(products, nothing, chosen))
            return sums
        name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[lanes]
        return e.b.add(sums, e.call(f"llvm.x86.{name}", self.sums, weights, values))

    def _store(self, value: Any, to: Any) -> None:
        e = self.e
        e.store(value if self.spec.keys.raw else e.b.trunc(value, vector(I8, self.path.lanes)), to)
