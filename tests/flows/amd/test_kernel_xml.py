from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from trencadis_boards import Board
from trencadis_flows.amd.kernel_xml import kernel_arguments, kernel_xml
from trencadis_format.registers import Register

SCHEMA: dict[str, tuple[set[str], set[str]]] = {
    # Attributes and children, as in the kernel descriptions of public examples: kernel.xml of
    # rtl_kernels/rtl_vadd in Vitis_Accel_Examples, and those that the RTL kernel wizard writes.
    "root": ({"versionMajor", "versionMinor"}, {"kernel"}),
    "kernel": (
        {
            "name",
            "language",
            "vlnv",
            "attributes",
            "preferredWorkGroupSizeMultiple",
            "workGroupSize",
            "interrupt",
            "hwControlProtocol",
        },
        {"ports", "args"},
    ),
    "ports": (set(), {"port"}),
    "port": ({"name", "mode", "range", "dataWidth", "portType", "base"}, set()),
    "args": (set(), {"arg"}),
    "arg": (
        {
            "name",
            "addressQualifier",
            "id",
            "port",
            "size",
            "offset",
            "type",
            "hostOffset",
            "hostSize",
        },
        set(),
    ),
}


def faults(text: str) -> list[str]:
    """Differences of a kernel description from public ones."""
    found = []
    root = ElementTree.fromstring(text.encode())
    for element in root.iter():
        if element.tag not in SCHEMA:
            found.append(f"element {element.tag}")
            continue
        attributes, children = SCHEMA[element.tag]
        if set(element.attrib) != attributes:
            found.append(f"attributes of {element.tag}: {set(element.attrib) ^ attributes}")
        if {child.tag for child in element} != children:
            found.append(f"children of {element.tag}")
    ports = {port.get("name"): port for port in root.iter("port")}
    arguments = list(root.iter("arg"))
    if [argument.get("id") for argument in arguments] != [str(i) for i in range(len(arguments))]:
        found.append("numbers of arguments")
    ends = 0x10
    for argument in arguments:
        port = ports.get(argument.get("port"))
        pointer = argument.get("addressQualifier") == "1"
        if port is None or port.get("mode") != ("master" if pointer else "slave"):
            found.append(f"port of {argument.get('name')}")
        offset, size = (int(argument.get(key, ""), 0) for key in ("offset", "size"))
        if offset < ends or offset % 4:
            found.append(f"offset of {argument.get('name')}")
        if (argument.get("type", "").endswith("*"), size) != (pointer, 8 if pointer else 4):
            found.append(f"size of {argument.get('name')}")
        ends = offset + size
    return found


@pytest.fixture
def description(board: Callable[[str], Board]) -> str:
    return kernel_xml(board("u250").kernel)


def test_description_is_like_public_ones(description: str) -> None:
    assert faults(description) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<args>", "<args><extra/>"),
        ('interrupt="true"', ""),
        ('port="m_axi_gmem"', 'port="m_axi_other"'),
        ('offset="0x1c"', 'offset="0x14"'),
        ('id="3"', 'id="4"'),
        ('size="0x8"', 'size="0x4"'),
        ('type="void*"', 'type="uint"'),
    ],
)
def test_the_check_finds_faults(description: str, old: str, new: str) -> None:
    assert old in description
    assert faults(description.replace(old, new, 1))


def test_offsets_are_those_of_the_contract(description: str) -> None:
    arguments = ElementTree.fromstring(description.encode()).iter("arg")
    offsets = {argument.get("name"): int(argument.get("offset", ""), 16) for argument in arguments}
    registers = {register.name.lower(): int(register) for register in Register}
    assert offsets == {name: registers[str(name)] for name in offsets}
    assert list(offsets) == [argument.name for argument in kernel_arguments()]
    assert set(offsets) == {
        "image",
        "input",
        "output",
        "statistics",
        "image_beats",
        "input_beats",
        "samples",
        "command",
    }


def test_port_is_as_wide_as_the_bus(board: Callable[[str], Board]) -> None:
    for name, width in (("u250", "128"), ("ulx3s", "64")):
        text = kernel_xml(board(name).kernel)
        ports: Any = ElementTree.fromstring(text.encode()).iter("port")
        assert {port.get("name"): port.get("dataWidth") for port in ports} == {
            "s_axi_control": "32",
            "m_axi_gmem": width,
        }
