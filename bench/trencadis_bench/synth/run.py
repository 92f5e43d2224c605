"""Resources of a board's kernel in an UltraScale+ part, as Yosys synthesises it. `make synth`.

No figure here is Vivado's. Yosys counts every LUT by itself, where a LUT6 holds two small ones; it
leaves registers in front of and after DSPs outside of them; it places nothing. One core is
synthesised with everything that is around the cores; more cores are multiples of it.
"""

import hashlib
import importlib.resources
import itertools
import json
import math
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from trencadis_bench.synth.netlist import RESOURCES, Netlist
from trencadis_boards import Board, load_board
from trencadis_format.command_line import reported
from trencadis_format.config import KernelConfig
from trencadis_format.errors import FailureError
from trencadis_format.files import make_folder, write_atomically
from trencadis_sim.verilated.verilator import kernel_files

__all__ = [
    "SynthesisError",
    "configuration_of",
    "cores_that_fit",
    "design_of",
    "load_baseline",
    "summarise",
    "synthesise",
    "verilog_of",
]

TOP = "trencadis"
BLOCK_DEPTH = 3
"""Blocks down to this depth below the kernel are synthesised on their own..."""
SMALL_BLOCK = 40_000
"""...unless their Verilog has fewer characters than this..."""
REPEATED = 4
"""...and so is, at any depth, what occurs at least so often in another block."""
CORE = "core_0"

SCRIPT = """read_verilog {key}.v
synth_xilinx -family xcup -uram -noiopad -noclkbuf -flatten -top {top} -run begin:check
opt_merge
clean
write_json {key}.tmp
"""

_MODULE = re.compile(r"^module (\\\S+ |\w+)(.*?)^endmodule\n", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"^  (?:input|output) .*;$", re.MULTILINE)
_INSTANCE = re.compile(r"^  (\\\S+ |\w+) (?:\\\S+ |\w+) ?\(\n", re.MULTILINE)


class SynthesisError(FailureError):
    """There is no result. One line: what is missing or failed, and the remedy."""


def verilog_of(kernel: KernelConfig, build: Path, progress: Callable[[str], None]) -> str:
    """The Verilog of a kernel with one core; generated unless it is kept in `build`."""
    return kernel_files(replace(kernel, cores=1), build / "synth", progress)["trencadis.v"]


def design_of(verilog: str) -> str:
    """Fingerprint of Verilog: what a result was made from."""
    return hashlib.sha256(verilog.encode()).hexdigest()[:16]


