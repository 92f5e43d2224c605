import contextlib
import io
import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_boards import load_board
from trencadis_format.registers import Register
from trencadis_host.devices.xrt.unit import KERNEL_NAME
from trencadis_host.devices.xrt.xclbin import HEADER, Bank, Mode, Section, Xclbin, XclbinError
from trencadis_hw.axi.lite import ARGUMENTS
from trencadis_hw.generate import KERNEL_NAME as GENERATED_NAME
from trencadis_sim.hw_emu.pack_xclbin import (
    Argument,
    KernelDescription,
    pack_xclbin,
    simulator_archive,
)
from trencadis_sim.hw_emu.xclbin import board_banks, kernel_description, main

BANKS = [Bank("DDR[0]", 0, 1 << 20, False), Bank("DDR[1]", 1 << 20, 1 << 22, True)]

ANY_KERNEL = KernelDescription(
    name="adder",
    arguments=(
        Argument("a", 0x10, 8, "M_AXI_A"),
        Argument("b", 0x1C, 8, "M_AXI_B"),
        Argument("count", 0x28, 4),
    ),
    data_bits=32,
)


def pack(**changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "platform": "maker_board_shell_1",
        "banks": BANKS,
        "units": [1, 1, 0],
        "notes": {"configuration": "12"},
        "python": "/usr/bin/python3",
    }
    return pack_xclbin(ANY_KERNEL, b"a library", **(arguments | changes))


def load(data: bytes, folder: Path) -> Xclbin:
    (folder / "some.xclbin").write_bytes(data)
    return Xclbin.load(folder / "some.xclbin")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = load(pack(), tmp_path)
    assert found.platform == "maker_board_shell_1"
    assert found.mode == Mode.HARDWARE_EMULATION
    assert found.emulated
    assert list(found.banks) == BANKS
    assert [unit.name for unit in found.units] == [f"adder:{{adder_{i}}}" for i in (1, 2, 3)]
    assert [dict(unit.banks) for unit in found.units] == [{0: 1, 1: 1}, {0: 1, 1: 1}, {0: 0, 1: 0}]
    assert len({unit.base_address for unit in found.units}) == 3
    assert found.notes == {"configuration": "12"}


def test_equal_contents_are_equal_files_and_others_have_another_identity(tmp_path: Path) -> None:
    assert pack() == pack()
    identities = {load(pack(**change), tmp_path).uuid for change in ({}, {"units": [0]})}
    assert len(identities) == 2


def test_xrts_own_header_reads_the_file_alike(tmp_path: Path) -> None:
    """The layout is that of the public header, if that is there to compile against."""
    if not Path("/usr/include/xrt/xclbin.h").exists():
        pytest.skip("xclbin.h is not installed (Debian: apt install libxrt-dev uuid-dev)")
    (tmp_path / "some.xclbin").write_bytes(pack())
    (tmp_path / "read.cpp").write_text(
        """
        #include <cstdio>
        #include <vector>
        #include <uuid/uuid.h>
        #include <xclbin.h>
        int main(int, char** names) {
            std::vector<char> data(1 << 20);
            FILE* file = fopen(names[1], "rb");
            size_t size = fread(data.data(), 1, data.size(), file);
            auto top = reinterpret_cast<const axlf*>(data.data());
            printf("%d %s %d", size == top->m_header.m_length, top->m_header.m_platformVBNV,
                   top->m_header.m_mode);
            for (unsigned i = 0; i < top->m_header.m_numSections; ++i) {
                auto& section = top->m_sections[i];
                auto at = data.data() + section.m_sectionOffset;
                if (section.m_sectionOffset % 8) return 1;
                if (section.m_sectionKind == IP_LAYOUT) {
                    auto layout = reinterpret_cast<const ip_layout*>(at);
                    for (int j = 0; j < layout->m_count; ++j)
                        printf(" %s@%lx", layout->m_ip_data[j].m_name,
                               (unsigned long)layout->m_ip_data[j].m_base_address);
                }
                if (section.m_sectionKind == MEM_TOPOLOGY) {
                    auto topology = reinterpret_cast<const mem_topology*>(at);
                    for (int j = 0; j < topology->m_count; ++j)
                        printf(" %s:%lu:%lx:%d", topology->m_mem_data[j].m_tag,
                               (unsigned long)topology->m_mem_data[j].m_size,
                               (unsigned long)topology->m_mem_data[j].m_base_address,
                               topology->m_mem_data[j].m_used);
                }
                if (section.m_sectionKind == CONNECTIVITY) {
                    auto all = reinterpret_cast<const connectivity*>(at);
                    auto& last = all->m_connection[all->m_count - 1];
                    printf(" %d=%d,%d,%d", all->m_count, last.arg_index, last.m_ip_layout_index,
                           last.mem_data_index);
                }
            }
        }
        """
    )
    program = str(tmp_path / "read")
    compile_ = ["g++", "-I/usr/include/xrt", "-o", program, str(tmp_path / "read.cpp")]
    subprocess.run(compile_, check=True)
    done = subprocess.run(
        [program, str(tmp_path / "some.xclbin")], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "1 maker_board_shell_1 4 DDR[0]:1024:0:0 DDR[1]:4096:100000:1 "
        "adder:adder_1@1800000 adder:adder_2@1810000 adder:adder_3@1820000 6=1,2,0"
    )


