"""Emulation xclbin files, packed without Vitis: a kernel's simulator in the container XRT loads.

XRT's hardware-emulation driver unpacks the bitstream section, a zip archive, and starts the program
`simulate.sh` in it; `trencadis_sim.hw_emu` is that program's other half. Everything else in the
file describes the kernel to XRT: its arguments, where its registers are, which memory it reaches.
"""

import hashlib
import io
import json
import struct
import sys
import uuid
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trencadis_host.devices.xrt.xclbin import (
    CONNECTION,
    HEADER,
    IP,
    IP_KERNEL,
    MAGIC,
    MEMORY,
    SECTION,
    Bank,
    Mode,
    Section,
)
from trencadis_sim.hw_emu.environment import PID_FILE

__all__ = ["Argument", "KernelDescription", "pack_xclbin", "simulator_archive"]

ADDRESS_RANGE = 0x10000
"""Bytes of registers of a compute unit, as XRT counts them."""

FIRST_UNIT = 0x1800000
"""Base address of the first compute unit's registers."""

MEMORY_DDR4 = 1

SIMULATOR_FOLDER = "behav_waveform/xsim"
"""Folder in which XRT looks for `simulate.sh`."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of everything in an archive, so that equal contents are equal files."""

NAME_LENGTH = 63
TAG_LENGTH = 15


@dataclass(frozen=True)
class Argument:
    """An argument of a kernel.

    Attributes
    ----------
    name : str
        Its name.
    offset : int
        Byte offset of its register.
    size_bytes : int
        4 or 8.
    port : str
        The master port that a pointer goes out on; empty for a scalar.
    """

    name: str
    offset: int
    size_bytes: int
    port: str = ""


@dataclass(frozen=True, kw_only=True)
class KernelDescription:
    """A kernel, as XRT's metadata has it; any kernel with `ap_ctrl_hs`.

    Attributes
    ----------
    name : str
        Name of the kernel.
    arguments : tuple of Argument
        Arguments, in the order in which the host passes them.
    data_bits : int
        Width of the master ports.
    address_bits : int
        Width of the register port's address.
    """

    name: str
    arguments: tuple[Argument, ...]
    data_bits: int
    address_bits: int = 8


