"""Check that XRT will find its driver: if it does not, it ends the whole process."""

import ctypes
from collections.abc import Callable
from pathlib import Path

from trencadis_host.errors import XrtMissingError

__all__ = ["check_setup"]

DRIVERS = {"hw_emu": "xrt_hwemu", "sw_emu": "xrt_swemu", "noop": "xrt_noop"}
"""Driver libraries by XRT's emulation mode."""

CARD_DRIVER = "xrt_core"


def variable(name: str) -> str:
    """A variable as the C library has it, which is where XRT takes it from."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype, getenv.argtypes = ctypes.c_char_p, [ctypes.c_char_p]
    return (getenv(name.encode()) or b"").decode(errors="replace")


def check_setup(variable: Callable[[str], str] = variable) -> None:
    """See that XRT's driver is where XRT will look for it.

    Parameters
    ----------
    variable : callable
        Gives variables of the environment by name.

    Raises
    ------
    XrtMissingError
        If it is not.
    """
    folder = variable("XILINX_XRT")
    if not folder:
        raise XrtMissingError(
            "device xrt: XILINX_XRT is not set, so XRT cannot find its driver; source XRT's "
            "setup.sh, or for an emulated card its env.sh"
        )
    mode = variable("XCL_EMULATION_MODE")
    driver = DRIVERS.get(mode, CARD_DRIVER)
    if not any(Path(folder, "lib").glob(f"lib{driver}.so.*")):
        raise XrtMissingError(
            f"device xrt: there is no lib/lib{driver}.so in {folder}, where XILINX_XRT says; "
            "install XRT there, or source its setup.sh again"
        )