def synthesise(verilog: str, folder: Path, progress: Callable[[str], None]) -> Netlist:
    """The cells of a kernel with one core.

    Parameters
    ----------
    verilog : str
        The kernel's, as `verilog_of` gives it.
    folder : Path
        Where Verilog, netlist and log of every block are kept: a block that has not changed is not
        synthesised again.
    progress : callable
        Called with a message at each step.

    Raises
    ------
    SynthesisError
        If Yosys is missing or fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = _yosys_version()
    modules = _modules(verilog)
    blocks = _blocks(modules)
    netlists: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        progress(f"synthesising block {number + 1} of {len(blocks)}, {block}")
        netlists[block] = _synthesise_block(block, blocks, modules, folder, version)
    progress("reading the netlist")
    return Netlist({"modules": netlists}, TOP)


def _synthesise_block(
    block: str, blocks: list[str], modules: Mapping[str, str], folder: Path, version: str
) -> dict[str, Any]:
    """The netlist of a block, of which other blocks are instances."""
    inside, outside = _contents(block, blocks, modules)
    verilog = "\n".join(
        [*(modules[name] for name in inside), *(_black_box(modules[name]) for name in outside)]
    )
    key = hashlib.sha256(f"{version}\0{SCRIPT}\0{verilog}".encode()).hexdigest()[:16]
    netlist = folder / f"{key}.json"
    if not netlist.exists():
        (folder / f"{key}.v").write_text(verilog)
        (folder / f"{key}.ys").write_text(SCRIPT.format(key=key, top=block))
        done = subprocess.run(
            ["yosys", "-q", f"{key}.ys"], cwd=folder, capture_output=True, text=True, check=False
        )
        written = folder / f"{key}.tmp"
        if done.returncode or not written.exists():
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
            raise SynthesisError(
                f"yosys failed with exit status {done.returncode} on block {block}: "
                f"{lines[0] if lines else 'no message'}; try {folder / key}.ys"
            )
        # Only the block itself, and only what is read of it.
        found = json.loads(written.read_text())["modules"][block]
        kept = {
            "attributes": {},
            "ports": {name: {"bits": port["bits"]} for name, port in found["ports"].items()},
            "cells": {
                name: {part: cell[part] for part in ("type", "port_directions", "connections")}
                for name, cell in found["cells"].items()
                if not cell["type"].startswith("$")
            },
        }
        write_atomically(netlist, json.dumps(kept).encode())
        written.unlink()
    return json.loads(netlist.read_text())


def _yosys_version() -> str:
    program = shutil.which("yosys")
    if program is None:
        raise SynthesisError(
            "yosys is needed to synthesise and is not installed; install it with your system's "
            "package manager (Debian: apt install yosys)"
        )
    done = subprocess.run([program, "-V"], capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split()[:2])


def _modules(verilog: str) -> dict[str, str]:
    """Text of every module, by name."""
    return {match[1].strip().lstrip("\\"): match[0] for match in _MODULE.finditer(verilog)}


def _children(text: str, modules: Mapping[str, str]) -> list[str]:
    """Modules of which a module has instances."""
    found = (child.strip().lstrip("\\") for child in _INSTANCE.findall(text))
    return list(dict.fromkeys(child for child in found if child in modules))


def _blocks(modules: Mapping[str, str]) -> list[str]:
    """Modules that are synthesised on their own, outermost first."""
    blocks, level = [TOP], [TOP]
    for depth in itertools.count(1):
        below = []
        for name in level:
            text = modules[name]
            counts = Counter(child.strip().lstrip("\\") for child in _INSTANCE.findall(text))
            for child in _children(text, modules):
                large = depth <= BLOCK_DEPTH and len(modules[child]) >= SMALL_BLOCK
                a_core = depth == 1 and child.startswith("core")
                if large or a_core or counts[child] >= REPEATED:
                    blocks.append(child)
                below.append(child)
        level = list(dict.fromkeys(below))
        if not level:
            return list(dict.fromkeys(blocks))
    raise AssertionError("modules are nested without end")


def _contents(
    block: str, blocks: list[str], modules: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Modules that are part of a block, and blocks of which it has instances."""
    inside, outside, left = [block], [], _children(modules[block], modules)
    while left:
        name = left.pop()
        if name in blocks:
            outside.append(name)
        elif name not in inside:
            inside.append(name)
            left += _children(modules[name], modules)
    return inside, sorted(set(outside))


def _black_box(text: str) -> str:
    """A module without what is in it."""
    header = text[: text.index(");\n") + 3]
    ports = "".join(f"{line}\n" for line in _PORT.findall(text))
    return f"(* blackbox *)\n{header}{ports}endmodule\n"


def configuration_of(kernel: KernelConfig) -> str:
    """Fingerprint of a kernel but for its number of cores: what a result holds for."""
    return f"{replace(kernel, cores=1).digest:016x}"


def summarise(board: Board, kernel: KernelConfig, verilog: str, netlist: Netlist) -> dict[str, Any]:
    """Everything that is reported of a board's kernel, JSON-ready."""
    total = netlist.usage()
    modules = dict(netlist.blocks(2))
    core = netlist.usage(modules[CORE])
    around = {name: total.get(name, 0) - core.get(name, 0) for name in total}
    path = netlist.longest_path()
    multipliers = kernel.core.multipliers
    fits = cores_that_fit(board, core, around)
    return {
        "board": board.name,
        "tool": f"{_yosys_version()}, synth_xilinx -family xcup",
        "configuration": configuration_of(kernel),
        "design": design_of(verilog),
        "multipliers_per_core": multipliers,
        "words_per_core": kernel.core.batch_lanes,
        "core": core,
        "around_cores": around,
        "lut_per_multiplier": core["lut"] / multipliers,
        "dsp_registers_outside": netlist.dsp_registers(),
        "logic_levels": path.levels,
        "carry_cells": path.carry_cells,
        "longest_path": [path.cells[0], path.cells[-1]] if path.cells else [],
        "cores_that_fit": fits,
        "blocks": _block_table(netlist),
    }


