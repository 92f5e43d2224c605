"""k-WTA at several positions at a time, by planes of bits (AVX-512 with GFNI and VPOPCNTDQ).

Eight vectors of keys are turned into eight planes: the i-th holds bit i of every key, one bit per
channel. Where positions have 64 channels a plane has a position in each 64-bit element; where they
have 32 or 16, in each element of as many bits. The k-th largest key of all positions is then found
together, bit by bit.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from trencadis_host.devices.cpu.emit import I1, I8, I32, I64, Emitter, vector

__all__ = ["GROUPED_PITCHES", "GROUP_BYTES", "GroupWinners", "select_group"]

GROUPED_PITCHES = (16, 32, 64)
"""Bytes from position to position."""

VECTORS = 8

GROUP_BYTES = 64 * VECTORS

DIAGONAL = [1 << (i % 8) for i in range(64)]
"""Times a matrix of 8 x 8 bits it transposes that; as the matrix, it turns bytes round."""


@dataclass(frozen=True)
class GroupWinners:
    """Selection of survivors; fields as in `SelectSpec`."""

    pitch: int
    channels: int
    k: int
    exact: bool
    zero: int


def select_group(e: Emitter, winners: GroupWinners, at: Any) -> None:
    """Put the zero in the place of what does not win, in `GROUP_BYTES` bytes."""
    bits = winners.pitch
    kind = vector(ir.IntType(bits), 512 // bits)
    values = [e.load(vector(I8, 64), e.at(at, 64 * i)) for i in range(VECTORS)]
    planes = [e.b.bitcast(plane, kind) for plane in _planes(e, values)]
    won, tied, need = _radix(e, kind, planes, winners)
    for number, value in enumerate(values):
        mask = _survivors(e, winners, (won, tied, need), number)
        zero = e.constant(value.type, winners.zero)
        kept = e.b.select(e.b.bitcast(mask, vector(I1, 64)), value, zero)
        e.store(kept, e.at(at, 64 * number))


def _affine(e: Emitter, value: Any, matrix: Any) -> Any:
    name = "llvm.x86.vgf2p8affineqb.512"
    return e.call(name, vector(I8, 64), value, matrix, I8(0))


def _shuffled(e: Emitter, first: Any, second: Any, order: list[int]) -> Any:
    return e.b.shuffle_vector(first, second, ir.Constant(vector(I32, len(order)), order))


def _planes(e: Emitter, values: list[Any]) -> list[Any]:
    """Planes of bits, the lowest first; channels lie the other way round within each byte."""
    diagonal = ir.Constant(vector(I8, 64), DIAGONAL)
    # Byte j of eight is plane j of eight channels: bring those of a plane together.
    gather = [8 * (i % 8) + i // 8 for i in range(64)]
    rows = []
    for value in values:
        turned = _affine(e, diagonal, value)
        rows.append(e.b.bitcast(_shuffled(e, turned, turned, gather), vector(I64, 8)))
    for distance in (1, 2, 4):
        low = [i if not i & distance else 8 + i - distance for i in range(8)]
        high = [i + distance if not i & distance else 8 + i for i in range(8)]
        swapped = list(rows)
        for i in range(8):
            if not i & distance:
                swapped[i] = _shuffled(e, rows[i], rows[i + distance], low)
                swapped[i + distance] = _shuffled(e, rows[i], rows[i + distance], high)
        rows = swapped
    return rows


def _radix(e: Emitter, kind: Any, planes: list[Any], winners: GroupWinners) -> tuple[Any, Any, Any]:
    """Sets of what wins and of what is as large as the last winner, and how many of these win."""
    valid = (1 << winners.channels) - 1
    turned = sum(int(f"{valid >> s & 255:08b}"[::-1], 2) << s for s in range(0, winners.pitch, 8))
    candidates = e.constant(kind, turned)
    won, need = e.constant(kind, 0), e.constant(kind, winners.k)
    for plane in reversed(planes):
        having = e.b.and_(candidates, plane)
        count = e.call(f"llvm.ctpop.v{kind.count}i{winners.pitch}", kind, having)
        few = e.b.icmp_unsigned("<", count, need)
        need = e.b.select(few, e.b.sub(need, count), need)
        won = e.b.select(few, e.b.or_(won, having), won)
        candidates = e.b.select(few, e.b.xor(candidates, having), having)
    matrix = ir.Constant(vector(I8, 64), DIAGONAL)
    in_order = [
        e.b.bitcast(_affine(e, e.b.bitcast(found, vector(I8, 64)), matrix), kind)
        for found in (won, candidates)
    ]
    return in_order[0], in_order[1], need


def _survivors(e: Emitter, winners: GroupWinners, sets: tuple[Any, Any, Any], number: int) -> Any:
    """The set of survivors among the 64 keys of a vector."""
    won, tied, need = sets
    if not winners.exact:
        whole = e.b.bitcast(e.b.or_(won, tied), vector(I64, VECTORS))
        return e.b.extract_element(whole, I32(number))
    per_vector = 64 // winners.pitch
    survivors = None
    for part in range(per_vector):
        place = I32(number * per_vector + part)
        w, t, n = (e.b.extract_element(found, place) for found in (won, tied, need))
        if winners.pitch < 64:
            w, t, n = (e.b.zext(value, I64) for value in (w, t, n))
        ones = e.call("llvm.x86.bmi.bzhi.64", I64, I64(-1), n)
        chosen = e.b.or_(w, e.call("llvm.x86.bmi.pdep.64", I64, ones, t))
        if part:
            chosen = e.b.shl(chosen, I64(part * winners.pitch))
        survivors = chosen if survivors is None else e.b.or_(survivors, chosen)
    return survivors
