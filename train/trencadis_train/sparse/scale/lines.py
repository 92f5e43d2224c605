"""Operations on cache lines in compiled loops: 16 numbers of float32 at once, and prefetching.

Neurons of a network that is larger than the caches are read in random order, about 80 ns each; with
two dozen reads under way the memory delivers many times as much.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from trencadis_train.sparse.loops.vectors import (
    LINE,
    LINE_LENGTH,
    Argument,
    intrinsic_of,
    load_line,
    multiply_add,
    prefetch,
    spread,
    store_line,
    sum_of,
)

__all__ = ["add_activated", "add_scaled", "dot_activated", "prefetch_line", "sum_line"]


def _activated(builder: Any, line: Any, slope: Argument) -> Any:
    positive = builder.fcmp_ordered(">", line, ir.Constant(LINE, [0.0] * LINE_LENGTH))
    return builder.select(positive, line, builder.fmul(line, spread(builder, slope.value)))


def _add(builder: Any, out: Argument, i: Argument, w: Argument, line: Any) -> None:
    """Add `w line` to `out[i]`."""
    address = out.row(i.place())
    product = multiply_add(builder, spread(builder, w.value), line, load_line(builder, address))
    store_line(builder, product, address)


def _prefetch_line(typing_context: Any, array: Any, row: Any) -> Any:
    """Ask for a row of an array, to be read soon."""

    def generate(builder: Any, array: Argument, row: Argument) -> None:
        prefetch(builder, array.row(row.place()))

    return intrinsic_of(types.void, generate)(typing_context, array, row)


def _sum_line(typing_context: Any, g: Any, i: Any) -> Any:
    """Sum of `g[i]`."""

    def generate(builder: Any, g: Argument, i: Argument) -> Any:
        return sum_of(builder, load_line(builder, g.row(i.place())))

    return intrinsic_of(types.float32, generate)(typing_context, g, i)


def _dot_activated(typing_context: Any, g: Any, i: Any, x: Any, j: Any, slope: Any) -> Any:
    """Product of `g[i]` and the activation of `x[j]`, summed."""

    def generate(builder: Any, g: Argument, i: Argument, x: Argument, j: Argument, s: Any) -> Any:
        left = load_line(builder, g.row(i.place()))
        right = _activated(builder, load_line(builder, x.row(j.place())), s)
        return sum_of(builder, builder.fmul(left, right))

    return intrinsic_of(types.float32, generate)(typing_context, g, i, x, j, slope)


def _add_scaled(typing_context: Any, out: Any, j: Any, w: Any, g: Any, i: Any) -> Any:
    """`out[j] += w * g[i]`."""

    def generate(builder: Any, out: Any, j: Any, w: Any, g: Argument, i: Argument) -> None:
        _add(builder, out, j, w, load_line(builder, g.row(i.place())))

    return intrinsic_of(types.void, generate)(typing_context, out, j, w, g, i)


def _add_activated(
    typing_context: Any, out: Any, i: Any, w: Any, x: Any, j: Any, slope: Any
) -> Any:
    """`out[i] += w * activation(x[j])`."""

    def generate(builder: Any, out: Any, i: Any, w: Any, x: Any, j: Any, s: Argument) -> None:
        line = load_line(builder, x.row(j.place()))
        _add(builder, out, i, w, _activated(builder, line, s))

    return intrinsic_of(types.void, generate)(typing_context, out, i, w, x, j, slope)


prefetch_line: Callable[..., Any] = intrinsic(_prefetch_line)
sum_line: Callable[..., Any] = intrinsic(_sum_line)
dot_activated: Callable[..., Any] = intrinsic(_dot_activated)
add_scaled: Callable[..., Any] = intrinsic(_add_scaled)
add_activated: Callable[..., Any] = intrinsic(_add_activated)
