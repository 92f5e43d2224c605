"""The kernel as Vitis and XRT know it: ports, and arguments with the offsets of their registers."""

from dataclasses import dataclass
from xml.etree import ElementTree

from trencadis_format.config import KernelConfig
from trencadis_format.registers import Register
from trencadis_hw.axi.lite import ADDRESS_BITS, ARGUMENTS
from trencadis_hw.generate import KERNEL_NAME
from trencadis_hw.kernel import CONTROL_PREFIX, MEMORY_PREFIX

__all__ = [
    "CONTROL_PORT",
    "CONTROL_RANGE",
    "LIBRARY",
    "MEMORY_PORT",
    "VENDOR",
    "VERSION",
    "Argument",
    "kernel_arguments",
    "kernel_xml",
]

CONTROL_PORT = CONTROL_PREFIX.removesuffix("_")
MEMORY_PORT = MEMORY_PREFIX.removesuffix("_")

VENDOR, LIBRARY, VERSION = "trencadis.org", "kernel", "1.0"
CONTROL_RANGE = 1 << 12
"""Smallest address range that Vitis gives a kernel."""
SCALAR, POINTER = "0", "1"
"""Address qualifiers."""


@dataclass(frozen=True)
class Argument:
    """An argument of the kernel.

    Attributes
    ----------
    name : str
        Its name.
    offset, bits : int
        Its register, and the register's width.
    pointer : bool
        Whether it is the address of a buffer.
    """

    name: str
    offset: int
    bits: int

    @property
    def pointer(self) -> bool:
        """Tell whether it is the address of a buffer: those have 64 bits."""
        return self.bits == 64


def kernel_arguments() -> tuple[Argument, ...]:
    """The arguments, in the order of their numbers."""
    arguments = []
    for name, (register, bits) in ARGUMENTS.items():
        assert Register[name.upper()] is register
        assert register + bits // 8 <= 1 << ADDRESS_BITS
        arguments.append(Argument(name, int(register), bits))
    return tuple(arguments)


def kernel_xml(kernel: KernelConfig) -> str:
    """The kernel's description, for `package_xo`."""
    root = ElementTree.Element("root", versionMajor="1", versionMinor="6")
    top = ElementTree.SubElement(
        root,
        "kernel",
        name=KERNEL_NAME,
        language="ip_c",
        vlnv=f"{VENDOR}:{LIBRARY}:{KERNEL_NAME}:{VERSION}",
        attributes="",
        preferredWorkGroupSizeMultiple="0",
        workGroupSize="1",
        interrupt="true",
        hwControlProtocol="ap_ctrl_hs",
    )
    ports = ElementTree.SubElement(top, "ports")
    for name, mode, range_, width in (
        (CONTROL_PORT, "slave", f"{CONTROL_RANGE:#x}", 32),
        (MEMORY_PORT, "master", "0xFFFFFFFFFFFFFFFF", kernel.bus_bits),
    ):
        ElementTree.SubElement(
            ports,
            "port",
            name=name,
            mode=mode,
            range=range_,
            dataWidth=str(width),
            portType="addressable",
            base="0x0",
        )
    args = ElementTree.SubElement(top, "args")
    for number, argument in enumerate(kernel_arguments()):
        size = f"{argument.bits // 8:#x}"
        ElementTree.SubElement(
            args,
            "arg",
            name=argument.name,
            addressQualifier=POINTER if argument.pointer else SCALAR,
            id=str(number),
            port=MEMORY_PORT if argument.pointer else CONTROL_PORT,
            size=size,
            offset=f"{argument.offset:#x}",
            type="void*" if argument.pointer else "uint",
            hostOffset="0x0",
            hostSize=size,
        )
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
