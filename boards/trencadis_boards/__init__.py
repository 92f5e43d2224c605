"""Boards: what they have, and the kernel that suits them, as data."""

from trencadis_boards.board import RESOURCES, Bank, Board, BoardError, Part, Region, Tool
from trencadis_boards.flow import (
    FLOWS,
    Ecp5Flow,
    Flow,
    Link,
    Processor,
    SimulationFlow,
    VitisFlow,
    ZynqFlow,
)
from trencadis_boards.load import UnknownBoardError, board_names, board_text, load_board, read_board

__all__ = [
    "FLOWS",
    "RESOURCES",
    "Bank",
    "Board",
    "BoardError",
    "Ecp5Flow",
    "Flow",
    "Link",
    "Part",
    "Processor",
    "Region",
    "SimulationFlow",
    "Tool",
    "UnknownBoardError",
    "VitisFlow",
    "ZynqFlow",
    "board_names",
    "board_text",
    "load_board",
    "read_board",
]
