"""Carrying out a build: files written, steps run that have not been, and never a half-made file.

A step is finished when its *stamp* says so: a file, written last, that holds fingerprints of its
inputs, its command and its tool, and of what it made. Whatever is missing, changed, or left behind
by a step that was interrupted is made again.
"""

import errno
import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from trencadis_flows.plan import BuildPlan, Program, Step
from trencadis_format.errors import FailureError, FileError
from trencadis_format.files import write_atomically

__all__ = [
    "BuildError",
    "MissingToolError",
    "check_programs",
    "find_program",
    "install",
    "run_steps",
    "write_files",
]

STAMPS = ".steps"
LOGS = "logs"
VERSION_TIMEOUT_S = 120
_VERSION = re.compile(r"(?<![\w.])v?(\d+\.\d+(?:\.\d+)*)")


class BuildError(FailureError):
    """A step failed. One line: step, what happened, where to look, what to do."""


class MissingToolError(BuildError):
    """A tool is not there, or not in a version that will do."""


def write_files(plan: BuildPlan, out: Path) -> None:
    """Write the files of a plan; those that are as they should be are not touched.

    Raises
    ------
    BuildError
        If they cannot be written.
    """
    for name, content in plan.files.items():
        path = out / name
        data = content.encode() if isinstance(content, str) else content
        try:
            if path.is_file() and path.read_bytes() == data:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        except FileError as error:
            raise BuildError(str(error)) from error
        except OSError as error:
            raise BuildError(f"{path}: cannot be written: {_reason(error)}") from error


