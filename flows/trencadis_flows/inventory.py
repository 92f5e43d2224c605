"""The memories of a design, counted in its Verilog."""

import re
from collections import Counter
from dataclasses import dataclass

__all__ = ["Memory", "block_rams", "memories", "ultra_rams"]

_MODULE = re.compile(r"^module (\\\S+ |\w+)(.*?)^endmodule\n", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^  (\\\S+ |\w+) (?:\\\S+ |\w+) ?\(\n", re.MULTILINE)
_MEMORY = re.compile(
    r'\(\* ram_style = "(\w+)" \*\)\n\s+reg (?:\[(\d+):0\] )?(?:\\\S+ |\w+) ?\[(\d+):0\];'
)


@dataclass(frozen=True)
class Memory:
    """A memory.

    Attributes
    ----------
    style : str
        `block`, `ultra` or `distributed`.
    bits, depth : int
        Width and rows.
    """

    style: str
    bits: int
    depth: int


def memories(verilog: str, top: str) -> Counter[Memory]:
    """Count the memories of a design, all instances included.

    Parameters
    ----------
    verilog : str
        The design, as Amaranth writes it.
    top : str
        Its top level.
    """
    own: dict[str, Counter[Memory]] = {}
    children: dict[str, list[str]] = {}
    for name, body in _MODULE.findall(verilog):
        module = name.strip().lstrip("\\")
        own[module] = Counter(
            Memory(style, int(high or 0) + 1, int(last) + 1)
            for style, high, last in _MEMORY.findall(body)
        )
        children[module] = [child.strip().lstrip("\\") for child in _INSTANCE.findall(body)]
    totals: dict[str, Counter[Memory]] = {}

    def total(module: str) -> Counter[Memory]:
        if module not in totals:
            count = Counter(own.get(module, Counter()))
            for child in children.get(module, []):
                count.update(total(child))
            totals[module] = count
        return totals[module]

    return total(top)


def _pieces(memory: Memory, shapes: tuple[tuple[int, int], ...]) -> int:
    """Fewest pieces of one of several shapes (bits, depth) that a memory is made of."""
    return min(-(-memory.bits // bits) * -(-memory.depth // depth) for bits, depth in shapes)


def block_rams(memory: Memory, kbit: int) -> float:
    """Block memories of 36 Kbit (or halves of them), or of 18 Kbit, that a memory takes."""
    halves = _pieces(memory, ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)))
    if kbit == 18:
        return halves
    whole = _pieces(
        memory, ((72, 512), (36, 1024), (18, 2048), (9, 4096), (4, 8192), (2, 16384), (1, 32768))
    )
    return min(halves / 2, whole)


def ultra_rams(memory: Memory) -> int:
    """Ultra memories, 4096 rows of 72 bits, that a memory takes."""
    return _pieces(memory, ((72, 4096),))
