"""Boards by name or from a file of one's own."""

import difflib
import importlib.resources
import os
import tomllib
from pathlib import Path

from trencadis_boards.board import Board, BoardError
from trencadis_boards.check import check_board
from trencadis_boards.parse import parse_table
from trencadis_format.errors import FileError
from trencadis_format.files import read_text

__all__ = ["UnknownBoardError", "board_names", "board_text", "load_board", "read_board"]


class UnknownBoardError(BoardError):
    """There is no such board. One line, with the nearest names."""


def board_names() -> list[str]:
    """List the names of all boards."""
    files = importlib.resources.files("trencadis_boards")
    return sorted(f.name.removesuffix(".toml") for f in files.iterdir() if f.name.endswith(".toml"))


def load_board(name: str | os.PathLike[str]) -> Board:
    """Load a board by name; a name that ends in `.toml` is a file of your own.

    Raises
    ------
    UnknownBoardError
        If there is none of that name.
    BoardError
        If its description is not usable.
    """
    name = os.fspath(name)
    text = board_text(name)
    if name.endswith(".toml"):
        return read_board(text, Path(name).stem, name)
    return read_board(text, name, f"{name}.toml")


def board_text(name: str) -> str:
    """Read the description of a board, as TOML: by name, or from a file of your own.

    Raises
    ------
    UnknownBoardError
        If there is none of that name.
    BoardError
        If the file cannot be read.
    """
    if not name.endswith(".toml"):
        if name not in board_names():
            near = difflib.get_close_matches(name.lower(), board_names(), n=2) or board_names()
            raise UnknownBoardError(
                f"board {name!r} is not known; did you mean {' or '.join(near)}?"
            )
        package = importlib.resources.files("trencadis_boards")
        return package.joinpath(f"{name}.toml").read_text("utf-8")
    try:
        return read_text(Path(name))
    except FileError as error:
        raise BoardError(
            f"{error}; give the path of a board's description, or one of {', '.join(board_names())}"
        ) from error


def read_board(text: str, name: str, file: str) -> Board:
    """Make a board from its description.

    Parameters
    ----------
    text : str
        TOML.
    name : str
        The board's name.
    file : str
        Named in errors.

    Raises
    ------
    BoardError
        If the text is not a usable description of a board.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"{file}: not TOML: {error}") from error
    except RecursionError:
        raise BoardError(f"{file}: tables or lists are nested too deeply") from None
    except ValueError:  # Python refuses to convert thousands of digits
        raise BoardError(f"{file}: an integer has too many digits; give one of 64 bits") from None
    if "name" in data:
        raise BoardError(f"{file}: name is taken from the file's name; remove the field")
    board = parse_table(Board, {**data, "name": name}, file)
    check_board(board, file)
    return board
