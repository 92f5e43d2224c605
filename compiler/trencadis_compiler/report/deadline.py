"""Seconds after which a trial is given up."""

import time
from collections.abc import Callable

__all__ = ["OutOfTime", "limited"]


class OutOfTime(Exception):
    """A trial was given up.

    No `CompileError`: what searches for plans takes those as a sign that something does not fit.
    """


def limited(progress: Callable[[str], None], seconds: float) -> Callable[[str], None]:
    """A progress callback that raises `OutOfTime` once so many seconds have passed."""
    until = time.monotonic() + seconds

    def tell(text: str) -> None:
        if time.monotonic() > until:
            raise OutOfTime(f"not placed within {seconds:.0f} s")
        progress(text)

    return tell
