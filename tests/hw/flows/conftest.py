import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from trencadis_boards import Board, load_board

HERE = Path(__file__).parent

SMALL_ENGINE = {
    "lanes": 2,
    "tiles": 2,
    "kernels": 4,
    "dense_values": 32,
    "list_entries": 32,
    "weight_rows": 16,
    "queue_beats": 16,
    "requantisers": 2,
    "requantise_rows": 16,
    "reorder_rows": 16,
    "select_rows": 4,
    "layers": 4,
}
SCRIPTS = {
    # Version, then what it does.
    "vivado": (
        "vivado v2022.2 (64-bit)",
        'while [ "$1" != -source ]; do shift; done; exec tclsh "$VENDOR_TCL" "$2"',
    ),
    "v++": (
        "****** v++ v2022.2 (64-bit)",
        'while [ $# -gt 0 ]; do case "$1" in -o) out=$2;; *.xo) test -s "$1" || exit 3;; esac; shift;'
        ' done; echo linked > "$out"',
    ),
    "platforminfo": (
        "platforminfo v2022.2",
        'printf \'{ "platforms": [ { "baseName": "%s", "version": "1.0" } ] }\' "$VENDOR_PLATFORM"',
    ),
    "xclbinutil": (
        "XRT Build Version: 2.14.384",
        'while [ $# -gt 0 ]; do case "$1" in --output) out=$2;; --input) in=$2;; esac; shift; done;'
        ' cat "$in" model.tcd > "$out"',
    ),
    "emconfigutil": ("emconfigutil v2022.2", "echo {} > emconfig.json"),
    "bootgen": ("Bootgen v2022.2", "cat trencadis.bit > trencadis.bit.bin"),
    "dtc": ("Version: DTC 1.6.1", "cat trencadis.dts > trencadis.dtbo"),
}


def small(board: Board) -> Board:
    """The board, with a kernel that is quick to generate."""
    kernel = {
        **board.kernel,
        "cores": 1,
        "core": {"words": 1, "engines": [SMALL_ENGINE]},
    }
    return replace(board, kernel=kernel)


@pytest.fixture
def board() -> Callable[[str], Board]:
    """A board by name, with a small kernel."""
    return lambda name: small(load_board(name))


@dataclass
class Vendor:
    """The vendor's tools, as far as they are stood in for.

    `calls()` are the Tcl commands that Vivado was given: name and arguments.
    """

    folder: Path
    log: Path
    set: Callable[[str, str], None]

    def calls(self) -> list[list[str]]:
        text = self.log.read_text() if self.log.exists() else ""
        return [record.split("\x1f") for record in text.split("\x1e")[:-1]]

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def replace(self, name: str, version: str | None = None, body: str | None = None) -> None:
        old_version, old_body = SCRIPTS[name]
        self.write(name, version or old_version, old_body if body is None else body)

    def write(self, name: str, version: str, body: str) -> None:
        path = self.folder / name
        asks = 'if [ "$1" = -version ] || [ "$1" = --version ]'
        path.write_text(f"#!/bin/sh\n{asks}; then echo '{version}'; exit 0; fi\n{body}\n")
        path.chmod(0o755)


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    """Stand-ins for the vendor's tools on the PATH, and nothing else but the system's own."""
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed")
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "calls"
    for name, value in {
        "PATH": f"{folder}:/usr/bin:/bin",
        "VENDOR_LOG": str(log),
        "VENDOR_TCL": str(tmp_path / "run.tcl"),
        "VENDOR_REPORTS": str(HERE / "reports"),
        "VENDOR_PROGRESS": "100%",
        "VENDOR_SLACK": "0.412",
        "VENDOR_PLATFORM": "xilinx_u250_gen3x16_xdma_4_1_202210_1",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "run.tcl").write_text(f"source {HERE / 'vendor.tcl'}\nsource [lindex $argv 0]\n")
    tools = Vendor(folder, log, monkeypatch.setenv)
    for name in SCRIPTS:
        tools.replace(name)
    return tools