def test_metadata_of_any_kernel(tmp_path: Path) -> None:
    found = load(pack(clock_mhz=123.5), tmp_path)
    project = ElementTree.fromstring(found.sections[Section.EMBEDDED_METADATA])
    kernel = project.find(".//kernel")
    assert kernel is not None
    assert kernel.get("hwControlProtocol") == "ap_ctrl_hs"
    arguments = [
        (a.get("id"), a.get("name"), a.get("offset"), a.get("size"), a.get("addressQualifier"))
        for a in kernel.findall("arg")
    ]
    assert arguments == [
        ("0", "a", "0x10", "0x8", "1"),
        ("1", "b", "0x1c", "0x8", "1"),
        ("2", "count", "0x28", "0x4", "0"),
    ]
    assert [p.get("name") for p in kernel.findall("port")] == [
        "M_AXI_A",
        "M_AXI_B",
        "S_AXI_CONTROL",
    ]
    clock = project.find(".//clock")
    assert clock is not None
    assert clock.get("frequency") == "123.5MHz"


def test_the_overlays_kernel_is_described_as_it_is_built() -> None:
    config = load_board("u250").kernel
    kernel = kernel_description(config)
    assert kernel.name == KERNEL_NAME == GENERATED_NAME
    described = {a.name: (a.offset, 8 * a.size_bytes) for a in kernel.arguments}
    assert described == {name: (int(at), width) for name, (at, width) in ARGUMENTS.items()}
    assert [a.name for a in kernel.arguments if a.port] == [
        register.name.lower()
        for register in Register
        if Register.IMAGE <= register <= Register.STATISTICS
    ]
    assert kernel.data_bits == config.bus_bits


def test_the_archive_holds_an_executable_script() -> None:
    data = simulator_archive(b"a library", {"adder_1": 16}, BANKS, python="/opt/it's/python")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        script = archive.getinfo("behav_waveform/xsim/simulate.sh")
        assert script.external_attr >> 16 == 0o755
        text = archive.read(script).decode()
        description = json.loads(archive.read("behav_waveform/xsim/simulator.json"))
        assert archive.read("behav_waveform/xsim/kernel.so") == b"a library"
    assert text.startswith("#!/bin/sh\n")
    assert "simulator.json" in text
    assert description["memory_bytes"] == (1 << 20) + (1 << 22)
    assert description["units"] == {"adder_1": 16}


def test_banks_of_a_board() -> None:
    banks, reached = board_banks(load_board("u250"), 4)
    assert [bank.name for bank in banks] == [f"DDR[{i}]" for i in range(4)]
    assert [bank.base_address for bank in banks] == [i << 34 for i in range(4)]
    assert reached == [0, 1, 2, 3]
    banks, reached = board_banks(load_board("u250"), 2)
    assert [bank.used for bank in banks] == [True, True, False, False]
    banks, reached = board_banks(load_board("sim"), 3)
    assert len(banks) == 1
    assert reached == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": []}, "units must each name one of 2 banks, not []"),
        ({"units": [2]}, "units must each name one of 2 banks, not [2]"),
        ({"platform": "x" * 64}, "platform must be at most 63 long"),
        ({"banks": [Bank("D" * 16, 0, 4096, True)], "units": [0]}, "must be at most 15 long"),
        ({"banks": [Bank("D", 0, 4097, True)], "units": [0]}, "whole pages of 4096 bytes"),
        ({"banks": [Bank("D", 1, 4096, True)], "units": [0]}, "whole pages of 4096 bytes"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        pack(**changes)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(XclbinError, match="does not begin with 'xclbin2'"):
        load(b"#!/bin/sh", tmp_path)
    with pytest.raises(XclbinError, match="cannot be read"):
        Xclbin.load(tmp_path / "missing")


def test_sections_outside_the_file_are_refused(tmp_path: Path) -> None:
    data = bytearray(pack())
    size_at = HEADER.size + 32  # of the first section
    data[size_at + 4] = 1
    with pytest.raises(XclbinError, match="section 0 lies outside the file"):
        load(bytes(data), tmp_path)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damaged_files_are_refused_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good = bytearray(pack())
    tables = len(good) - 3000  # everything but the archive
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, 800) | st.integers(tables, len(good) - 1))
        good[position] = data.draw(st.integers(0, 255))
    damaged = bytes(good[: data.draw(st.integers(0, len(good)) | st.just(len(good)))])
    folder = tmp_path_factory.mktemp("damaged")
    with contextlib.suppress(XclbinError):
        found = load(damaged, folder)
        reached = [bank for unit in found.units for bank in unit.banks.values()]
        assert all(bank in range(len(found.banks)) for bank in reached)


def test_the_program_names_an_unknown_board(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--board", "u251", "-o", str(tmp_path)])
    assert done.exit_code == 2
    assert "did you mean u250" in done.output
