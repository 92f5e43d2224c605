"""Boards: what they have, and the kernel that suits them, as data."""

import difflib
import importlib.resources
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Board", "UnknownBoardError", "board_names", "load_board"]


class UnknownBoardError(ValueError):
    """There is no such board. One line, with the nearest names."""


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes
    ----------
    name, title : str
        Short and full name.
    clock_mhz : float
        Clock of the kernel.
    kernels : int
        Equal kernels on the board.
    kernel : mapping
        Configuration of the kernel, for `KernelConfig.from_dict`.
    resources : mapping
        What the part has: `lut`, `ff`, `dsp`, `bram36`, `uram`, as far as it has them. Empty for a
        board that is only simulated.
    """

    name: str
    title: str
    clock_mhz: float
    kernels: int
    kernel: Mapping[str, Any]
    resources: Mapping[str, int]


def board_names() -> list[str]:
    """Names of all boards."""
    files = importlib.resources.files(__name__)
    return sorted(f.name.removesuffix(".toml") for f in files.iterdir() if f.name.endswith(".toml"))


def load_board(name: str) -> Board:
    """A board by name.

    Raises
    ------
    UnknownBoardError
        If there is none of that name.
    """
    if name not in board_names():
        near = difflib.get_close_matches(name, board_names(), n=2) or board_names()
        raise UnknownBoardError(f"board {name!r} is not known; did you mean {' or '.join(near)}?")
    text = importlib.resources.files(__name__).joinpath(f"{name}.toml").read_text()
    data = tomllib.loads(text)
    return Board(
        name=name,
        title=data["title"],
        clock_mhz=data["clock_mhz"],
        kernels=data["kernels"],
        kernel=data["kernel"],
        resources=data.get("resources", {}),
    )
