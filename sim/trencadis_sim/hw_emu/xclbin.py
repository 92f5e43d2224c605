"""The emulation xclbin of a board's kernel, and what else XRT needs to emulate it.

`python -m trencadis_sim.hw_emu.xclbin --board u250 -o build/hw_emu/u250` writes them.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from trencadis_boards import Board, VitisFlow, load_board
from trencadis_format.command_line import reported
from trencadis_format.config import KernelConfig
from trencadis_format.files import write_atomically
from trencadis_format.image import ABI_VERSION
from trencadis_format.registers import Register
from trencadis_format.user_cache import default_folder
from trencadis_host.devices.xrt.unit import ARGUMENTS, KERNEL_NAME
from trencadis_host.devices.xrt.xclbin import Bank
from trencadis_sim.hw_emu.environment import write_environment
from trencadis_sim.hw_emu.pack_xclbin import Argument, KernelDescription, pack_xclbin
from trencadis_sim.verilated.verilator import build_kernel

__all__ = ["board_banks", "kernel_description", "write_emulation"]

DEFAULT_BANK = Bank("DDR[0]", 0, 1 << 30, True)
"""Memory of a board that names none."""


def kernel_description(config: KernelConfig) -> KernelDescription:
    """The overlay's kernel."""
    return KernelDescription(
        name=KERNEL_NAME,
        arguments=tuple(
            Argument(register.name.lower(), register, 8, "M_AXI_GMEM")
            if register <= Register.STATISTICS
            else Argument(register.name.lower(), register, 4)
            for register in ARGUMENTS
        ),
        data_bits=config.bus_bits,
    )


def board_banks(board: Board, units: int) -> tuple[list[Bank], list[int]]:
    """A board's memory one bank after the other, and the bank of every compute unit."""
    if not board.banks:
        return [DEFAULT_BANK], [0] * units
    names = [bank.name for bank in board.banks]
    reached = [names.index(board.bank_of(unit).name) for unit in range(units)]
    banks, base = [], 0
    for index, bank in enumerate(board.banks):
        size = bank.size_mib << 20
        banks.append(Bank(bank.name, base, size, index in reached))
        base += size
    return banks, reached


def write_emulation(
    folder: Path,
    config: KernelConfig,
    board: Board,
    *,
    units: int,
    cards: int,
    build_dir: Path,
    report: Callable[[str], None] = lambda text: None,
    latency_cycles: int = 40,
) -> Path:
    """Everything that XRT needs to emulate a board's kernel; the path of the xclbin.

    Parameters
    ----------
    folder : Path
        Gets `kernel.xclbin` and what `write_environment` writes.
    config : KernelConfig
        The kernel.
    board : Board
        Whose memory and platform there are.
    units, cards : int
        Compute units of a card; cards.
    build_dir : Path
        Where simulators are kept.
    report : callable
        Told about each step that takes time.
    latency_cycles : int
        As in `simulator_archive`.

    Raises
    ------
    SimulatorError
        If the simulator cannot be built.
    DeviceError
        If XRT is not installed.
    FileError
        If a file cannot be written.
    """
    library = build_kernel(config, build_dir, report)
    banks, reached = board_banks(board, units)
    flow = board.flow
    card = isinstance(flow, VitisFlow)
    platform = flow.platforms[0] if card else f"trencadis_{board.name}_emulation"
    data = pack_xclbin(
        kernel_description(config),
        library.read_bytes(),
        platform=platform,
        banks=banks,
        units=reached,
        clock_mhz=board.clock_mhz,
        notes={"abi": ABI_VERSION, "configuration": f"{config.digest:016x}"},
        latency_cycles=latency_cycles,
    )
    write_environment(folder, platform, banks, cards=cards)
    path = folder / "kernel.xclbin"
    write_atomically(path, data)
    return path


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--board", "board_name", default="sim", show_default=True, help="Name, or .toml file."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder.")
@click.option("--units", type=click.IntRange(1, 60), help="Compute units.  [default: the board's]")
@click.option("--cards", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option(
    "--build-dir",
    type=click.Path(path_type=Path),
    help="Where simulators are kept.  [default: the user's cache]",
)
@reported("xclbin")
def main(
    board_name: str, output: Path, units: int | None, cards: int, build_dir: Path | None
) -> None:
    """Write kernel.xclbin, emconfig.json and what else XRT needs to emulate a board's kernel."""
    board = load_board(board_name)
    path = write_emulation(
        output,
        board.kernel,
        board,
        units=units or board.compute_units,
        cards=cards,
        build_dir=build_dir or default_folder("sim"),
        report=lambda text: print(f"{text} ...", file=sys.stderr),
    )
    print(f"{path}\nto use it: . {output / 'env.sh'}")


if __name__ == "__main__":
    main()
