"""A netlist of UltraScale+ cells, as Yosys writes it: what it takes, and its longest logic path."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RESOURCES", "Netlist", "Path", "Usage", "resources_of"]

RESOURCES = ("lut", "ff", "dsp", "bram36", "uram")

LUTRAM = {
    "RAM32X1S": 1,
    "RAM32X1D": 2,
    "RAM64X1S": 1,
    "RAM64X1D": 2,
    "RAM128X1S": 2,
    "RAM128X1D": 4,
    "RAM256X1S": 4,
    "RAM256X1D": 8,
    "RAM512X1S": 8,
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
    "SRL16E": 1,
    "SRLC16E": 1,
    "SRLC32E": 1,
}
"""LUTs that a memory or shift register of LUTs takes."""
LARGE = {"RAMB18E2": ("bram36", 0.5), "RAMB36E2": ("bram36", 1.0), "URAM288": ("uram", 1.0)}

INVERTIBLE = ("C", "D", "R", "S")
"""Inputs of flip-flops that have an inverter of their own."""

_LUT = re.compile(r"LUT[1-6]|INV")
_FLIP_FLOP = re.compile(r"FD[RSCP]E|LD[CP]E")
_FREE = re.compile(r"MUXF[789]|BUFG|CARRY[48]")
"""Cells that take none of the resources that are counted."""


def resources_of(cell: str) -> dict[str, float]:
    """Needs of a cell in `RESOURCES` and in `lutram`, which are LUTs too.

    An inverter is counted as a LUT here; `Netlist.usage` knows better.

    Raises
    ------
    ValueError
        If the cell is not known.
    """
    if _LUT.fullmatch(cell):
        return {"lut": 1}
    if cell in LUTRAM:
        return {"lut": LUTRAM[cell], "lutram": LUTRAM[cell]}
    if _FLIP_FLOP.fullmatch(cell):
        return {"ff": 1}
    if cell == "DSP48E2":
        return {"dsp": 1}
    if cell in LARGE:
        name, amount = LARGE[cell]
        return {name: amount}
    if _FREE.fullmatch(cell):
        return {}
    raise ValueError(f"cell {cell!r} is not one of UltraScale+ that is known here")


Usage = dict[str, float]
"""Amounts by resource."""


@dataclass(frozen=True)
class Path:
    """The longest path of logic between registers.

    Attributes
    ----------
    levels : int
        LUTs, carry chains, reads of memories of LUTs and DSPs on it. A carry chain is one level,
        however long it is.
    carry_cells : int
        Cells of 4 bits that its carries pass.
    cells : tuple of str
        The cells from start to end, each with its instance path.
    """

    levels: int
    carry_cells: int
    cells: tuple[str, ...]


@dataclass
class _Node:
    """A piece of combinational logic; each input with the level that it costs."""

    name: str
    carry: bool
    inputs: list[tuple[int, int]] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


class Netlist:
    """A hierarchy of modules.

    Parameters
    ----------
    data : mapping
        What Yosys' `write_json` writes.
    top : str
        Name of the outermost module.
    """

    def __init__(self, data: Mapping[str, Any], top: str) -> None:
        self._modules: Mapping[str, Any] = data["modules"]
        self._top = top
        self._usage: dict[str, Usage] = {}

    def usage(self, module: str | None = None) -> Usage:
        """Needs of a module, with everything in it; without a name, of the outermost one.

        Inverters of the same wire are one LUT, those in front of flip-flops that invert are none.
        """
        name = module or self._top
        if name not in self._usage:
            total: Counter[str] = Counter()
            inverted: set[int] = set()
            absorbed = self._absorbed_bits(name)
            for cell in self._modules[name]["cells"].values():
                kind = cell["type"]
                if kind == "INV":
                    if cell["connections"]["O"][0] not in absorbed:
                        inverted.add(cell["connections"]["I"][0])
                    continue
                total.update(self.usage(kind) if self._is_module(kind) else resources_of(kind))
            if inverted:
                total["lut"] += len(inverted)
            self._usage[name] = dict(total)
        return dict(self._usage[name])

    def _absorbed_bits(self, module: str) -> set[int]:
        """Wires of a module that only enter inputs of flip-flops that can invert."""
        inside = self._modules[module]
        free: set[int] = set()
        others = {bit for port in inside["ports"].values() for bit in port["bits"]}
        for cell in inside["cells"].values():
            invertible = _FLIP_FLOP.fullmatch(cell["type"]) is not None
            for port, bits in cell["connections"].items():
                if cell["port_directions"].get(port) == "output":
                    continue
                (free if invertible and port in INVERTIBLE else others).update(bits)
        return free - others

    def blocks(self, depth: int) -> Iterator[tuple[str, str]]:
        """Instance path and module of every block down to a depth, outermost first."""

        def walk(module: str, path: str, left: int) -> Iterator[tuple[str, str]]:
            yield path, module
            if left:
                for name, cell in self._modules[module]["cells"].items():
                    if self._is_module(cell["type"]):
                        inner = f"{path}.{name}" if path else name
                        yield from walk(cell["type"], inner, left - 1)

        yield from walk(self._top, "", depth)

    def longest_path(self) -> Path:
        """The longest path between registers, memories and ports."""
        return _longest(self._nodes())

    def dsp_registers(self) -> int:
        """Flip-flops that belong into the DSPs they are next to, in three ranks.

        Those whose output only enters factors of DSPs, those after a product that enters nothing
        else, and those after these alone.
        """
        loads: Counter[int] = Counter()
        factors: Counter[int] = Counter()
        products: set[int] = set()
        flip_flops: dict[int, list[int]] = defaultdict(list)
        for _, kind, ports, directions in self._cells():
            for port, bits in ports.items():
                if directions[port] == "input":
                    loads.update(bits)
                    if kind == "DSP48E2" and port in ("A", "B"):
                        factors.update(bits)
                elif kind == "DSP48E2" and port == "P":
                    products.update(bits)
            if _FLIP_FLOP.fullmatch(kind) and ports["D"]:
                flip_flops[ports["D"][0]].append(ports["Q"][0])
        outputs = [q for qs in flip_flops.values() for q in qs]
        before = sum(factors[q] > 0 and factors[q] == loads[q] for q in outputs)
        first = [flip_flops[bit][0] for bit in products if bit in flip_flops and loads[bit] == 1]
        second = [flip_flops[bit][0] for bit in first if bit in flip_flops and loads[bit] == 1]
        return before + len(first) + len(second)

    def _is_module(self, kind: str) -> bool:
        module = self._modules.get(kind)
        if module is None:
            return False
        return not module["attributes"].keys() & {"blackbox", "whitebox"}

    def _cells(self) -> Iterator[tuple[str, str, dict[str, list[int]], dict[str, str]]]:
        """Every cell with its instance path, kind, wires and directions of ports, all flattened.

        Constants are left out of the wires.
        """
        fresh = iter(range(1, 1 << 60))

        def walk(
            module: str, path: str, wires: dict[int, int]
        ) -> Iterator[tuple[str, str, dict[str, list[int]], dict[str, str]]]:
            def wire(bit: int) -> int:
                if bit not in wires:
                    wires[bit] = next(fresh)
                return wires[bit]

            for name, cell in self._modules[module]["cells"].items():
                kind, connections = cell["type"], cell["connections"]
                inner = f"{path}.{name}" if path else name
                if not self._is_module(kind):
                    ports = {
                        port: [wire(bit) for bit in bits if isinstance(bit, int)]
                        for port, bits in connections.items()
                    }
                    yield inner, kind, ports, cell["port_directions"]
                    continue
                inside: dict[int, int] = {}
                for port, bits in connections.items():
                    own = self._modules[kind]["ports"][port]["bits"]
                    for bit, outer in zip(own, bits, strict=True):
                        if isinstance(bit, int) and isinstance(outer, int):
                            inside[bit] = wire(outer)
                yield from walk(kind, inner, inside)

        yield from walk(self._top, "", {})

    def _nodes(self) -> Iterator[_Node]:
        for name, kind, ports, directions in self._cells():
            ins = {port: bits for port, bits in ports.items() if directions[port] == "input"}
            outs = {port: bits for port, bits in ports.items() if directions[port] == "output"}
            label = f"{kind} {name}"
            if kind.startswith(("LUT", "INV", "MUXF")):
                yield _node(label, ins, outs, int(kind.startswith("LUT")))
            elif kind.startswith("CARRY"):
                carry = ins.pop("CI", [])
                node = _node(label, ins, outs, 1, carry=True)
                node.inputs += [(bit, 0) for bit in carry]
                yield node
            elif kind == "DSP48E2":
                data = {port: ins[port] for port in ("A", "B", "C", "D", "PCIN") if port in ins}
                yield _node(label, data, outs, 1)
            elif kind in LUTRAM and kind.startswith("RAM"):
                for port, bits in outs.items():
                    address = _address_of(port)
                    read = {p: b for p, b in ins.items() if address.fullmatch(p)}
                    yield _node(label, read, {port: bits}, 1)


def _address_of(port: str) -> re.Pattern[str]:
    """Names of the address ports that select an output of a memory of LUTs."""
    if port == "DPO":
        return re.compile(r"DPRA\d*")
    if port in ("SPO", "O"):
        return re.compile(r"A\d*")
    return re.compile(f"ADDR{port.removeprefix('DO')}")


def _node(
    name: str,
    inputs: Mapping[str, list[int]],
    outputs: Mapping[str, list[int]],
    cost: int,
    *,
    carry: bool = False,
) -> _Node:
    return _Node(
        name,
        carry,
        [(bit, cost) for bits in inputs.values() for bit in bits],
        [bit for bits in outputs.values() for bit in bits],
    )


def _longest(nodes: Iterator[_Node]) -> Path:
    """The longest path through logic.

    Raises
    ------
    ValueError
        If there is a loop.
    """
    every = list(nodes)
    driver = {bit: i for i, node in enumerate(every) for bit in node.outputs}
    followers: dict[int, list[int]] = defaultdict(list)
    waiting = [0] * len(every)
    for i, node in enumerate(every):
        sources = {driver[bit] for bit, _ in node.inputs if bit in driver}
        waiting[i] = len(sources)
        for source in sources:
            followers[source].append(i)
    # Levels, then carry cells: what takes longer at the same number of levels.
    length: list[tuple[int, int]] = [(0, 0)] * len(every)
    before: list[int | None] = [None] * len(every)
    ready = [i for i, count in enumerate(waiting) if not count]
    done = 0
    while ready:
        i = ready.pop()
        done += 1
        node = every[i]
        for bit, cost in node.inputs:
            source = driver.get(bit)
            levels, carries = length[source] if source is not None else (0, 0)
            here = (levels + cost, carries + node.carry)
            if here > length[i]:
                length[i], before[i] = here, source
        for follower in followers[i]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    if done < len(every):
        looped = next(node.name for node, count in zip(every, waiting, strict=True) if count)
        raise ValueError(f"logic runs in a loop through {looped}")
    if not every:
        return Path(0, 0, ())
    last: int | None = max(range(len(every)), key=lambda i: length[i])
    assert last is not None
    levels, carries = length[last]
    cells = []
    while last is not None:
        cells.append(every[last].name)
        last = before[last]
    return Path(levels, carries, tuple(reversed(cells)))
