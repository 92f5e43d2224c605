"""A build as a value: files, and steps that make more files out of them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from trencadis_boards import Tool
from trencadis_format.errors import UserError

__all__ = ["BuildPlan", "PlanError", "Program", "Step"]


class PlanError(UserError):
    """There is no plan for what was asked. One line: subject, rule, value, remedy."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A tool.

    Attributes
    ----------
    name : str
        The program.
    product : str
        What people install to have it.
    distribution : str or None
        The Python package that brings it. Where the program is that of this environment, the
        package's version is taken: asked itself, it would compile WebAssembly for minutes first.
    versions : Tool or None
        Versions it was made for; None if every one will do.
    version_arguments : tuple of str
        With these it prints its version.
    module : str or None
        A module of ours, that the Python which runs the build runs, is the program.
    """

    name: str
    product: str
    versions: Tool | None = None
    distribution: str | None = None
    version_arguments: tuple[str, ...] = ("--version",)
    module: str | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """A run of a tool.

    Attributes
    ----------
    name, title : str
        Short name, for stamps and logs; what it does, for people.
    program : Program
        The tool.
    arguments : tuple of str
        Its arguments. Files are relative to the folder of the build, where it runs; `{out}` stands
        for the whole path of that folder.
    inputs, outputs : tuple of str
        Files that it reads and makes.
    """

    name: str
    title: str
    program: Program
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Files and steps.

    Attributes
    ----------
    files : mapping of str to str or bytes
        Files by their path, relative to the folder of the build.
    steps : tuple of Step
        Steps, in order; each needs only files and outputs of steps before it.
    reports : mapping of str to str
        Reports that tools leave if all goes well, by kind, for `reports.collect`.
    results : tuple of str
        What the build is for.

    Raises
    ------
    ValueError
        If a path leaves the folder, or a step needs what nothing makes.
    """

    files: Mapping[str, str | bytes]
    steps: tuple[Step, ...] = ()
    reports: Mapping[str, str] = field(default_factory=dict)
    results: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_paths(self.files)
        made = set(self.files)
        names = set()
        for step in self.steps:
            _check_paths((*step.inputs, *step.outputs))
            missing = sorted(set(step.inputs) - made)
            if missing:
                raise ValueError(f"step {step.name} needs {missing[0]}, which nothing makes")
            if step.name in names or not step.outputs:
                raise ValueError(f"step {step.name} must have a name of its own, and outputs")
            names.add(step.name)
            made |= set(step.outputs)
        _check_paths(self.reports.values())
        missing = sorted(set(self.results) - made)
        if missing:
            raise ValueError(f"{missing[0]} is to be delivered, but nothing makes it")

    @property
    def digest(self) -> str:
        """Fingerprint of files and steps."""
        digest = hashlib.sha256()
        for path, content in sorted(self.files.items()):
            data = content.encode() if isinstance(content, str) else content
            digest.update(f"{path}\0{len(data)}\0".encode() + data)
        for step in self.steps:
            digest.update(repr((step.name, step.program, step.arguments)).encode())
        return digest.hexdigest()


def _check_paths(paths: Iterable[str]) -> None:
    for name in paths:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name:
            raise ValueError(f"{name!r} must be a plain path inside the folder of the build")
