"""Tool flows: how a board is built for, and what only that flow has to know of it.

Each class has a `kind`, the tag that a board file gives, names in `needs` the fields of a board
without which the flow cannot build, and in `extra` the extra of this distribution that brings its
tools; empty where the vendor's are needed, or none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "FLOWS",
    "Ecp5Flow",
    "Flow",
    "Link",
    "Processor",
    "SimulationFlow",
    "VitisFlow",
    "ZynqFlow",
]


@dataclass(frozen=True, kw_only=True)
class SimulationFlow:
    """No flow: the board is only simulated."""

    kind: ClassVar[str] = "simulation"
    extra: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def host_bytes_per_s(self) -> float:
        """Bandwidth between host and kernel memory, each way: they are one memory."""
        return math.inf


@dataclass(frozen=True, kw_only=True)
class VitisFlow:
    """A data-centre card: `v++` links the kernel with the vendor's platform.

    Attributes
    ----------
    platforms : tuple of str
        Platforms the flow is meant for, the preferred one first.
    host_bytes_per_s : float
        Bandwidth between host memory and the card's, each way.
    """

    platforms: tuple[str, ...]
    host_bytes_per_s: float

    kind: ClassVar[str] = "vitis"
    extra: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ("part", "resources", "regions", "banks", "tools")


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
        Address segment of the memory port.
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
class ZynqFlow:
    """A Zynq UltraScale+: the kernel beside the processing system, as a Vivado block design.

    Attributes
    ----------
    processor : Processor
        The processing system.
    """

    processor: Processor

    kind: ClassVar[str] = "zynq"
    extra: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ("part", "resources", "banks", "tools")

    @property
    def host_bytes_per_s(self) -> float:
        """Bandwidth between host and kernel memory, each way: they are one memory."""
        return math.inf


@dataclass(frozen=True, kw_only=True)
class Link:
    """A serial link to the host.

    Attributes
    ----------
    baud : int
        Bits per second.
    memory_kib : int
        Memory on the chip for images, inputs and outputs.
    """

    baud: int
    memory_kib: int


@dataclass(frozen=True, kw_only=True)
class Ecp5Flow:
    """A Lattice ECP5 with a serial link to the host, built for with open tools.

    Attributes
    ----------
    platform : str
        Name of the description of chip, oscillator and pins in the flow's table of platforms.
    link : Link
        The serial link.
    """

    platform: str
    link: Link

    kind: ClassVar[str] = "ecp5"
    extra: ClassVar[str] = "boards"
    needs: ClassVar[tuple[str, ...]] = ("part", "resources")

    @property
    def host_bytes_per_s(self) -> float:
        """Bandwidth of the serial link, each way: a byte is ten bits long."""
        return self.link.baud / 10


Flow = SimulationFlow | VitisFlow | ZynqFlow | Ecp5Flow
"""A board's flow; readers match on its class, and end with `assert_never`."""

FLOWS: Mapping[str, type[Flow]] = {
    flow.kind: flow for flow in (SimulationFlow, VitisFlow, ZynqFlow, Ecp5Flow)
}
"""Flows by their kind."""
