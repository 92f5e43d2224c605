"""Verilog of a kernel, as text; nothing is written."""

import gc
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.back import verilog

from trencadis_format.config import KernelConfig
from trencadis_hw.core import Core
from trencadis_hw.kernel import CORE_NAME, Kernel
from trencadis_hw.maps.core import MapCore

__all__ = ["KERNEL_NAME", "kernel_verilog", "loop_over_zeros", "merge_equal_modules"]

KERNEL_NAME = "trencadis"

_MODULE = re.compile(r"^module (\\\S+ |\w+)(.*?)^endmodule\n", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(
    r"^  (?P<module>\\\S+ |\w+) (?P<instance>\\?\S+ ) ?\(\n(?P<connections>.*?)^  \);\n",
    re.MULTILINE | re.DOTALL,
)
_PORT = re.compile(r"\.(\\\S+ |\w+)\(")
_GENERATED = re.compile(r"\\(?:\$auto|port)\$\S+ ")
_ZEROS = re.compile(
    r"^  initial begin\n(?P<rows>(?:    (?P<name>\\?[^\s\[]+ ?)\[0\] = (?P<zero>\d+'h0+);\n)"
    r"(?:    (?P=name)\[\d+\] = (?P=zero);\n)+)  end\n",
    re.MULTILINE,
)
_CONSTANT_PROCESS = re.compile(r"always @\*\n\s+\S+(?: \[[\d:]+\])? = \d+'[hbd](?!0+;)[0-9a-f]+;\n")


def kernel_verilog(config: KernelConfig) -> str:
    """The Verilog of a kernel; the same text for the same configuration, wherever it is made."""
    with _no_collection():
        text = verilog.convert(Kernel(config), name=KERNEL_NAME, emit_src=False)
        made = Core(config) if config.core.map is None else MapCore(config)
        core = verilog.convert(made, name=CORE_NAME, emit_src=False)
    text += core[core.index("(* ") :]
    # A process that reads nothing never runs in simulation; bits left at 0 do not need it to.
    if found := _CONSTANT_PROCESS.search(text):
        raise AssertionError(f"a constant is driven by a process that never runs: {found[0]!r}")
    return loop_over_zeros(merge_equal_modules(text))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Leave garbage alone: looking for it among millions of live nodes takes half the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def loop_over_zeros(text: str) -> str:
    """The same design with memories that begin as zeros filled by loops, not row by row.

    What the rows would take is most of the text, and of the time of tools that expand it.
    """
    count = 0

    def loop(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        row, rows = f"row_{count}", match["rows"].count("\n")
        return (
            f"  integer {row};\n"
            f"  initial for ({row} = 0; {row} < {rows}; {row} = {row} + 1) "
            f"{match['name']}[{row}] = {match['zero']};\n"
        )

    return _ZEROS.sub(loop, text)


def merge_equal_modules(text: str) -> str:
    """The same design with every module that occurs many times written once.

    Amaranth writes a module for each instance, named after its place in the hierarchy. Modules are
    merged if their text is equal once generated names are numbered afresh and their own submodules
    are merged. Tools that work module by module are faster by what this saves.
    """
    header = text[: text.index("(* ")]
    modules = {match[1].strip().lstrip("\\"): match[2] for match in _MODULE.finditer(text)}
    merged: dict[str, tuple[str, dict[str, str]]] = {}
    by_body: dict[str, str] = {}
    kept: dict[str, str] = {}

    def merge(name: str) -> tuple[str, dict[str, str]]:
        """The module's new name, and new names of its ports."""
        if name in merged:
            return merged[name]

        def connect(match: re.Match[str]) -> str:
            child = match["module"].strip().lstrip("\\")
            if child not in modules:
                return match[0]
            new_name, ports = merge(child)
            connections = _PORT.sub(
                lambda port: f".{ports.get(port[1], port[1])}(", match["connections"]
            )
            return f"  {new_name} {match['instance']}(\n{connections}  );\n"

        body = _INSTANCE.sub(connect, modules[name])
        fresh: dict[str, str] = {}

        def number(match: re.Match[str]) -> str:
            return fresh.setdefault(match[0], f"generated_{len(fresh)} ")

        body = _GENERATED.sub(number, body)
        key = hashlib.sha256(body.encode()).hexdigest()
        if key not in by_body:
            plain = re.sub(r"(_\d+)+(?=\.|$)", "", name.removeprefix(f"{KERNEL_NAME}."))
            plain = re.sub(r"\W", "_", plain)
            unique, count = plain, 1
            while unique in kept:
                count += 1
                unique = f"{plain}_{count}"
            by_body[key] = unique
            kept[unique] = body
        merged[name] = by_body[key], fresh
        return merged[name]

    merge(KERNEL_NAME)
    assert len(merged) == len(modules), "an instance was not recognised"
    return header + "".join(f"module {name}{body}endmodule\n\n" for name, body in kept.items())
