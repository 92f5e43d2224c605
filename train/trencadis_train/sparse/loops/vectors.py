"""Pieces of LLVM code for compiled loops: vectors of 16 float32 in rows of arrays.

LLVM turns loops over a batch into vector instructions by itself, but checks in front of every loop
whether its arrays overlap, and keeps sums in memory. Code that is written as vectors of 16 has
neither. Processors without vectors of 16 get two of eight or four of four.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

__all__ = [
    "FLOAT",
    "LINE",
    "LINE_LENGTH",
    "Argument",
    "intrinsic_of",
    "load_line",
    "multiply_add",
    "prefetch",
    "spread",
    "store_line",
    "sum_of",
]

LINE_LENGTH = 16
"""Numbers of a vector: 64 bytes of float32, a cache line."""

FLOAT = ir.FloatType()
LINE = ir.VectorType(FLOAT, LINE_LENGTH)
BYTE = ir.IntType(8).as_pointer()
INT = ir.IntType(32)

FAST = ("contract", "reassoc", "nsz")
"""NaN and infinity stay what they are."""


@dataclass(frozen=True)
class Argument:
    """Argument of a function of compiled code: an array, a place or a number.

    Attributes
    ----------
    context, builder, kind : object
        Context, builder and kind of Numba and LLVM.
    value : object
        LLVM's value.
    """

    context: Any
    builder: Any
    kind: Any
    value: Any

    def place(self) -> Any:
        """An integer, as wide as an address."""
        return self.context.cast(self.builder, self.value, self.kind, types.intp)

    def item(self, place: Any) -> Any:
        """Address of an item of a contiguous array of one axis."""
        return self.builder.gep(self._array().data, [place])

    def integer(self, place: Any) -> Any:
        """An item of an array of integers, as wide as an address."""
        loaded = self.builder.load(self.item(place))
        return self.context.cast(self.builder, loaded, self.kind.dtype, types.intp)

    def row(self, row: Any, column: Any = None) -> Any:
        """Address in a C-contiguous array of two axes; the first column without any."""
        values = self._array()
        offset = self.builder.mul(row, cgutils.unpack_tuple(self.builder, values.strides, 2)[0])
        if column is not None:
            offset = self.builder.add(offset, self.builder.mul(column, column.type(4)))
        return self.builder.gep(self.builder.bitcast(values.data, BYTE), [offset])

    def _array(self) -> Any:
        return self.context.make_array(self.kind)(self.context, self.builder, self.value)


def load_line(builder: Any, address: Any, number: int = 0) -> Any:
    """A line of a row, from an address on."""
    return builder.load(_line_address(builder, address, number), align=4)


def store_line(builder: Any, value: Any, address: Any, number: int = 0) -> None:
    """Write a line of a row, from an address on."""
    builder.store(value, _line_address(builder, address, number), align=4)


def spread(builder: Any, number: Any) -> Any:
    """A line of equal numbers."""
    first = builder.insert_element(ir.Constant(LINE, ir.Undefined), number, INT(0))
    zeros = ir.Constant(ir.VectorType(INT, LINE_LENGTH), [0] * LINE_LENGTH)
    return builder.shuffle_vector(first, ir.Constant(LINE, ir.Undefined), zeros)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c` of lines, in one instruction where the processor has one."""
    return builder.fadd(builder.fmul(a, b, flags=FAST), c, flags=FAST)


def sum_of(builder: Any, line: Any) -> Any:
    """Sum of a line."""
    kind = ir.FunctionType(FLOAT, [FLOAT, LINE])
    name = f"llvm.vector.reduce.fadd.v{LINE_LENGTH}f32"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [FLOAT(0.0), line], fastmath=FAST)


def prefetch(builder: Any, address: Any) -> None:
    """Ask for a line, to be read soon and kept in all caches."""
    kind = ir.FunctionType(ir.VoidType(), [BYTE, INT, INT, INT])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [address, INT(0), INT(3), INT(1)])


def intrinsic_of(result: Any, generate: Callable[..., Any]) -> Any:
    """A function of compiled code.

    Parameters
    ----------
    result : Numba type
        Type of what it returns.
    generate : callable
        Takes LLVM's builder and an `Argument` for each argument; returns a value or None.
    """

    def typed(typing_context: Any, *given: Any) -> Any:
        def generated(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            arguments = [
                Argument(context, builder, kind, value)
                for kind, value in zip(signature.args, values, strict=True)
            ]
            found = generate(builder, *arguments)
            return context.get_dummy_value() if found is None else found

        return result(*given), generated

    return typed


def _line_address(builder: Any, address: Any, number: int) -> Any:
    if number:
        address = builder.gep(address, [INT(4 * LINE_LENGTH * number)])
    return builder.bitcast(address, LINE.as_pointer())
