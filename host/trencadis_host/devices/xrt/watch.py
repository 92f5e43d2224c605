"""Notices that a call has not come back."""

import threading
from collections.abc import Callable

__all__ = ["Watch"]

LOOKS = 10
"""Looks at a call within its limit."""


class Watch:
    """A context manager around the calls of one thread, which a thread of its own watches.

    Time in which the whole process was stopped does not count.

    Parameters
    ----------
    limit_s : float
        Seconds in which a call must come back.
    overdue : callable
        Called once, from the watching thread, when one has not.
    """

    def __init__(self, limit_s: float, overdue: Callable[[], None]) -> None:
        self._pause_s = limit_s / LOOKS
        self._overdue = overdue
        # Odd while a call is under way.
        self._steps = 0
        self._closed = threading.Event()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def __enter__(self) -> None:
        self._steps += 1

    def __exit__(self, *details: object) -> None:
        self._steps += 1

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def _look(self) -> None:
        seen, looks = 0, 0
        while not self._closed.wait(self._pause_s):
            steps = self._steps
            looks = looks + 1 if steps == seen and steps % 2 else 0
            seen = steps
            if looks == LOOKS:
                self._overdue()
                return
