"""Platforms of ECP5 boards, as Amaranth and its boards describe them, by name.

A board file gives a name of this table and never a module or a class: a file that comes from
anywhere must not choose what is imported.
"""

from collections.abc import Mapping
from typing import Protocol

from amaranth.vendor import LatticeECP5Platform
from amaranth_boards.ecpix5 import ECPIX545Platform, ECPIX585Platform
from amaranth_boards.ulx3s import (
    ULX3S_12F_Platform,
    ULX3S_25F_Platform,
    ULX3S_45F_Platform,
    ULX3S_85F_Platform,
)
from amaranth_boards.versa_ecp5 import VersaECP5Platform

from trencadis_flows.plan import PlanError

__all__ = ["OVERRIDES", "PLATFORMS", "new_platform", "part_name", "refuse_overrides"]


class _MakePlatform(Protocol):
    def __call__(self) -> LatticeECP5Platform: ...


PLATFORMS: Mapping[str, _MakePlatform] = {
    "ecpix5-45f": ECPIX545Platform,
    "ecpix5-85f": ECPIX585Platform,
    "ulx3s-12f": ULX3S_12F_Platform,
    "ulx3s-25f": ULX3S_25F_Platform,
    "ulx3s-45f": ULX3S_45F_Platform,
    "ulx3s-85f": ULX3S_85F_Platform,
    "versa-ecp5": VersaECP5Platform,
}
"""A platform is made for one design: it knows which of its pins were requested."""

OVERRIDES = (
    "add_preferences",
    "debug_verilog",
    "ecppack_opts",
    "nextpnr_opts",
    "read_verilog_opts",
    "script_after_read",
    "script_after_synth",
    "synth_opts",
    "verbose",
    "yosys_opts",
)
"""Settings that `prepare` takes from `AMARANTH_...` in the environment before its arguments."""


def new_platform(board: str, name: str) -> LatticeECP5Platform:
    """Make a platform.

    Parameters
    ----------
    board : str
        Name of the board, for errors.
    name : str
        Name of the platform.

    Raises
    ------
    PlanError
        If the table does not have it.
    """
    if name not in PLATFORMS:
        raise PlanError(
            f"board {board}: flow.platform must be one of {', '.join(PLATFORMS)}, not {name!r}"
        )
    return PLATFORMS[name]()


def part_name(platform: LatticeECP5Platform) -> str:
    """The part's full name, as Lattice writes it."""
    return f"{platform.device}-{platform.speed}{platform.package}{platform.grade}"


def refuse_overrides(environment: Mapping[str, str]) -> None:
    """Refuse variables that would change a build without a trace in its plan.

    Raises
    ------
    PlanError
        If one is set.
    """
    for name in OVERRIDES:
        if f"AMARANTH_{name}" in environment:
            raise PlanError(
                f"the environment variable AMARANTH_{name} would change the build; unset it"
            )
