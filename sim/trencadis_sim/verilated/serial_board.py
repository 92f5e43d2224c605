"""A board with a serial link, simulated, at the end of a pseudo-terminal.

`python -m trencadis_sim.verilated.serial_board ulx3s` prints the name of a device that
`sparse-run` takes in place of a real one: `serial:/dev/pts/7`.
"""

import contextlib
import ctypes
import os
import random
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path

import click

from trencadis_boards import BoardError, Ecp5Flow, load_board
from trencadis_format import link
from trencadis_format.closing import Closing
from trencadis_format.command_line import reported
from trencadis_format.config import KernelConfig
from trencadis_format.user_cache import default_folder
from trencadis_sim.verilated.verilator import build_library, design_identity

__all__ = ["SIMULATED_DIVISOR", "NoisyLine", "SerialTerminal", "SimulatedBoard", "main"]

SIMULATED_DIVISOR = 4
"""Cycles a bit: far fewer than on the board, so that the simulation is not only of the link."""

SIMULATED_BAUD = 1_000_000
SLICE_CYCLES = 2000
IDLE_S = 0.02


class SimulatedBoard:
    """A Verilated board: bytes to it, bytes from it, and a clock that runs when told to.

    Parameters
    ----------
    kernel : KernelConfig
        The kernel on it.
    memory_bytes : int
        Its memory.
    build_dir : Path
        Where simulators are kept.
    report : callable
        Told about each step that takes time.

    Raises
    ------
    SimulatorError
        If the simulator cannot be built.
    """

    def __init__(
        self,
        kernel: KernelConfig,
        memory_bytes: int,
        build_dir: Path,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        clock_hz, baud = SIMULATED_DIVISOR * SIMULATED_BAUD, SIMULATED_BAUD

        def generate() -> dict[str, str]:
            from trencadis_hw.generate import kernel_verilog
            from trencadis_hw.serial.board import SerialBoardConfig, board_verilog

            config = SerialBoardConfig(
                clock_hz=clock_hz,
                baud=baud,
                bus_bits=kernel.bus_bits,
                memory_bytes=memory_bytes,
            )
            return {
                "trencadis_serial.v": board_verilog(config),
                "trencadis.v": kernel_verilog(kernel),
            }

        library = build_library(
            (
                *design_identity(kernel),
                *(str(number) for number in (memory_bytes, clock_hz, baud)),
            ),
            generate,
            build_dir,
            report,
            harness="serial_harness.cpp",
            definitions={"DIVISOR": SIMULATED_DIVISOR},
            top="trencadis_serial",
        )
        self._library = ctypes.CDLL(str(library))
        signatures = {
            "open": (ctypes.c_void_p, []),
            "close": (None, [ctypes.c_void_p]),
            "send": (None, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64]),
            "receive": (ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64]),
            "run": (None, [ctypes.c_void_p, ctypes.c_uint64]),
            "quiet": (ctypes.c_int, [ctypes.c_void_p]),
            "leds": (ctypes.c_uint32, [ctypes.c_void_p]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._library, f"trencadis_{name}")
            function.restype, function.argtypes = result, arguments
        self._handle = self._library.trencadis_open()

    def send(self, data: bytes) -> None:
        """Put bytes onto the wire to the board; they go as its clock runs."""
        self._library.trencadis_send(self._handle, data, len(data))

    def receive(self) -> bytes:
        """Bytes that have come from the board."""
        buffer = ctypes.create_string_buffer(4096)
        count = self._library.trencadis_receive(self._handle, buffer, len(buffer))
        return buffer.raw[:count]

    def advance(self, cycles: int) -> None:
        """Let the clock run."""
        self._library.trencadis_run(self._handle, cycles)

    @property
    def quiet(self) -> bool:
        """Nothing is on the wires."""
        return bool(self._library.trencadis_quiet(self._handle))

    @property
    def leds(self) -> int:
        """State of the board's LEDs."""
        return int(self._library.trencadis_leds(self._handle))

    def close(self) -> None:
        """End the simulation."""
        if self._handle:
            self._library.trencadis_close(self._handle)
            self._handle = None


class NoisyLine:
    """A line that now and then loses or damages a byte.

    Parameters
    ----------
    one_in : int
        Bytes of which one is lost or damaged, on average; 0 for a good line.
    seed : int
        Seed of what happens to which byte.
    """

    def __init__(self, one_in: int = 0, seed: int = 0) -> None:
        self._one_in = one_in
        self._random = random.Random(seed)
        self.harmed = 0

    def carry(self, data: bytes) -> bytes:
        """Bytes of `data` that arrive."""
        if not self._one_in:
            return data
        arrived = bytearray()
        for byte in data:
            if self._random.randrange(self._one_in):
                arrived.append(byte)
                continue
            self.harmed += 1
            if self._random.random() < 0.5:
                arrived.append(byte ^ 1 << self._random.randrange(8))
        return bytes(arrived)


class SerialTerminal(Closing):
    """A pseudo-terminal with a board at its other end, run by a thread.

    Parameters
    ----------
    board : SimulatedBoard
        The board; it is closed with the terminal.
    line : NoisyLine
        What is between them, both ways.

    Attributes
    ----------
    path : str
        The end for the host.
    """

    def __init__(self, board: SimulatedBoard, line: NoisyLine | None = None) -> None:
        self._board = board
        self._line = line or NoisyLine()
        self._master, slave = os.openpty()
        tty.setraw(self._master)
        self.path = os.ttyname(slave)
        # Kept open, so that hosts may come and go.
        self._slave = slave
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the simulation."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._thread.join()
        self._board.close()
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        """Let the clock run while there is something to do, and for as long as a run may take."""
        board = self._board
        idle_cycles = 2 * link.IDLE_BYTES * 10 * SIMULATED_DIVISOR
        awake = 0
        while not self._stopping.is_set():
            wait = 0.0 if awake > 0 else IDLE_S
            if select.select([self._master], [], [], wait)[0]:
                board.send(self._line.carry(os.read(self._master, 4096)))
                awake = idle_cycles
            if awake > 0:
                board.advance(SLICE_CYCLES)
                awake -= SLICE_CYCLES
                if data := self._line.carry(board.receive()):
                    os.write(self._master, data)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("board_name", metavar="BOARD", default="ulx3s")
@click.option(
    "--build-dir",
    type=click.Path(path_type=Path),
    help="Where simulators are kept.  [default: the user's cache]",
)
@reported("serial_board")
def main(board_name: str, build_dir: Path | None) -> None:
    """Simulate a BOARD with a serial link until interrupted; prints the device to use."""
    board = load_board(board_name)
    if not isinstance(board.flow, Ecp5Flow):
        raise BoardError(f"board {board_name} has no serial link; choose one of flow ecp5")
    kernel = board.kernel
    memory = board.flow.link.memory_kib * 1024
    simulated = SimulatedBoard(
        kernel,
        memory,
        build_dir or default_folder("sim"),
        lambda text: click.echo(text, err=True),
    )
    with SerialTerminal(simulated) as terminal, contextlib.suppress(KeyboardInterrupt):
        click.echo(f"serial:{terminal.path}")
        threading.Event().wait()


if __name__ == "__main__":
    main()
