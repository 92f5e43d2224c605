"""The guard at each command's edge: errors of a program as one line and an exit status."""

import contextlib
import hashlib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trencadis_format.errors import FailureError, UserError
from trencadis_format.files import write_atomically
from trencadis_format.user_cache import default_folder, open_cache

__all__ = [
    "BAD_INPUT",
    "BROKEN_PIPE",
    "FAILED",
    "INTERRUPTED",
    "load_command",
    "one_line",
    "reported",
]

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130
"""Exit status of a program that SIGINT ends, as shells have it."""
BROKEN_PIPE = 141
"""Exit status of a program that SIGPIPE ends, as shells have it."""

MAX_CHARACTERS = 2000
"""Length of a line at most; names in files that come from anywhere may have millions."""

PASSING = ("click", "_pytest")
"""Packages whose exceptions are not errors of the program."""


@contextmanager
def reported(program: str) -> Iterator[None]:
    """End the program with one line on stderr: status 2 for a mistake, 1 for a failure.

    Decorates a command (below its options, so that all of it is guarded), or guards a block. An
    error that is both is a mistake: of a device, one that the user can mend. What nobody has
    foreseen is called a bug, with status 1; its traceback is written to a file in the user's cache,
    which the line names.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files need not be text.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        _end(program, str(error), BAD_INPUT)
    except FailureError as error:
        _end(program, str(error), FAILED)
    except KeyboardInterrupt:
        _end(program, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        _silence()
        raise SystemExit(BROKEN_PIPE) from None
    except OSError as error:
        reason = error.strerror or str(error)
        if error.filename is not None:
            _end(program, f"{os.fsdecode(error.filename)}: {reason}", BAD_INPUT)
        _silence()
        _end(program, reason, FAILED)
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        _end(program, f"not enough memory{reason}; use fewer inputs, or a smaller model", FAILED)
    except RecursionError:
        _end(program, "the input is nested too deeply; simplify it", BAD_INPUT)
    except Exception as error:
        if type(error).__module__.partition(".")[0] in PASSING:
            raise
        kept = _keep(program, "".join(traceback.format_exception(error)))
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        report = f"please report it with {kept}" if kept else "please report it"
        _end(program, f"this is a bug in Trencadis ({what}); {report}", FAILED)


def load_command(program: str, module: str, extra: str) -> Callable[[], None]:
    """Import a program's `main`, which needs packages that the light installation does not have.

    Ends the program with one line and status 2 if one of the packages is missing.
    """
    with reported(program):
        try:
            return importlib.import_module(module).main
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("trencadis"):
                raise
            raise UserError(
                f"needs the package {error.name}, which is not installed; install it with: "
                f"pip install 'trencadis[{extra}]'"
            ) from error


def one_line(text: str) -> str:
    """Make one line of a message, without characters that a terminal would obey."""
    shown = text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} ..."
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in shown
    )


def _end(program: str, message: str, status: int) -> None:
    with contextlib.suppress(OSError):
        print(f"{program}: {one_line(message)}", file=sys.stderr, flush=True)
    raise SystemExit(status) from None


def _silence() -> None:
    """Let nothing be written to an output that takes nothing, as Python does when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _keep(program: str, trace: str) -> Path | None:
    """Write a traceback where the user finds it; None if that cannot be done."""
    name = (
        f"{Path(program).name}-{hashlib.sha256(trace.encode(errors='replace')).hexdigest()[:8]}.txt"
    )
    try:
        path = open_cache(default_folder("bugs")).folder / name
        write_atomically(path, trace.encode(errors="replace"))
    except UserError:
        return None
    return path