def install(source: Path, target: Path) -> None:
    """Copy a finished file to where it is looked for.

    Raises
    ------
    BuildError
        If that fails.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, source.read_bytes())
    except FileError as error:
        raise BuildError(str(error)) from error
    except OSError as error:
        raise BuildError(f"{target}: cannot be written: {_reason(error)}") from error


def run_steps(
    plan: BuildPlan, out: Path, resume: str, report: Callable[[str], None] = lambda text: None
) -> None:
    """Run the steps of a plan that are not finished.

    Parameters
    ----------
    plan : BuildPlan
        The plan; its files have been written.
    out : Path
        The folder of the build.
    resume : str
        The command that goes on with a build, for messages.
    report : callable
        Called with a message at each step.

    Raises
    ------
    MissingToolError
        If a tool is missing or in a wrong version.
    BuildError
        If a step fails.
    """
    _check_tools([step.program for step in plan.steps if not _finished(step, out, None)], resume)
    identities: dict[str, str] = {}
    for step in plan.steps:
        name = step.program.name
        # A step that is finished does not need its tool.
        if _finished(step, out, None):
            report(f"{step.name}: finished before")
            continue
        if name not in identities:
            identities[name] = find_program(step.program, resume)
        if _finished(step, out, identities[name]):
            report(f"{step.name}: finished before")
            continue
        report(f"{step.name}: {step.title}")
        _remove_results(plan, step, out)
        _run(step, out, identities[name], resume)


def check_programs(programs: Sequence[Program], out: Path, resume: str) -> None:
    """Look for all programs of a build before minutes are spent on generating its files.

    A build that goes on needs the programs of its unfinished steps alone: `run_steps` looks for
    them.

    Raises
    ------
    MissingToolError
        If programs are missing; all of them are named, in one line.
    """
    if not (out / STAMPS).is_dir():
        _check_tools(programs, resume)


def _check_tools(programs: Sequence[Program], resume: str) -> None:
    """Name all programs that lack, before any of them runs for minutes."""
    missing = {
        program.name: _wanted(program)
        for program in programs
        if program.module is None and locate(program.name) is None
    }
    if missing:
        are = "is" if len(missing) == 1 else "are"
        products = ", ".join(dict.fromkeys(missing.values()))
        raise MissingToolError(
            f"{', '.join(missing)} {are} not installed or not on the PATH; install {products}, "
            f"then go on with: {resume}"
        )


def _wanted(program: Program) -> str:
    """Name the product to install, with its versions."""
    if program.versions is None:
        return program.product
    return f"{program.product} {program.versions.oldest} to {program.versions.newest}"


def _packaged_version(program: Program, path: str) -> str | None:
    """The version of a program of this environment's packages, without running it."""
    beside = Path(sys.executable).parent
    if program.distribution is None or Path(path).parent != beside:
        return None
    try:
        return importlib.metadata.version(program.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _told_version(program: Program, path: str, resume: str) -> str:
    """The version that a program tells; empty if it tells none."""
    try:
        done = subprocess.run(
            [path, *program.version_arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingToolError(
            f"{program.name} does not tell its version ({error}); install {_wanted(program)}, "
            f"then go on with: {resume}"
        ) from error
    found = _VERSION.search(done.stdout) or _VERSION.search(done.stderr)
    return found[1] if found else ""


def locate(name: str) -> str | None:
    """A program on the PATH, or else beside the Python that runs this; None if it is nowhere."""
    beside = Path(sys.executable).parent / name
    return shutil.which(name) or shutil.which(beside)


def _command(program: Program) -> list[str]:
    if program.module is not None:
        return [sys.executable, "-m", program.module]
    return [locate(program.name) or program.name]


def find_program(program: Program, resume: str) -> str:
    """The version of an installed program.

    Parameters
    ----------
    program : Program
        The program.
    resume : str
        The command that goes on with the build, for messages.

    Raises
    ------
    MissingToolError
        If it is not installed, or not in a version that will do.
    """
    if program.module is not None:
        return importlib.metadata.version("trencadis")
    _check_tools([program], resume)
    path = locate(program.name) or program.name
    packaged = _packaged_version(program, path)
    version = _told_version(program, path, resume) if packaged is None else packaged
    if program.versions is not None and not program.versions.takes(version):
        raise MissingToolError(
            f"{program.name} is version {version or 'unknown'}; install {_wanted(program)}, "
            f"then go on with: {resume}"
        )
    return version


def _stamp_path(step: Step, out: Path) -> Path:
    return out / STAMPS / f"{step.name}.json"


def _finished(step: Step, out: Path, version: str | None) -> bool:
    """Tell whether a step's stamp is there and true; by any version of its tool if that is None."""
    try:
        stamp = json.loads(_stamp_path(step, out).read_text())
        outputs = {name: _fingerprint(out / name) for name in step.outputs}
        return bool(
            stamp["outputs"] == outputs
            and stamp["inputs"] == _input_digest(step, out)
            and (version is None or stamp["version"] == version)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remove_results(plan: BuildPlan, step: Step, out: Path) -> None:
    """Remove the results of an earlier build, so that one that stops leaves none."""
    later = plan.steps[plan.steps.index(step) :]
    for name in {name for made in later for name in made.outputs} & set(plan.results):
        try:
            (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise BuildError(f"{out / name}: cannot be removed: {_reason(error)}") from error


def _run(step: Step, out: Path, version: str, resume: str) -> None:
    log = out / LOGS / f"{step.name}.log"
    try:
        _stamp_path(step, out).unlink(missing_ok=True)
        for name in step.outputs:
            (out / name).unlink(missing_ok=True)
            (out / name).parent.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        inputs = _input_digest(step, out)
        arguments = [text.replace("{out}", str(out.resolve())) for text in step.arguments]
        with log.open("wb") as file:
            done = subprocess.run(
                [*_command(step.program), *arguments],
                cwd=out,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
    except OSError as error:
        raise BuildError(
            f"step {step.name} could not run: {_reason(error)}; then go on with: {resume}"
        ) from error
    if done.returncode:
        how = f"exit status {done.returncode}"
        if done.returncode < 0:
            how = f"signal {-done.returncode}"
        raise BuildError(
            f"step {step.name} failed: {step.program.name} ended with {how}: {_complaint(log)}; "
            f"see {log}, then go on with: {resume}"
        )
    try:
        # Some tools die without saying so.
        outputs = {name: _fingerprint(out / name) for name in step.outputs}
        stamp = {"inputs": inputs, "outputs": outputs, "version": version}
        path = _stamp_path(step, out)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(stamp, indent=1, sort_keys=True).encode())
    except FileError as error:
        raise BuildError(
            f"step {step.name} could not be finished: {error}; go on with: {resume}"
        ) from error
    except FileNotFoundError as error:
        raise BuildError(
            f"step {step.name} failed: {step.program.name} ended well but left no "
            f"{Path(error.filename).name}; see {log}, then go on with: {resume}"
        ) from error
    except OSError as error:
        raise BuildError(
            f"step {step.name} could not be finished: {_reason(error)}; go on with: {resume}"
        ) from error


def _complaint(log: Path) -> str:
    """The line of a log that says what went wrong."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    lines = [line for line in lines if line]
    errors = [line for line in lines if re.match(r"(\[?\w*\]? ?)?(ERROR|Error)\b", line)]
    return (errors or lines[-1:] or ["it said nothing"])[0][:300]


def _input_digest(step: Step, out: Path) -> str:
    digest = hashlib.sha256(repr((step.program.name, step.arguments)).encode())
    for name in step.inputs:
        digest.update(f"\0{name}\0{_fingerprint(out / name)}".encode())
    return digest.hexdigest()


def _fingerprint(path: Path) -> str:
    """Digest of a file's contents; None for an empty file.

    Raises
    ------
    FileNotFoundError
        If there is no file, or an empty one.
    """
    digest = hashlib.sha256()
    empty = True
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            empty = False
    if empty:
        raise FileNotFoundError(errno.ENOENT, "is empty", str(path))
    return digest.hexdigest()


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; make room"
    return error.strerror or str(error)
