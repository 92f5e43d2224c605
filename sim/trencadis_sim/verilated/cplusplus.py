"""C++ into shared libraries: sources in few units of about the same size, several at a time."""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trencadis_format.errors import FailureError

__all__ = ["CppError", "Unit", "compile_units", "group_sources", "link", "run_tool"]

POLL_S = 0.02
ENDING_S = 10.0
"""Seconds that compilers have to end after they have been killed."""


class CppError(FailureError):
    """A tool failed. One line: which, how, and the first error it reported."""


@dataclass(frozen=True)
class Unit:
    """A unit of compilation: one run of the compiler makes an object of it.

    Attributes
    ----------
    source : Path
        The file; its object has the same name with `.o`.
    flags : tuple of str
        Flags of the compiler.
    """

    source: Path
    flags: tuple[str, ...]


def group_sources(
    sources: Sequence[Path], unit_bytes: int, directory: Path, name: str
) -> list[Path]:
    """Put sources together into files of about the same size, at most `unit_bytes` if possible.

    Every file takes the compiler a second for the headers alone, and files of the same size keep
    all processors busy to the end.

    Parameters
    ----------
    sources : sequence of Path
        C++ files that may be put one after the other.
    unit_bytes : int
        Size that is enough for a file.
    directory : Path
        Where to write the files.
    name : str
        What their names begin with.

    Returns
    -------
    list of Path
        The files, the largest first.
    """
    texts = sorted((path.read_text() for path in sources), key=len, reverse=True)
    count = max(1, -(-sum(map(len, texts)) // unit_bytes))
    groups: list[list[str]] = [[] for _ in range(min(count, len(texts)))]
    for text in texts:
        min(groups, key=lambda group: sum(map(len, group))).append(text)
    groups.sort(key=lambda group: -sum(map(len, group)))
    files = []
    for number, group in enumerate(groups):
        files.append(directory / f"{name}{number}.cpp")
        files[-1].write_text("\n".join(group))
    return files


@contextlib.contextmanager
def _termination_raised() -> Iterator[None]:
    """SIGTERM raises `SystemExit` in the context, where nothing else has been made of it."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@_termination_raised()
def compile_units(
    units: Sequence[Unit],
    directory: Path,
    environment: Mapping[str, str],
    report: Callable[[str], None],
    *,
    jobs: int | None = None,
) -> list[Path]:
    """Compile units, several at the same time; nothing runs on when this returns or raises.

    In the main thread a SIGTERM that nobody else handles ends the program with `SystemExit`, after
    the compilers: it does not reach these itself.

    Parameters
    ----------
    units : sequence of Unit
        What to compile, what takes longest first.
    directory : Path
        Where compilers run and objects are written.
    environment : mapping of str to str
        Environment of the compilers.
    report : callable
        Told how many units are done.
    jobs : int, optional
        Compilers at the same time; by default one a processor.

    Returns
    -------
    list of Path
        The objects, in the order of the units.

    Raises
    ------
    CppError
        If the compiler fails.
    """
    jobs = jobs or os.cpu_count() or 1
    objects = [directory / f"{unit.source.stem}.o" for unit in units]
    waiting = list(zip(units, objects, strict=True))
    running: list[tuple[subprocess.Popen[bytes], Path]] = []
    done = 0
    report(f"compiling C++: 0 of {len(units)} files")
    # Compilers, and what they start, hold one end of a pipe; the other tells when all are gone.
    gone, held = os.pipe()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                unit, target = waiting.pop(0)
                command = ["g++", *unit.flags, "-c", str(unit.source), "-o", str(target)]
                log = target.with_suffix(".log")
                with log.open("wb") as errors:
                    process = subprocess.Popen(
                        command,
                        cwd=directory,
                        env=environment,
                        stdout=errors,
                        stderr=errors,
                        process_group=0,
                        pass_fds=(held,),
                    )
                running.append((process, log))
            time.sleep(POLL_S)
            for process, log in [entry for entry in running if entry[0].poll() is not None]:
                running.remove((process, log))
                _check("g++", process.returncode, log.read_text(errors="replace"))
                done += 1
                report(f"compiling C++: {done} of {len(units)} files")
    finally:
        for process, _ in running:
            # g++ is only a driver: what it has started must end too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(held)
        select.select([gone], [], [], ENDING_S)
        os.close(gone)
    return objects


def link(
    objects: Sequence[Path], target: Path, directory: Path, environment: Mapping[str, str]
) -> None:
    """Link objects into a shared library.

    Raises
    ------
    CppError
        If the linker fails.
    """
    command = ["g++", "-shared", *map(str, objects), "-pthread", "-o", str(target)]
    run_tool(command, directory, environment)


def run_tool(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> str:
    """Run a tool to its end; what it wrote to its output.

    Raises
    ------
    CppError
        If it fails.
    """
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    _check(command[0], done.returncode, done.stderr or done.stdout)
    return done.stdout


def _check(tool: str, status: int, output: str) -> None:
    if status:
        lines = output.strip().splitlines() or ["no output"]
        first = next((line for line in lines if "rror" in line), lines[-1])
        raise CppError(f"{tool} failed with exit status {status}: {first}")
