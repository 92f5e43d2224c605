"""What a board is: values, checked where they are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "FAMILIES",
    "RESOURCES",
    "Bank",
    "Board",
    "BoardError",
    "Clock",
    "Link",
    "Part",
    "Pin",
    "Platform",
    "Processor",
    "Region",
    "Tool",
]

FAMILIES = ("simulation", "vitis", "zynq", "ecp5")
"""Kinds of tool flow; a board names one."""

RESOURCES = ("lut", "ff", "dsp", "bram36", "bram18", "uram")
"""What a part can have. `lut`: 6-input, or 4-input in ECP5. `bram36`, `bram18`: memories of that
many Kbit; a part has one of the two kinds."""


class BoardError(ValueError):
    """A board's description is not usable. One line: file, field, rule, value."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The chip.

    Attributes
    ----------
    name : str
        As the vendor's tools call it.
    device, package, speed : str
        As place and route of the family's open flow calls them; empty if there is none.
    """

    name: str
    device: str = ""
    package: str = ""
    speed: str = ""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the chip that is placed by itself: a super logic region.

    Attributes
    ----------
    name : str
        As the vendor's tools call it.
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
        As the tools call it.
    size_mib : int
        Size.
    bits : int
        Data bits in a cycle of the kernel's clock.
    region : str
        Region it is next to; empty if the chip has none.
    """

    name: str
    size_mib: int
    bits: int
    region: str = ""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The oscillator that a board without a platform gives us.

    Attributes
    ----------
    mhz : float
        Its frequency.
    """

    mhz: float


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What a card's vendor puts between host and kernel.

    Attributes
    ----------
    names : tuple of str
        Platforms the flow is meant for, the preferred one first.
    """

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Processor:
    """The processing system of a Zynq.

    Attributes
    ----------
    ip : str
        Name of its IP block, without version.
    settings : mapping of str to str
        Its settings: what turns on the ports and clocks that the kernel uses.
    board_part : str
        Pattern of the board's own preset; used where it is installed.
    control_port, memory_port, interrupt_port, clock_pin, reset_pin : str
        Pins of the block that the kernel is connected to.
    memory_clock_pin, control_clock_pin : str
        Clock pins of these ports.
    memory_segment : str
        Address segment behind the memory port.
    afi_registers : tuple of int
        Registers with the memory port's width: for reading, for writing.
    control_address : int
        Where the kernel's registers are.
    interrupt : int
        Number of the interrupt as device trees count: shared interrupts from 0 on.
    """

    ip: str
    settings: Mapping[str, str]
    control_port: str
    control_clock_pin: str
    memory_port: str
    memory_clock_pin: str
    memory_segment: str
    afi_registers: tuple[int, ...]
    interrupt_port: str
    clock_pin: str
    reset_pin: str
    control_address: int
    interrupt: int
    board_part: str = ""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A serial link to the host.

    Attributes
    ----------
    baud : int
        Bits a second.
    memory_kib : int
        Memory on the chip for images, inputs and outputs.
    """

    baud: int
    memory_kib: int


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Where a port of the top level leaves the chip.

    Attributes
    ----------
    site : str
        The ball.
    options : mapping of str to str
        Settings of the buffer.
    """

    site: str
    options: Mapping[str, str] = field(default_factory=dict)


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
        """Whether a version is in the range; only as many numbers count as the limits have."""
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
    family : str
        One of `FAMILIES`: the flow that builds for it.
    clock_mhz : float
        Clock of the kernel.
    kernels : int
        Equal kernels on the board.
    kernel : mapping
        Configuration of the kernel, for `KernelConfig.from_dict`.
    resources : mapping
        What the part has: `RESOURCES`, as far as it has them. Empty for a board that is only
        simulated.
    budget : float
        Part of every resource that kernels may use; the rest is for the platform, and for place
        and route to succeed.
    part, regions, banks : as in these classes
        The chip, its regions, memory banks. No part for a board that is only simulated.
    oscillator, platform, processor, link, pins : as in these classes
        What the family's flow needs; None or empty for others.
    tools : mapping of str to Tool
        Vendor tools by name of their program.
    """

    name: str
    title: str
    clock_mhz: float
    kernels: int
    kernel: Mapping[str, Any]
    family: str = "simulation"
    resources: Mapping[str, int] = field(default_factory=dict)
    budget: float = 0.7
    part: Part | None = None
    regions: tuple[Region, ...] = ()
    banks: tuple[Bank, ...] = ()
    oscillator: Clock | None = None
    platform: Platform | None = None
    processor: Processor | None = None
    link: Link | None = None
    pins: Mapping[str, Pin] = field(default_factory=dict)
    tools: Mapping[str, Tool] = field(default_factory=dict)

    def bank_of(self, kernel: int) -> Bank:
        """The bank that a kernel, counted from 0, works on: they take turns."""
        return self.banks[kernel % len(self.banks)]
