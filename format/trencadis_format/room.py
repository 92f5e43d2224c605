"""Room for what is about to be made: memory of this process, and space on a disk."""

import os
import resource
import shutil
from pathlib import Path

from trencadis_format.errors import UserError

__all__ = ["RoomError", "available_memory", "check_disk", "check_memory"]

CGROUP = Path("/sys/fs/cgroup")

MIB = 1 << 20


class RoomError(UserError):
    """There is too little memory or disk."""


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, of its group, of its own limit."""
    left = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                left = int(line.split()[1]) * 1024
        limit = (CGROUP / "memory.max").read_text().strip()
        if limit.isdecimal():
            used = int((CGROUP / "memory.current").read_text())
            left = min(left, int(limit) - used)
    except (OSError, ValueError, IndexError):
        pass  # systems without these files
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            pages = 0
        left = min(left, most - pages * os.sysconf("SC_PAGE_SIZE"))
    return max(0, left)


def check_memory(needed: int, subject: str, remedy: str, available: int | None = None) -> None:
    """Refuse what would not fit the memory, before any of it is taken.

    Parameters
    ----------
    needed : int
        Bytes.
    subject, remedy : str
        What needs them, and what would need less.
    available : int, optional
        Bytes; those of `available_memory` without it.

    Raises
    ------
    RoomError
        With both figures.
    """
    left = available_memory() if available is None else available
    if needed > left:
        raise RoomError(
            f"{subject} takes about {_mib(needed)} of memory, and {_mib(left)} are available; "
            f"{remedy}"
        )


def check_disk(needed: int, path: Path) -> None:
    """Refuse what would not fit the disk where a file is to be written.

    Parameters
    ----------
    needed : int
        Bytes.
    path : Path
        The file; nothing is asked of what is no regular file's place, such as /dev/stdout.

    Raises
    ------
    RoomError
        With both figures.
    """
    if path.exists() and not path.is_file():
        return
    folder = path.resolve().parent
    try:
        left = shutil.disk_usage(folder).free
    except OSError:
        return  # writing will say what is wrong with the folder
    if needed > left:
        raise RoomError(
            f"{path}: takes about {_mib(needed)}, and {_mib(left)} are free in {folder}; free some "
            "room, or write to another disk (-o)"
        )


def _mib(count: int) -> str:
    return f"{count / MIB:,.0f} MiB"