def simulator_archive(
    library: bytes,
    unit_bases: Mapping[str, int],
    banks: Sequence[Bank],
    *,
    python: str = sys.executable,
    latency_cycles: int = 40,
) -> bytes:
    """The zip archive in which XRT finds the kernel's simulator.

    Parameters
    ----------
    library : bytes
        The simulator: a shared library with the functions of `simulated_kernel.h`.
    unit_bases : mapping of str to int
        Base address of the registers of every compute unit.
    banks : sequence of Bank
        Memory.
    python : str
        The Python that has this package; the variable TRENCADIS_PYTHON overrides it.
    latency_cycles : int
        Cycles until memory answers.
    """
    description = {
        "library": "kernel.so",
        "memory_bytes": max(bank.base_address + bank.size_bytes for bank in banks),
        "latency_cycles": latency_cycles,
        "address_range": ADDRESS_RANGE,
        "units": dict(unit_bases),
    }
    script = (
        "#!/bin/sh\n"
        "# Started by XRT's hardware-emulation driver, in this folder.\n"
        f'[ -z "$EMULATION_RUN_DIR" ] || echo $$ > "$EMULATION_RUN_DIR/{PID_FILE}"\n'
        f'exec "${{TRENCADIS_PYTHON:-{python}}}" -P -m trencadis_sim.hw_emu simulator.json '
        '"$USER" "$EMULATION_SOCKETID" "$EMULATION_RUN_DIR" > simulate.log 2>&1\n'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in (
            ("simulate.sh", script.encode(), 0o755),
            ("simulator.json", json.dumps(description, indent=2).encode(), 0o644),
            ("kernel.so", library, 0o644),
        ):
            entry = zipfile.ZipInfo(f"{SIMULATOR_FOLDER}/{name}", EPOCH)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def pack_xclbin(
    kernel: KernelDescription,
    library: bytes,
    *,
    platform: str,
    banks: Sequence[Bank],
    units: Sequence[int],
    clock_mhz: float = 250,
    notes: Mapping[str, object] | None = None,
    python: str = sys.executable,
    latency_cycles: int = 40,
) -> bytes:
    """An emulation xclbin; the same bytes for the same arguments.

    Parameters
    ----------
    kernel : KernelDescription
        The kernel.
    library : bytes
        Its simulator, a shared library.
    platform : str
        Name of the platform the file is for.
    banks : sequence of Bank
        The platform's memory.
    units : sequence of int
        For every compute unit the index of the bank that it reaches.
    clock_mhz : float
        Clock that is told to the host; the simulation takes as long as it takes.
    notes : mapping
        JSON-ready notes for the host, kept as user metadata.
    python, latency_cycles
        As in `simulator_archive`.

    Raises
    ------
    ValueError
        If something does not fit the container.
    """
    instances = [f"{kernel.name}_{number + 1}" for number in range(len(units))]
    bases = {name: FIRST_UNIT + i * ADDRESS_RANGE for i, name in enumerate(instances)}
    _check(kernel, platform, banks, units)
    connections = [
        CONNECTION.pack(index, unit, bank)
        for unit, bank in enumerate(units)
        for index, argument in enumerate(kernel.arguments)
        if argument.port
    ]
    topology = _counted(
        [
            MEMORY.pack(MEMORY_DDR4, b.used, b.size_bytes >> 10, b.base_address, b.name.encode())
            for b in banks
        ],
        8,
    )
    connectivity = _counted(connections, 4)
    layout = _counted(
        [
            IP.pack(IP_KERNEL, 0, base, f"{kernel.name}:{name}".encode())
            for name, base in bases.items()
        ],
        8,
    )
    build = {
        "build_metadata": {
            "xclbin": {
                "generated_by": {"name": "trencadis", "version": ""},
                "packaged_by": {"name": "trencadis", "version": ""},
            }
        }
    }
    sections = {
        Section.BITSTREAM: simulator_archive(
            library, bases, banks, python=python, latency_cycles=latency_cycles
        ),
        Section.MEM_TOPOLOGY: topology,
        Section.IP_LAYOUT: layout,
        Section.CONNECTIVITY: connectivity,
        Section.ASK_GROUP_TOPOLOGY: topology,
        Section.ASK_GROUP_CONNECTIVITY: connectivity,
        Section.EMBEDDED_METADATA: _metadata(kernel, bases, platform, clock_mhz),
        Section.BUILD_METADATA: json.dumps(build).encode(),
        Section.USER_METADATA: json.dumps(notes or {}, sort_keys=True).encode(),
    }
    return _container(sections, platform)


def _check(
    kernel: KernelDescription, platform: str, banks: Sequence[Bank], units: Sequence[int]
) -> None:
    if not units or any(not 0 <= bank < len(banks) for bank in units):
        raise ValueError(f"units must each name one of {len(banks)} banks, not {list(units)}")
    longest = f"{kernel.name}:{kernel.name}_{len(units)}"
    if len(longest) > NAME_LENGTH:
        raise ValueError(f"a kernel's name must leave {longest!r} at most {NAME_LENGTH} long")
    if len(platform) > NAME_LENGTH:
        raise ValueError(f"platform must be at most {NAME_LENGTH} long, not {platform!r}")
    for bank in banks:
        if len(bank.name) > TAG_LENGTH:
            raise ValueError(f"a bank's name must be at most {TAG_LENGTH} long, not {bank.name!r}")
        if bank.base_address % 4096 or bank.size_bytes % 4096 or bank.size_bytes <= 0:
            raise ValueError(f"bank {bank.name} must consist of whole pages of 4096 bytes")


def _counted(entries: Sequence[bytes], start: int) -> bytes:
    return struct.pack("<i", len(entries)).ljust(start, b"\0") + b"".join(entries)


def _metadata(
    kernel: KernelDescription, bases: Mapping[str, int], platform: str, clock_mhz: float
) -> bytes:
    """Metadata of arguments and instances, for XRT."""
    project = ElementTree.Element("project", name=kernel.name)
    parts = [*platform.split("_"), "", "", ""]
    node = ElementTree.SubElement(
        project, "platform", vendor=parts[0] or "xilinx", boardid=parts[1], name=parts[2]
    )
    device = ElementTree.SubElement(node, "device", name="fpga0", fpgaDevice="virtexuplus")
    core = ElementTree.SubElement(
        device, "core", name="OCL_REGION_0", target="hw_em", type="clc_region"
    )
    clocks = ElementTree.SubElement(core, "kernelClocks")
    ElementTree.SubElement(clocks, "clock", port="KERNEL_CLK", frequency=f"{clock_mhz:g}MHz")
    element = ElementTree.SubElement(
        core,
        "kernel",
        name=kernel.name,
        language="ip",
        type="pl",
        hwControlProtocol="ap_ctrl_hs",
    )
    ports = dict.fromkeys(argument.port for argument in kernel.arguments if argument.port)
    for port in ports:
        ElementTree.SubElement(
            element,
            "port",
            name=port,
            mode="master",
            range="0xFFFFFFFFFFFFFFFF",
            dataWidth=str(kernel.data_bits),
            portType="addressable",
            base="0x0",
        )
    ElementTree.SubElement(
        element,
        "port",
        name="S_AXI_CONTROL",
        mode="slave",
        range=hex(ADDRESS_RANGE),
        dataWidth="32",
        portType="addressable",
        base="0x0",
    )
    for index, argument in enumerate(kernel.arguments):
        size = hex(argument.size_bytes)
        ElementTree.SubElement(
            element,
            "arg",
            name=argument.name,
            addressQualifier="1" if argument.port else "0",
            id=str(index),
            port=argument.port or "S_AXI_CONTROL",
            size=size,
            offset=hex(argument.offset),
            hostOffset="0x0",
            hostSize=size,
            type="void*" if argument.port else "uint",
        )
    for name, base in bases.items():
        instance = ElementTree.SubElement(element, "instance", name=name)
        ElementTree.SubElement(
            instance,
            "addrRemap",
            base=hex(base),
            range=hex(ADDRESS_RANGE),
            port="S_AXI_CONTROL",
        )
    return ElementTree.tostring(project, "utf-8", xml_declaration=True)


def _container(sections: Mapping[Section, bytes], platform: str) -> bytes:
    """The file, section after section."""
    digest = hashlib.sha256(platform.encode())
    for kind, data in sections.items():
        digest.update(struct.pack("<IQ", kind, len(data)) + data)
    identity = uuid.UUID(bytes=digest.digest()[:16], version=4)
    position = HEADER.size + SECTION.size * len(sections)
    headers, bodies = [], []
    for kind, data in sections.items():
        padding = bytes(-position % 8)
        position += len(padding)
        headers.append(SECTION.pack(kind, b"", position, len(data)))
        bodies += [padding, data]
        position += len(data)
    header = HEADER.pack(
        MAGIC,
        -1,
        b"\xff" * 28,
        bytes(256),
        int.from_bytes(digest.digest()[16:24], "little"),
        position,
        0,
        0,
        0,
        2,
        1,
        Mode.HARDWARE_EMULATION,
        0,
        bytes(16),
        platform.encode(),
        identity.bytes,
        b"",
        len(sections),
    )
    return b"".join((header, *headers, *bodies))
