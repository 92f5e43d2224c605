"""Emulate a kernel of one's own behind the real XRT: `adder.py FOLDER`.

Builds `adder.c`, packs it into FOLDER/kernel.xclbin, writes what XRT needs around it. Then, with
FOLDER/env.sh sourced, any program that uses XRT finds it; `adder.py --run FOLDER` is one.
"""

import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

from trencadis_host.devices.xrt.binding import RunState
from trencadis_host.devices.xrt.device import open_binding
from trencadis_host.devices.xrt.xclbin import Bank
from trencadis_sim.hw_emu.environment import write_environment
from trencadis_sim.hw_emu.pack_xclbin import Argument, KernelDescription, pack_xclbin

PLATFORM = "example_adder_emulation"
BANKS = [Bank("DDR[0]", 0, 1 << 24, True)]
KERNEL = KernelDescription(
    name="adder",
    arguments=(
        Argument("a", 0x10, 8, "M_AXI_GMEM"),
        Argument("b", 0x1C, 8, "M_AXI_GMEM"),
        Argument("out", 0x28, 8, "M_AXI_GMEM"),
        Argument("count", 0x34, 4),
    ),
    data_bits=32,
)


def build(folder: Path) -> None:
    """Write everything into the folder."""
    write_environment(folder, PLATFORM, BANKS)
    source, library = Path(__file__).with_name("adder.c"), folder / "adder.so"
    header = str(files("trencadis_sim.verilated"))
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", f"-I{header}"]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    data = pack_xclbin(KERNEL, library.read_bytes(), platform=PLATFORM, banks=BANKS, units=[0, 0])
    (folder / "kernel.xclbin").write_bytes(data)


def run(folder: Path) -> None:
    """Add numbers on both compute units, several times."""
    card = open_binding().open(0)
    card.load(folder / "kernel.xclbin")
    rng = np.random.default_rng(0)
    for number in (1, 2):
        unit = card.unit(f"adder:{{adder_{number}}}")
        buffers = [unit.buffer(4096, unit.group(argument)) for argument in range(3)]
        added = unit.run()
        for argument, buffer in enumerate(buffers):
            added.set_buffer(argument, buffer)
        for count in (1, 1000, 7):
            a, b, out = (buffer.host.view(np.uint32) for buffer in buffers)
            a[:], b[:], out[:] = *rng.integers(0, 1 << 32, (2, 1024)), 0
            for buffer in buffers:
                buffer.to_card(4096)
            added.set_scalar(3, count)
            added.start()
            while added.state() is RunState.PENDING:
                time.sleep(0.001)
            buffers[2].to_host(4096)
            assert np.array_equal(out[:count], (a + b)[:count])
            assert not out[count:].any()
            print(f"adder_{number} added {count} numbers")
        added.close()
        for buffer in buffers:
            buffer.close()
        unit.close()
    card.close()


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--run":
        run(Path(sys.argv[2]))
    elif len(sys.argv) == 2:
        build(Path(sys.argv[1]))
    else:
        sys.exit("usage: adder.py [--run] FOLDER")
