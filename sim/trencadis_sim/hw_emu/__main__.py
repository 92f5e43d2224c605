"""The simulator that XRT's hardware-emulation driver starts: `simulate.sh` runs this.

The driver tells by its environment where its sockets are; the script passes that on as arguments.
"""

import json
import signal
import sys
from pathlib import Path

from trencadis_sim.hw_emu.card import Card
from trencadis_sim.hw_emu.environment import PID_FILE
from trencadis_sim.hw_emu.memory import DeviceMemory
from trencadis_sim.hw_emu.server import HOST_MEMORY_PREFIX, connect, serve
from trencadis_sim.hw_emu.unit import ComputeUnit
from trencadis_sim.verilated.device import SimulatedKernel

__all__ = ["main"]

HOST_MEMORY_S = 5.0
"""Seconds for which the driver's second socket is waited for."""


def main(description_path: Path, user: str, name: str, run_folder: str) -> int:
    """Serve the card of a description; the exit status.

    Parameters
    ----------
    description_path : Path
        `simulator.json`, made by `simulator_archive`.
    user, name : str
        The driver's socket is /tmp/user/name.
    run_folder : str
        The driver's folder for this card, or nothing.
    """
    # Ctrl-C in a terminal reaches the whole process group; the host decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not name:
        print("FATAL_ERROR: not started by XRT's emulation driver: EMULATION_SOCKETID is not set")
        return 1
    folder = Path("/tmp", user)
    driver = connect(folder / name)
    try:
        host_memory = connect(folder / f"{HOST_MEMORY_PREFIX}{name}", HOST_MEMORY_S)
    except TimeoutError:
        host_memory = None  # a driver of another version

    description = json.loads(description_path.read_text())
    memory = DeviceMemory(description["memory_bytes"])
    library = description_path.parent.resolve() / description["library"]
    units = {}
    for unit, base in description["units"].items():
        kernel = SimulatedKernel(library, 0, latency_cycles=description["latency_cycles"])
        kernel.use_memory(memory.bytes)
        units[base] = ComputeUnit(unit, kernel)
    card = Card(memory, units, description["address_range"])
    closed = serve(card, driver, host_memory)
    card.stop()
    if closed and run_folder:
        # `simulate.sh` wrote it; whoever watches is told by this that all is well.
        Path(run_folder, PID_FILE).unlink(missing_ok=True)
    print("closed" if closed else "the driver is gone", flush=True)
    return 0


if __name__ == "__main__":
    try:
        status = main(Path(sys.argv[1]), *sys.argv[2:5])
    except Exception as error:
        print(f"FATAL_ERROR: {type(error).__name__}: {error}", flush=True)
        raise
    sys.exit(status)
