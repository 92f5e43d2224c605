"""k-WTA among the channels of a position, in place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from trencadis_host.devices.cpu.emit import I1, I8, I64, Emitter, vector
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.select_groups import (
    GROUP_BYTES,
    GROUPED_PITCHES,
    GroupWinners,
    select_group,
)

__all__ = ["SelectSpec", "emit_select"]

WHOLE_VECTOR = 64
"""Bytes of a piece of a vector of activations."""

UNROLLED_PIECES = 4
"""Pieces of a vector whose selection is written without loops."""


@dataclass(frozen=True)
class SelectSpec:
    """k-WTA among the channels of every position, in place: `name(map, samples)`.

    Attributes
    ----------
    rows, columns, channels : int
        Rows, columns and channels of the map.
    row_pitch, pitch, first, stride : int
        Bytes from row to row, from position to position, before the first position and from
        sample to sample.
    k : int
        Winners.
    exact : bool
        Ties go to the lowest channels; else all that are as large as the last winner stay.
    zero : int
        What takes the place of the others.
    """

    rows: int
    columns: int
    channels: int
    row_pitch: int
    pitch: int
    first: int
    stride: int
    k: int
    exact: bool
    zero: int


def emit_select(module: Any, name: str, path: Path, spec: SelectSpec) -> Any:
    """Write a selecting kernel: the k-th largest key bit by bit, from the highest."""
    e = Emitter(module, name, 2)
    target, samples = e.arguments
    with e.loop(I64(0), samples) as sample:
        start = e.at(e.scaled(target, sample, spec.stride), spec.first)
        if "gfni" in path.features and spec.pitch in GROUPED_PITCHES:
            _select_groups(e, path, spec, start)
        else:
            with e.loop(I64(0), I64(spec.rows)) as row:
                line = e.scaled(start, row, spec.row_pitch)
                with e.loop(I64(0), I64(spec.columns)) as column:
                    _Select(e, path, spec).position(e.scaled(line, column, spec.pitch))
    return e.finish()


def _select_groups(e: Emitter, path: Path, spec: SelectSpec, start: Any) -> None:
    """Select in groups of positions; padding between rows holds the zero, and keeps it."""
    size = (spec.rows - 1) * spec.row_pitch + spec.columns * spec.pitch
    whole = size // GROUP_BYTES * GROUP_BYTES
    winners = GroupWinners(spec.pitch, spec.channels, spec.k, spec.exact, spec.zero)
    with e.loop(I64(0), I64(whole), GROUP_BYTES) as at:
        select_group(e, winners, e.b.add(start, at))
    with e.loop(I64(whole), I64(size), spec.pitch) as at:
        _Select(e, path, spec).position(e.b.add(start, at))


class _Select:
    """Selection at one position. Sets of channels are integers of 64 bits, one per piece."""

    def __init__(self, e: Emitter, path: Path, spec: SelectSpec) -> None:
        self.e, self.spec = e, spec
        self.deposits = "bmi2" in path.features
        self.whole, rest = divmod(spec.channels, WHOLE_VECTOR)
        self.rest = -(-rest // 16) * 16
        self.valid = (1 << rest) - 1
        pieces = self.whole + bool(rest)
        self.loops = pieces > UNROLLED_PIECES
        # In registers if there are few, else in memory.
        self.sets: dict[str, Any] = {
            name: e.scratch(I64, pieces) if self.loops else [e.variable(I64) for _ in range(pieces)]
            for name in ("candidates", "winners", "tests")
        }

    def position(self, at: Any) -> None:
        """Put the zero in the place of all that do not win."""
        e = self.e
        need = e.variable(I64)
        e.put(I64(self.spec.k), need)
        self._each(self._begin)
        for bit in range(7, -1, -1):
            self._step(at, bit, need)
        self._each(lambda piece, size: self._share(piece, need))
        self._each(lambda piece, size: self._write(at, piece, size))

    def _each(self, body: Callable[[Any, int], None]) -> None:
        """Do something for every piece: `body(piece, bytes)`."""
        if self.loops:
            with self.e.loop(I64(0), I64(self.whole)) as piece:
                body(piece, WHOLE_VECTOR)
        else:
            for number in range(self.whole):
                body(I64(number), WHOLE_VECTOR)
        if self.rest:
            body(I64(self.whole), self.rest)

    def _get(self, name: str, piece: Any) -> Any:
        if self.loops:
            return self.e.load(I64, self.e.scaled(self.sets[name], piece, 8), 8)
        return self.e.get(self.sets[name][piece.constant], I64)

    def _put(self, name: str, piece: Any, value: Any) -> None:
        if self.loops:
            self.e.store(value, self.e.scaled(self.sets[name], piece, 8), 8)
        else:
            self.e.put(value, self.sets[name][piece.constant])

    def _begin(self, piece: Any, size: int) -> None:
        self._put("candidates", piece, I64(-1 if size == WHOLE_VECTOR else self.valid))
        self._put("winners", piece, I64(0))

    def _step(self, at: Any, bit: int, need: Any) -> None:
        """Decide about the candidates by one bit of their keys."""
        e = self.e
        count = e.variable(I64)
        e.put(I64(0), count)

        def test(piece: Any, size: int) -> None:
            found = self._having(e.scaled(at, piece, WHOLE_VECTOR), size, bit)
            found = e.b.and_(found, self._get("candidates", piece))
            self._put("tests", piece, found)
            e.put(e.b.add(e.get(count, I64), e.call("llvm.ctpop.i64", I64, found)), count)

        self._each(test)
        left, found = e.get(need, I64), e.get(count, I64)
        few = e.b.icmp_signed("<", found, left)
        few_mask = e.b.sext(few, I64)
        e.put(e.b.sub(left, e.b.and_(found, few_mask)), need)

        def decide(piece: Any, size: int) -> None:
            # Too few have the bit: all of them win, the others fight on. Else these do.
            tested, candidates = self._get("tests", piece), self._get("candidates", piece)
            won = e.b.or_(self._get("winners", piece), e.b.and_(tested, few_mask))
            self._put("winners", piece, won)
            others = e.b.xor(candidates, tested)
            self._put("candidates", piece, e.b.select(few, others, tested))

        self._each(decide)

    def _share(self, piece: Any, need: Any) -> None:
        """Give what is left to those that are as large as the last winner."""
        chosen = self._get("candidates", piece)
        if self.spec.exact:
            chosen = self._lowest(chosen, need)
        self._put("winners", piece, self.e.b.or_(self._get("winners", piece), chosen))

    def _lowest(self, candidates: Any, need: Any) -> Any:
        """The lowest of the candidates, as many as are needed."""
        e = self.e
        left = e.get(need, I64)
        there = e.call("llvm.ctpop.i64", I64, candidates)
        taken = e.smallest(left, there)
        e.put(e.b.sub(left, taken), need)
        if self.deposits:
            ones = e.call("llvm.x86.bmi.bzhi.64", I64, I64(-1), taken)
            return e.call("llvm.x86.bmi.pdep.64", I64, ones, candidates)
        rest, chosen = e.variable(I64), e.variable(I64)
        e.put(candidates, rest)
        e.put(I64(0), chosen)
        with e.loop(I64(0), taken):
            now = e.get(rest, I64)
            lowest = e.b.and_(now, e.b.neg(now))
            e.put(e.b.or_(e.get(chosen, I64), lowest), chosen)
            e.put(e.b.xor(now, lowest), rest)
        return e.get(chosen, I64)

    def _having(self, place: Any, size: int, bit: int) -> Any:
        """The channels of a piece whose keys have a bit."""
        e, found = self.e, None
        for offset, width in _parts(size):
            kind = vector(I8, width)
            masked = e.b.and_(e.load(kind, e.at(place, offset)), e.constant(kind, 1 << bit))
            truths = e.b.icmp_unsigned("!=", masked, e.constant(kind, 0))
            part = e.b.bitcast(truths, ir.IntType(width))
            part = part if width == WHOLE_VECTOR else e.b.zext(part, I64)
            part = e.b.shl(part, I64(offset)) if offset else part
            found = part if found is None else e.b.or_(found, part)
        return found

    def _write(self, at: Any, piece: Any, size: int) -> None:
        e = self.e
        place = e.scaled(at, piece, WHOLE_VECTOR)
        won = self._get("winners", piece)
        for offset, width in _parts(size):
            kind = vector(I8, width)
            part = e.b.lshr(won, I64(offset)) if offset else won
            part = part if width == WHOLE_VECTOR else e.b.trunc(part, ir.IntType(width))
            winners = e.b.bitcast(part, vector(I1, width))
            to = e.at(place, offset)
            zero = e.constant(kind, self.spec.zero)
            e.store(e.b.select(winners, e.load(kind, to), zero), to)


def _parts(size: int) -> list[tuple[int, int]]:
    """Offsets and sizes of vectors of powers of two that make up a piece.

    LLVM 22 computes a wrong mask of 48 truths for AVX2.
    """
    parts, offset = [], 0
    for width in (64, 32, 16):
        if size - offset >= width:
            parts.append((offset, width))
            offset += width
    return parts
