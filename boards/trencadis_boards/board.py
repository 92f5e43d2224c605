"""Boards as values, checked where they are made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from trencadis_boards.flow import Flow, SimulationFlow
from trencadis_format.config import KernelConfig
from trencadis_format.errors import UserError

__all__ = ["RESOURCES", "Bank", "Board", "BoardError", "Part", "Region", "Tool"]

RESOURCES = ("lut", "ff", "dsp", "bram36", "bram18", "uram")
"""Resources of a part. `lut`: 6-input, or 4-input in ECP5. `bram36`, `bram18`: memories of that
many Kbit; a part has one of the two kinds."""


class BoardError(UserError):
    """A board's description is not usable. One line: file, field, rule, value."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The chip.

    Attributes
    ----------
    name : str
        Name as the vendor's tools call it.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the chip that is placed by itself: a super logic region.

    Attributes
    ----------
    name : str
        Name as the vendor's tools call it.
    resources : mapping
        What it has, as `Board.resources`.
    """

    name: str
    resources: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Bank:
    """A bank of memory that the kernel can reach.

    Attributes
    ----------
    name : str
        Name as the tools call it.
    size_mib : int
        Size.
    bits : int
        Data bits per cycle of the kernel's clock.
    bytes_per_s : float
        Peak bandwidth, reading and writing together.
    region : str
        Region it is next to; empty if the chip has none.
    """

    name: str
    size_mib: int
    bits: int
    bytes_per_s: float
    region: str = ""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A range of versions of a tool.

    Attributes
    ----------
    oldest, newest : str
        Versions it was made for, both included; compared number by number.
    """

    oldest: str
    newest: str

    def takes(self, version: str) -> bool:
        """Tell whether a version is in the range; only as many numbers count as the limits have."""
        numbers = _numbers(version)
        low, high = _numbers(self.oldest), _numbers(self.newest)
        return bool(numbers) and low <= numbers[: len(low)] and numbers[: len(high)] <= high


def _numbers(version: str) -> list[int]:
    numbers = []
    for piece in version.split("."):
        digits = piece[: len(piece) - len(piece.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return numbers


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board.

    Attributes
    ----------
    name, title : str
        Short and full name.
    clock_mhz : float
        Clock of the kernel.
    compute_units : int
        Equal kernels on the board.
    kernel : KernelConfig
        The kernel.
    flow : Flow
        How it is built for.
    resources : mapping
        What the part has: `RESOURCES`, as far as it has them. Empty for a board that is only
        simulated.
    budget : float
        Part of every resource that kernels may use; the rest is for the platform, and for place
        and route to succeed.
    part, regions, banks : as in these classes
        The chip, its regions, memory banks. No part for a board that is only simulated.
    tools : mapping of str to Tool
        Vendor tools by name of their program.
    """

    name: str
    title: str
    clock_mhz: float
    compute_units: int
    kernel: KernelConfig
    flow: Flow = field(default_factory=SimulationFlow)
    resources: Mapping[str, int] = field(default_factory=dict)
    budget: float = 0.7
    part: Part | None = None
    regions: tuple[Region, ...] = ()
    banks: tuple[Bank, ...] = ()
    tools: Mapping[str, Tool] = field(default_factory=dict)

    def bank_of(self, unit: int) -> Bank:
        """The bank that a compute unit, counted from 0, works on: they take turns."""
        return self.banks[unit % len(self.banks)]

    @property
    def memory_bytes_per_s(self) -> float:
        """Peak bandwidth of the banks that the kernels use; infinite for memory on the chip."""
        if not self.banks:
            return math.inf
        return sum(bank.bytes_per_s for bank in self.banks[: self.compute_units])