def cores_that_fit(
    board: Board, core: Mapping[str, float], around: Mapping[str, float]
) -> dict[str, int]:
    """Cores on the whole board by resource, and `all` for what fits them all.

    On a part with regions a kernel is in one of them, and regions have equal kernels.
    """
    regions = [region.resources for region in board.regions] or [board.resources]
    kernels_per_region = max(1, board.compute_units // len(regions))
    fits = {}
    for name in RESOURCES:
        if not core.get(name):
            continue
        room = min(board.budget * region.get(name, 0) for region in regions) / kernels_per_region
        cores = max(0, math.floor((room - around.get(name, 0)) / core[name]))
        fits[name] = cores * board.compute_units
    fits["all"] = min(fits.values())
    return fits


def _block_table(netlist: Netlist) -> list[dict[str, Any]]:
    """Instances of the same module under the same parent, together."""
    counts: Counter[tuple[str, str]] = Counter()
    for path, module in netlist.blocks(BLOCK_DEPTH):
        if path:
            plain = ".".join(re.sub(r"(_\d+)+$", "", part) for part in path.split("."))
            counts[plain, module] += 1
    merged: dict[str, Counter[str]] = {}
    for (path, module), count in counts.items():
        entry = merged.setdefault(path, Counter())
        entry["count"] += count
        for name, amount in netlist.usage(module).items():
            entry[name] += count * amount  # type: ignore[assignment]
    return [{"block": path, **merged[path]} for path in sorted(merged)]


def load_baseline(board: str) -> dict[str, Any] | None:
    """The result that is kept with the sources, if there is one."""
    file = importlib.resources.files("trencadis_bench.synth").joinpath("baselines", f"{board}.json")
    return json.loads(file.read_text("utf-8")) if file.is_file() else None


def _comparison(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> Table:
    table = Table(title=f"{now['board']}, by {now['tool']}", title_justify="left")
    if before and before["design"] != now["design"]:
        table.caption = "the baseline was made from other RTL than this"
    for heading in ("figure", "now", "baseline", "change"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")

    def row(label: str, value: float, old: float | None) -> None:
        shown = f"{value:,.1f}".removesuffix(".0")
        if old is None:
            table.add_row(label, shown, "", "")
            return
        change = f"{100 * (value - old) / old:+.1f} %" if old else ("" if value == old else "new")
        table.add_row(label, shown, f"{old:,.1f}".removesuffix(".0"), change)

    for place in ("core", "around_cores"):
        for name in (*RESOURCES, "lutram"):
            old = before[place].get(name, 0) if before else None
            row(f"{place.replace('_', ' ')}: {name}", now[place].get(name, 0), old)
    for name in ("lut_per_multiplier", "dsp_registers_outside", "logic_levels", "carry_cells"):
        row(name.replace("_", " "), now[name], before[name] if before else None)
    for name, cores in now["cores_that_fit"].items():
        old = before["cores_that_fit"].get(name, 0) if before else None
        row(f"cores that fit: {name}", cores, old)
    return table


def _blocks_table(result: Mapping[str, Any]) -> Table:
    table = Table(title="blocks of one core, and what is around it", title_justify="left")
    table.add_column("block")
    names = ("count", *RESOURCES, "lutram")
    for name in names:
        table.add_column(name, justify="right")
    for block in result["blocks"]:
        depth = block["block"].count(".")
        if block.get("lut", 0) + block.get("ff", 0) < 50 and depth > 2:
            continue
        label = "  " * depth + block["block"].rsplit(".", 1)[-1]
        table.add_row(label, *(f"{block.get(name, 0):,g}" for name in names))
    return table


@click.command()
@click.argument("board")
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to write a new baseline to.")
@click.option("--strict", is_flag=True, help="Fail if a resource grew by more than 2 %.")
@reported("synth")
def main(board: str, build: Path, keep: Path | None, strict: bool) -> None:
    """Synthesise the kernel of BOARD, and write BUILD/synth/BOARD.json."""
    started = time.perf_counter()
    messages = Console(stderr=True)
    description = load_board(board)
    kernel = description.kernel
    with messages.status("synthesising") as status:
        verilog = verilog_of(kernel, build, status.update)
        netlist = synthesise(verilog, build / "synth" / "netlists", status.update)
        result = summarise(description, kernel, verilog, netlist)
    text = (json.dumps(result, indent=1) + "\n").encode()
    write_atomically(build / "synth" / f"{description.name}.json", text)
    before = load_baseline(description.name)
    console = Console(width=110)
    console.print(_blocks_table(result))
    console.print(_comparison(result, before))
    console.print(f"longest path: {' ... '.join(result['longest_path'])}", highlight=False)
    messages.print(f"{time.perf_counter() - started:.0f} s")
    if keep is not None:
        make_folder(keep)
        write_atomically(keep / f"{description.name}.json", text)
    if strict and before and _grew(result, before):
        raise FailureError(_grew(result, before))


def _grew(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """The resources that grew by more than 2 %, in words."""
    grown = [
        f"{name} from {before['core'].get(name, 0):,g} to {now['core'].get(name, 0):,g}"
        for name in RESOURCES
        if now["core"].get(name, 0) > 1.02 * before["core"].get(name, 0)
    ]
    return f"a core takes more: {', '.join(grown)}" if grown else ""


if __name__ == "__main__":
    main()
