"""Reading xclbin files: what a card's bitstream holds, before XRT is told to load it.

Sizes and positions are those of XRT's public header `xclbin.h`; a file is a header, section
headers and sections. Only what a host needs is read: for which platform the file is, which compute
units there are, and which memory each of their arguments reaches.
"""

import enum
import json
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from trencadis_format.errors import FileError, UserError
from trencadis_format.files import read_file

__all__ = [
    "HEADER",
    "MAGIC",
    "SECTION",
    "Bank",
    "ComputeUnit",
    "Mode",
    "Section",
    "Xclbin",
    "XclbinError",
]

MAGIC = b"xclbin2\0"

HEADER = struct.Struct("<8si28s256sQQQQHBBHH16s64s16s16sI4x")
"""Magic, signature length, padding, key block, unique ID; length, time, time of the platform,
version (patch, major, minor), mode, actions, platform's UUID, platform's name, UUID, name of debug
data, number of sections."""

SECTION = struct.Struct("<I16s4xQQ")
"""Kind, name, position, size."""

MEMORY = struct.Struct("<BB6xQQ16s")
"""Type, used, size in KiB, base address, name."""

IP = struct.Struct("<IIQ64s")
"""Type, properties, base address, name."""

CONNECTION = struct.Struct("<iii")
"""Argument, index in the IP layout, index in the memory topology."""

IP_KERNEL = 1
MAX_FILE_BYTES = 1 << 30
MAX_SECTIONS = 64


class Section(enum.IntEnum):
    """Kinds of sections that are of interest here."""

    BITSTREAM = 0
    EMBEDDED_METADATA = 2
    MEM_TOPOLOGY = 6
    CONNECTIVITY = 7
    IP_LAYOUT = 8
    BUILD_METADATA = 14
    KEYVALUE_METADATA = 15
    USER_METADATA = 16
    ASK_GROUP_TOPOLOGY = 26
    ASK_GROUP_CONNECTIVITY = 27


class Mode(enum.IntEnum):
    """Target of a file."""

    HARDWARE_FLAT = 0
    HARDWARE = 1
    HARDWARE_EMULATION = 4
    SOFTWARE_EMULATION = 5
    HARDWARE_EMULATION_PARTIAL = 6


class XclbinError(UserError):
    """A file is not a usable xclbin. One line: file, rule, value, remedy."""


@dataclass(frozen=True)
class Bank:
    """A memory on the card.

    Attributes
    ----------
    name : str
        As in the platform, `DDR[0]`.
    base_address, size_bytes : int
        Where it is, and how large.
    used : bool
        The design is connected to it.
    """

    name: str
    base_address: int
    size_bytes: int
    used: bool


@dataclass(frozen=True)
class ComputeUnit:
    """An instance of a kernel.

    Attributes
    ----------
    kernel, instance : str
        Names.
    base_address : int
        Base address of its registers.
    banks : mapping of int to int
        Index of the memory that an argument, by number, reaches.
    """

    kernel: str
    instance: str
    base_address: int
    banks: Mapping[int, int]

    @property
    def name(self) -> str:
        """Name under which XRT is asked for this compute unit alone."""
        return f"{self.kernel}:{{{self.instance}}}"


@dataclass(frozen=True)
class Xclbin:
    """Contents of a file.

    Attributes
    ----------
    path : Path
        The file.
    platform : str
        Name of the platform it was linked for.
    mode : int
        A `Mode`, as far as it is known.
    uuid : UUID
        UUID of this file.
    units : tuple of ComputeUnit
        Units, in the order of the file.
    banks : tuple of Bank
        Memories by index.
    notes : mapping
        What the file's maker noted in its user metadata, if that is JSON.
    sections : mapping of int to bytes
        All sections by kind.
    """

    path: Path
    platform: str
    mode: int
    uuid: uuid.UUID
    units: tuple[ComputeUnit, ...]
    banks: tuple[Bank, ...]
    notes: Mapping[str, Any]
    sections: Mapping[int, bytes] = field(repr=False)

    @property
    def emulated(self) -> bool:
        """It holds a simulator instead of a bitstream."""
        return self.mode in (Mode.HARDWARE_EMULATION, Mode.HARDWARE_EMULATION_PARTIAL)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises
        ------
        XclbinError
            If it cannot be read, or is no xclbin.
        """
        try:
            data = read_file(path, MAX_FILE_BYTES)
        except FileError as error:
            raise XclbinError(str(error)) from error
        try:
            return cls._parse(path, data)
        except (ValueError, struct.error) as error:
            raise XclbinError(f"{path}: not a usable xclbin: {error}; build it again") from error

    @classmethod
    def _parse(cls, path: Path, data: bytes) -> Self:
        if not data.startswith(MAGIC):
            raise ValueError("it does not begin with 'xclbin2'")
        if len(data) < HEADER.size:
            raise ValueError(f"it is truncated: {len(data)} bytes")
        header = HEADER.unpack_from(data)
        length, mode, platform, identity, count = (header[i] for i in (5, 11, 14, 15, 17))
        if length != len(data):
            raise ValueError(f"it is {len(data)} bytes, its header says {length}")
        if count > MAX_SECTIONS:
            raise ValueError(f"it has {count} sections")
        sections: dict[int, bytes] = {}
        for number in range(count):
            kind, _, offset, size = SECTION.unpack_from(data, HEADER.size + number * SECTION.size)
            if offset > len(data) or size > len(data) - offset:
                raise ValueError(f"its section {number} lies outside the file")
            sections[kind] = data[offset : offset + size]
        banks = tuple(
            Bank(_text(name), base, 1024 * size, bool(used))
            for _, used, size, base, name in _entries(sections, Section.MEM_TOPOLOGY, MEMORY, 8)
        )
        connections = list(_entries(sections, Section.CONNECTIVITY, CONNECTION, 4))
        units = []
        for index, (kind, _, base, name) in enumerate(_entries(sections, Section.IP_LAYOUT, IP, 8)):
            kernel, colon, instance = _text(name).partition(":")
            if kind != IP_KERNEL or not colon:
                continue
            reached = {argument: bank for argument, ip, bank in connections if ip == index}
            if any(not 0 <= bank < len(banks) for bank in reached.values()):
                raise ValueError(f"compute unit {instance} is connected to memories it lacks")
            units.append(ComputeUnit(kernel, instance, base, reached))
        return cls(
            path=path,
            platform=_text(platform),
            mode=mode,
            uuid=uuid.UUID(bytes=identity),
            units=tuple(units),
            banks=banks,
            notes=_notes(sections.get(Section.USER_METADATA, b"")),
            sections=sections,
        )


def _entries(
    sections: Mapping[int, bytes], kind: Section, entry: struct.Struct, start: int
) -> list[tuple[Any, ...]]:
    """Entries of a section that counts them; none if the section is missing."""
    data = sections.get(kind)
    if data is None:
        return []
    (count,) = struct.unpack_from("<i", data)
    if not 0 <= count <= (len(data) - start) // entry.size:
        raise ValueError(f"its section {kind.name} is truncated")
    return [entry.unpack_from(data, start + i * entry.size) for i in range(count)]


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("ascii", "replace")


def _notes(data: bytes) -> Mapping[str, Any]:
    try:
        notes = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}
