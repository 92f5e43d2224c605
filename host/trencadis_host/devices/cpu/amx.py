"""Permission to use the tiles of AMX, which Linux gives to a process that asks for it."""

import ctypes
import platform
import sys

__all__ = ["tiles_are_allowed"]

ARCH_PRCTL = 158
"""Number of the system call on x86-64."""

REQUEST_PERMISSION, TILE_DATA = 0x1023, 18
"""`ARCH_REQ_XCOMP_PERM`, and the state component that holds the tiles: Linux's `asm/prctl.h`."""


def tiles_are_allowed() -> bool:
    """Ask for the tiles; whether the kernel gives them.

    All threads have them from then on, and so have processes made by `fork`. To ask again is
    harmless. A kernel before 5.16 does not know the question, and denies it.
    """
    if not sys.platform.startswith("linux") or platform.machine().lower() not in (
        "x86_64",
        "amd64",
    ):
        return False
    system_call = ctypes.CDLL(None, use_errno=True).syscall
    return system_call(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0
