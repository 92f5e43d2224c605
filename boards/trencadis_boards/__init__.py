"""Boards: what they have, and the kernel that suits them, as data."""

from trencadis_boards.board import (
    FAMILIES,
    RESOURCES,
    Bank,
    Board,
    BoardError,
    Clock,
    Link,
    Part,
    Pin,
    Platform,
    Processor,
    Region,
    Tool,
)
from trencadis_boards.load import UnknownBoardError, board_names, board_text, load_board, read_board

__all__ = [
    "FAMILIES",
    "RESOURCES",
    "Bank",
    "Board",
    "BoardError",
    "Clock",
    "Link",
    "Part",
    "Pin",
    "Platform",
    "Processor",
    "Region",
    "Tool",
    "UnknownBoardError",
    "board_names",
    "board_text",
    "load_board",
    "read_board",
]
