"""A sum times a scale plus an offset, rounded to float32 once, as the kernel computes it.

The arithmetic is that of `trencadis_format.rounding.scaled_sums`; see there for its source. The
float64 total is rounded to odd before float32 is: where something is left of it and its last bit is
zero, the bit is set. Float32 then rounds as it would have rounded the exact number (S. Boldo and
G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to
odd", 2008).
"""

from typing import Any

from llvmlite import ir

from trencadis_host.devices.cpu.emit import F32, I32, I64, Emitter

__all__ = ["emit_rounded_sum"]

F64 = ir.DoubleType()

SPLITTER = float((1 << 27) + 1)


def emit_rounded_sum(e: Emitter, total: Any, scale: Any, offset: Any) -> Any:
    """Write `total * scale + offset`: a 32-bit integer, two float64; a float32."""
    b = e.b
    whole = b.sitofp(total, F64)
    product = b.fmul(whole, scale)
    above = b.sitofp(b.shl(b.ashr(total, I32(16)), I32(16)), F64)
    below = b.fsub(whole, above)
    top = b.fmul(scale, F64(SPLITTER))
    high = b.fsub(top, b.fsub(top, scale))
    rest = b.fsub(scale, high)
    left = b.fsub(b.fmul(above, high), product)
    left = b.fadd(left, b.fmul(above, rest))
    left = b.fadd(left, b.fmul(below, high))
    left = b.fadd(left, b.fmul(below, rest))
    result, over = _two_sum(e, product, offset)
    result, tail = _two_sum(e, result, b.fadd(left, over))
    return b.fptrunc(_odd(e, result, tail), F32)


def _two_sum(e: Emitter, first: Any, second: Any) -> tuple[Any, Any]:
    """A sum and its rounding error."""
    b = e.b
    total = b.fadd(first, second)
    part = b.fsub(total, first)
    error = b.fadd(b.fsub(first, b.fsub(total, part)), b.fsub(second, part))
    return total, error


def _odd(e: Emitter, total: Any, tail: Any) -> Any:
    """`total`, or its neighbour towards the tail, whichever has its last bit set."""
    b = e.b
    bits = b.bitcast(total, I64)
    zero = F64(0.0)
    outwards = b.icmp_unsigned(
        "==", b.fcmp_ordered(">", tail, zero), b.fcmp_ordered(">", total, zero)
    )
    moved = b.add(bits, b.select(outwards, I64(1), I64(-1)))
    even = b.icmp_unsigned("==", b.and_(bits, I64(1)), I64(0))
    moves = b.and_(even, b.fcmp_ordered("!=", tail, zero))
    return b.bitcast(b.select(moves, moved, bits), F64)
