"""Registers of the kernel, and the statistics that it writes after a run."""

import enum

from trencadis_format.records import Field, Record

__all__ = [
    "CONTROL",
    "STATISTICS",
    "Command",
    "Register",
    "Status",
]


class Register(enum.IntEnum):
    """Byte offsets on the AXI4-Lite port: XRT's `ap_ctrl_hs` block, arguments, own registers."""

    CONTROL = 0x00
    GLOBAL_INTERRUPT_ENABLE = 0x04
    INTERRUPT_ENABLE = 0x08
    INTERRUPT_STATUS = 0x0C
    IMAGE = 0x10
    INPUT = 0x1C
    OUTPUT = 0x28
    STATISTICS = 0x34
    IMAGE_BEATS = 0x40
    INPUT_BEATS = 0x48
    SAMPLES = 0x50
    COMMAND = 0x58
    ABORT = 0x60
    STATUS = 0x68
    VERSION = 0x70
    CONFIGURATION = 0x78


class Command(enum.IntFlag):
    """Work that a start of the kernel does."""

    LOAD = 1
    """Load the image."""
    RUN = 2
    """Compute `SAMPLES` samples."""


class Status(enum.IntFlag):
    """Errors since the last start."""

    READ_ERROR = 1
    """A read on the AXI4 port answered with an error."""
    WRITE_ERROR = 2
    """A write on the AXI4 port answered with an error."""
    BAD_IMAGE = 4
    """The image's header, version or configuration does not fit; nothing was computed."""
    OVERFLOW = 8
    """A queue inside a core overflowed: a fault of the schedule or of the hardware."""
    ABORTED = 16
    """The run was aborted."""
    NO_IMAGE = 32
    """A run was started before any image was loaded."""


CONTROL = Record(
    "CONTROL",
    (
        Field("start", 1, "ap_start: set to start, clears itself"),
        Field("done", 1, "ap_done: cleared by reading"),
        Field("idle", 1, "ap_idle"),
        Field("ready", 1, "ap_ready"),
    ),
)

STATISTICS = Record(
    "STATISTICS",
    (
        Field("version", 32, "ABI_VERSION"),
        Field("status", 32, "`Status` flags"),
        Field("cycles", 64, "cycles from start to the last output written"),
        Field("samples", 64, "samples computed"),
        Field("load_cycles", 64, "cycles spent on loading the image"),
        Field("first_done", 64, "cycle at which the first sample's output left its core"),
        Field("last_done", 64, "cycle at which the last sample's output left its core"),
        Field("busy", 64, "cycles in which engine 0 of core 0 issued work"),
        Field("reserved", 64, "zero"),
    ),
)
"""Statistics that the kernel writes to memory at the end of a run; 64 bytes."""
