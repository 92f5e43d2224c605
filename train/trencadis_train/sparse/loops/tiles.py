"""The inner loops over connections, for a tile of the batch whose sums stay in registers.

A row's connections are walked through once per tile. Each reads one row of numbers, used as it is
loaded, and nothing but the gradient of its weight is stored before the walk is over.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from trencadis_train.sparse.loops.vectors import (
    LINE,
    LINE_LENGTH,
    Argument,
    intrinsic_of,
    load_line,
    multiply_add,
    spread,
    store_line,
    sum_of,
)

__all__ = [
    "PAIR",
    "TILE",
    "backward_pair",
    "backward_tile",
    "forward_pair",
    "forward_tile",
    "weights_pair",
    "weights_tile",
]

LINES = 8 if llvm.get_host_cpu_features().get("avx512f") else 4
"""Lines of a tile: half of the registers that processors with such vectors have."""

TILE = LINES * LINE_LENGTH
"""Examples of a tile."""

PAIR = 2 * LINE_LENGTH
"""Examples of a small tile, for what is left of a batch."""

ZERO = ir.Constant(LINE, [0.0] * LINE_LENGTH)


def _registers(builder: Any, count: int, value: Any) -> list[Any]:
    """Variables that become registers, each with a line as its value."""
    found = [cgutils.alloca_once(builder, LINE) for _ in range(count)]
    for register in found:
        builder.store(value, register)
    return found


def _accumulate(builder: Any, register: Any, a: Any, b: Any) -> None:
    builder.store(multiply_add(builder, a, b, builder.load(register)), register)


def _flush(builder: Any, registers: list[Any], address: Any) -> None:
    for number, register in enumerate(registers):
        store_line(builder, builder.load(register), address, number)


def _forward(lines: int) -> Callable[..., Any]:
    def generate(
        builder: Any,
        indices: Argument,
        weights: Argument,
        start: Argument,
        stop: Argument,
        bias: Argument,
        x: Argument,
        z: Argument,
        i: Argument,
        b: Argument,
    ) -> None:
        first, last, batch = start.place(), stop.place(), b.place()
        sums = _registers(builder, lines, spread(builder, bias.value))
        with cgutils.for_range_slice(builder, first, last, first.type(1)) as (p, _):
            w = spread(builder, builder.load(weights.item(p)))
            row = x.row(indices.integer(p), batch)
            for number, register in enumerate(sums):
                _accumulate(builder, register, w, load_line(builder, row, number))
        _flush(builder, sums, z.row(i.place(), batch))

    def typed(
        typing_context: Any,
        indices: Any,
        weights: Any,
        start: Any,
        stop: Any,
        bias: Any,
        x: Any,
        z: Any,
        i: Any,
        b: Any,
    ) -> Any:
        """Write a tile of `z[i]` from example `b` on, by connections `start` to `stop`."""
        return intrinsic_of(types.void, generate)(
            typing_context, indices, weights, start, stop, bias, x, z, i, b
        )

    return intrinsic(typed)


def _backward(lines: int, *, inputs_too: bool) -> Callable[..., Any]:
    def generate(
        builder: Any,
        rows: Argument,
        places: Argument,
        weights: Argument,
        start: Argument,
        stop: Argument,
        x: Argument,
        dz: Argument,
        dx: Argument,
        dw: Argument,
        j: Argument,
        b: Argument,
    ) -> None:
        first, last, batch = start.place(), stop.place(), b.place()
        sums = _registers(builder, lines if inputs_too else 0, ZERO)
        values = x.row(j.place(), batch)
        with cgutils.for_range_slice(builder, first, last, first.type(1)) as (p, _):
            place = places.integer(p)
            row = dz.row(rows.integer(p), batch)
            # Two sums, since one would wait for itself.
            products = [ZERO, ZERO]
            w = spread(builder, builder.load(weights.item(place)))
            for number in range(lines):
                g, v = (load_line(builder, address, number) for address in (row, values))
                products[number % 2] = multiply_add(builder, v, g, products[number % 2])
                if inputs_too:
                    _accumulate(builder, sums[number], w, g)
            total = sum_of(builder, builder.fadd(*products))
            gradient = dw.item(place)
            builder.store(builder.fadd(builder.load(gradient), total), gradient)
        if inputs_too:
            _flush(builder, sums, dx.row(j.place(), batch))

    def typed(
        typing_context: Any,
        rows: Any,
        places: Any,
        weights: Any,
        start: Any,
        stop: Any,
        x: Any,
        dz: Any,
        dx: Any,
        dw: Any,
        j: Any,
        b: Any,
    ) -> Any:
        """Add to `dw`, and write a tile of `dx[j]` from example `b` on."""
        return intrinsic_of(types.void, generate)(
            typing_context, rows, places, weights, start, stop, x, dz, dx, dw, j, b
        )

    return intrinsic(typed)


forward_tile = _forward(LINES)
forward_pair = _forward(2)
backward_tile = _backward(LINES, inputs_too=True)
backward_pair = _backward(2, inputs_too=True)
weights_tile = _backward(LINES, inputs_too=False)
weights_pair = _backward(2, inputs_too=False)
