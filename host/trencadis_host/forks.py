"""Forks: what must happen in a process that was forked off, before it goes on.

After `fork` the child has one thread. Executors still count on theirs, locks that other threads
held stay held, and a card or a port belongs to the parent. Servers that load a model and then fork
(gunicorn's `--preload`, `multiprocessing` with its `fork` method) therefore need a hook.
"""

import os
import weakref
from typing import Protocol

__all__ = ["Forking", "notice_forks"]


class Forking(Protocol):
    """An object that wants to know that it is in another process now."""

    def after_fork(self) -> None:
        """Make do with one thread; called in the child before anything else runs there."""
        ...


_noticing: "weakref.WeakSet[Forking]" = weakref.WeakSet()
"""Objects of the process that notice forks: the system calls hooks without arguments, for ever."""


def notice_forks(listener: Forking) -> None:
    """Call an object's `after_fork` in every child, for as long as the object lives."""
    _noticing.add(listener)


def _tell() -> None:
    for listener in list(_noticing):
        listener.after_fork()


os.register_at_fork(after_in_child=_tell)
