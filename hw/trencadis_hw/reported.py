"""Errors of a program as one line and an exit status."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BAD_INPUT", "FAILED", "reported"]

FAILED = 1
BAD_INPUT = 2

Errors = tuple[type[Exception], ...]


@contextmanager
def reported(program: str, *, bad_input: Errors = (), failed: Errors = ()) -> Iterator[None]:
    """End the program with one line on stderr when one of these errors is raised.

    Parameters
    ----------
    program : str
        What the line begins with.
    bad_input : tuple of exception types
        A user's mistake: exit status 2. These come first, so they may be subclasses of the others.
    failed : tuple of exception types
        A failure of ours, or of a device: exit status 1.
    """
    try:
        yield
    except bad_input as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    except failed as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(FAILED) from None
