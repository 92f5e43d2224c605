"""A little on top of llvmlite's builder: addresses as integers, loops as blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

__all__ = ["F32", "I1", "I8", "I16", "I32", "I64", "POINTER", "VOID", "Emitter", "vector"]

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32 = ir.FloatType()
POINTER = ir.PointerType()
VOID = ir.VoidType()


def vector(element: Any, count: int) -> Any:
    """A vector type."""
    return ir.VectorType(element, count)


class Emitter:
    """Writes the body of one function, whose arguments are 64-bit integers.

    Parameters
    ----------
    module : ir.Module
        Where the function goes.
    name : str
        Name of the function.
    arguments : int
        How many it takes.
    """

    def __init__(self, module: Any, name: str, arguments: int) -> None:
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(VOID, [I64] * arguments), name)
        self._entry = self.function.append_basic_block()
        self.b: Any = ir.IRBuilder(self._entry)
        self._body = self.function.append_basic_block()
        self.b.position_at_end(self._body)
        self.arguments = self.function.args

    def finish(self) -> Any:
        """End the function; it is returned."""
        self.b.ret_void()
        ir.IRBuilder(self._entry).branch(self._body)
        return self.function

    def variable(self, kind: Any) -> Any:
        """A place for a value, in a register once the code is optimised."""
        with self.b.goto_block(self._entry):
            return self.b.alloca(kind)

    def scratch(self, kind: Any, count: int) -> Any:
        """The address of an array on the stack."""
        with self.b.goto_block(self._entry):
            place = self.b.alloca(ir.ArrayType(kind, count))
            place.align = 64
            return self.b.ptrtoint(place, I64)

    def get(self, variable: Any, kind: Any) -> Any:
        """The value of a variable."""
        return self.b.load(variable, typ=kind)

    def put(self, value: Any, variable: Any) -> None:
        """Give a variable a value."""
        self.b.store(value, variable)

    def load(self, kind: Any, address: Any, align: int = 1) -> Any:
        """Contents of memory."""
        loaded = self.b.load(self.b.inttoptr(address, POINTER), typ=kind)
        loaded.align = align
        return loaded

    def store(self, value: Any, address: Any, align: int = 1) -> None:
        """Write to memory."""
        self.b.store(value, self.b.inttoptr(address, POINTER)).align = align

    def at(self, address: Any, offset: int) -> Any:
        """An address some bytes further."""
        return self.b.add(address, I64(offset)) if offset else address

    def scaled(self, address: Any, index: Any, size: int) -> Any:
        """The address of an item of an array."""
        return self.b.add(address, self.b.mul(index, I64(size)))

    def wide(self, value: Any) -> Any:
        """A 32-bit integer as one of 64."""
        return self.b.sext(value, I64)

    def splat(self, value: Any, count: int) -> Any:
        """A vector of equal values."""
        kind = vector(value.type, count)
        nothing = ir.Constant(kind, ir.Undefined)
        one = self.b.insert_element(nothing, value, I32(0))
        return self.b.shuffle_vector(one, nothing, ir.Constant(vector(I32, count), [0] * count))

    def constant(self, kind: Any, value: float) -> Any:
        """A vector of equal constants."""
        return ir.Constant(kind, [value] * kind.count)

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """Call an intrinsic or another function."""
        function = self.module.globals.get(name)
        if function is None:
            kinds = [argument.type for argument in arguments]
            function = ir.Function(self.module, ir.FunctionType(result, kinds), name)
        return self.b.call(function, arguments)

    def largest(self, first: Any, second: Any) -> Any:
        """The larger of signed integers."""
        return self.b.select(self.b.icmp_signed(">", first, second), first, second)

    def smallest(self, first: Any, second: Any) -> Any:
        """The smaller of signed integers."""
        return self.b.select(self.b.icmp_signed("<", first, second), first, second)

    @contextmanager
    def loop(self, start: Any, end: Any, step: int = 1) -> Iterator[Any]:
        """Repeat what is written in the block, with the index that is yielded."""
        index = self.variable(I64)
        self.b.store(start, index)
        head, body, after = (self.function.append_basic_block() for _ in range(3))
        self.b.branch(head)
        self.b.position_at_end(head)
        value = self.b.load(index, typ=I64)
        self.b.cbranch(self.b.icmp_signed("<", value, end), body, after)
        self.b.position_at_end(body)
        yield value
        self.b.store(self.b.add(value, I64(step)), index)
        self.b.branch(head)
        self.b.position_at_end(after)
