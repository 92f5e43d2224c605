"""Environment in which the unmodified XRT emulates: a folder of links, settings, variables.

XRT reads its settings when its libraries are loaded, so all of this is written before, and a
process gets the variables when it is started.
"""

import json
import math
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trencadis_format.files import write_atomically
from trencadis_host.devices.xrt.xclbin import Bank
from trencadis_host.errors import XrtMissingError

__all__ = [
    "PID_FILE",
    "XRT_FOLDERS",
    "device_configuration",
    "settings",
    "variables",
    "write_environment",
]

PID_FILE = "simulator.pid"
"""File with the simulator's process ID, in the driver's run directory while the card is open."""

XRT_FOLDERS = (
    Path("/opt/xilinx/xrt/lib"),
    *(
        Path("/usr", folder)
        for folder in ("lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib64", "lib")
    ),
)
"""Folders in which XRT's libraries are looked for: AMD's own packages, then distributions'."""

DRIVER = "libxrt_hwemu.so.*"

PADDING_BYTES = 200_000
"""XRT 2.13 writes through a stale pointer when its message buffer has to grow. The buffer is made
as large as its first message, which carries the settings: a long one keeps it from growing."""

PACKET_BYTES = 65_536
"""Copies are cut into messages of this size, well below PADDING_BYTES."""


def write_environment(
    folder: Path,
    platform: str,
    banks: Sequence[Bank],
    *,
    cards: int = 1,
    user: str | None = None,
    libraries: Iterable[Path] = XRT_FOLDERS,
) -> dict[str, str]:
    """Write what XRT needs into a folder; the variables that make it look there.

    Parameters
    ----------
    folder : Path
        Gets `emconfig.json`, `xrt.ini`, `xrt/lib` with links to XRT's libraries, and `env.sh`.
    platform : str
        Name of the emulated platform.
    banks : sequence of Bank
        Its memory.
    cards : int
        Emulated cards.
    user : str
        Name of the folder below /tmp in which XRT makes its sockets.  [default: one for each
        user of the machine]
    libraries : iterable of Path
        Folders in which XRT's libraries may be.

    Raises
    ------
    XrtMissingError
        If XRT, its emulation driver, or the program `unzip` that it needs is not installed.
    FileError
        If a file cannot be written.
    """
    if shutil.which("unzip") is None:
        raise XrtMissingError(
            "device hw_emu: XRT's emulation driver needs the program unzip, which is not "
            "installed; install it (Debian: apt install unzip)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _link(folder / "xrt" / "lib", list(libraries))
    configuration = json.dumps(device_configuration(platform, banks, cards), indent=2)
    _write(folder / "emconfig.json", configuration + "\n")
    _write(folder / "xrt.ini", settings())
    values = variables(folder.resolve(), user)
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    _write(
        folder / "env.sh",
        "# Source this, and programs that use XRT find the emulated card.\n" + text,
    )
    return values


def variables(folder: Path, user: str | None = None) -> dict[str, str]:
    """The variables of a process that is to use the emulated card; see `write_environment`."""
    return {
        "XILINX_XRT": str(folder / "xrt"),
        "XCL_EMULATION_MODE": "hw_emu",
        "EMCONFIG_PATH": str(folder),
        "XRT_INI_PATH": str(folder / "xrt.ini"),
        "SDACCEL_EM_RUN_DIR": str(folder),
        "USER": user or f"trencadis-{os.getuid()}",
    }


def settings() -> str:
    """XRT's settings."""
    return (
        "[Runtime]\n"
        "runtime_log=console\n"
        "verbosity=4\n"
        "[Emulation]\n"
        f"packet_size={PACKET_BYTES}\n"
        "keep_run_dir=false\n"
        "print_infos_in_console=false\n"
        "suppress_infos=true\n"
        "[Debug]\n"
        f"padding={'x' * PADDING_BYTES}\n"
    )


def device_configuration(platform: str, banks: Sequence[Bank], cards: int) -> Mapping[str, object]:
    """Contents of `emconfig.json`: the cards that there are."""
    return {
        "Version": {"FileVersion": "2.0", "ToolVersion": "2022.1"},
        "Platform": {
            "UnifiedPlatform": "true",
            "ExpandedPR": "true",
            "Boards": [
                {
                    "NumBoards": "1",
                    "Devices": [
                        {
                            "Name": platform,
                            "HalMajorVersion": "2",
                            "HalMinorVersion": "0",
                            "NumDevices": str(cards),
                            "DdrBanks": [{"Size": _size(bank.size_bytes)} for bank in banks],
                        }
                    ],
                }
            ],
        },
    }


def _size(size_bytes: int) -> str:
    """A size as XRT's table of sizes has it: the next power of two."""
    power = max(20, math.ceil(math.log2(size_bytes)))
    return f"{1 << power % 10}{'KMGT'[power // 10 - 1]}B"


def _link(target: Path, libraries: Sequence[Path]) -> None:
    """Links to XRT's libraries where XRT looks for its drivers: in `lib` below XILINX_XRT."""
    source = next((folder for folder in libraries if any(folder.glob(DRIVER))), None)
    if source is None:
        raise XrtMissingError(
            "device hw_emu: XRT's emulation driver (libxrt_hwemu) is not installed; install XRT "
            "(Debian: apt install libxrt1 unzip)"
        )
    target.mkdir(parents=True, exist_ok=True)
    entries = [entry for entry in source.iterdir() if entry.name.startswith(("libxrt", "xrt"))]
    for entry in entries:
        link = target / entry.name
        if not link.is_symlink() or link.readlink() != entry:
            # Others may be reading, or writing the same: nothing is ever missing or half there.
            with tempfile.TemporaryDirectory(dir=target, prefix=".link-") as scratch:
                made = Path(scratch, entry.name)
                made.symlink_to(entry)
                os.replace(made, link)


def _write(path: Path, text: str) -> None:
    """Write a file unless it is like that already: others may be reading it."""
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text.encode())
