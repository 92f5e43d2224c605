"""Reading boards: every field known, of its type, in its range, and consistent with the others."""

import difflib
import importlib.resources
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from trencadis_boards.board import FAMILIES, RESOURCES, Board, BoardError

__all__ = ["UnknownBoardError", "board_names", "board_text", "load_board", "read_board"]

_Value = TypeVar("_Value")

NEEDS = {
    "simulation": (),
    "vitis": ("part", "resources", "regions", "banks", "platform", "tools"),
    "zynq": ("part", "resources", "banks", "processor", "tools"),
    "ecp5": ("part", "resources", "oscillator", "link", "pins"),
}
"""Fields without which a family's flow cannot build."""


class UnknownBoardError(BoardError):
    """There is no such board. One line, with the nearest names."""


def board_names() -> list[str]:
    """Names of all boards."""
    files = importlib.resources.files("trencadis_boards")
    return sorted(f.name.removesuffix(".toml") for f in files.iterdir() if f.name.endswith(".toml"))


def load_board(name: str) -> Board:
    """A board by name; a name that ends in `.toml` is a file of your own.

    Raises
    ------
    UnknownBoardError
        If there is none of that name.
    BoardError
        If its description is not usable.
    """
    text = board_text(name)
    if name.endswith(".toml"):
        return read_board(text, Path(name).stem, name)
    return read_board(text, name, f"{name}.toml")


def board_text(name: str) -> str:
    """The description of a board, as TOML; by name, or a file of your own.

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
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise BoardError(
            f"{name}: cannot be read: {error.strerror}; give the path of a board's "
            f"description, or one of {', '.join(board_names())}"
        ) from error
    except UnicodeDecodeError as error:
        raise BoardError(f"{name}: not TOML: it is not UTF-8 text") from error


def read_board(text: str, name: str, file: str) -> Board:
    """A board from its description.

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
    if "name" in data:
        raise BoardError(f"{file}: name is taken from the file's name; remove the field")
    board = _build(Board, {**data, "name": name}, file, "")
    _check(board, file)
    return board


def _build(cls: type[_Value], data: object, file: str, path: str) -> _Value:
    """A dataclass from a table."""
    assert is_dataclass(cls)
    if not isinstance(data, dict):
        raise BoardError(f"{file}: {path} must be a table, not {data!r}")
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
            help_ = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(hints))}"
            raise BoardError(f"{file}: field {_join(path, key)} is not known; {help_}")
    for entry in fields(cls):
        if entry.name not in data and entry.default is MISSING and entry.default_factory is MISSING:
            raise BoardError(f"{file}: field {_join(path, entry.name)} is missing")
    values = {key: _value(hints[key], value, file, _join(path, key)) for key, value in data.items()}
    return cls(**values)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _value(hint: Any, value: object, file: str, path: str) -> Any:
    """A value, checked to be of its declared type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        return _value(arguments[0], value, file, path)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _build(hint, value, file, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise BoardError(f"{file}: {path} must be a list, not {value!r}")
        return tuple(
            _value(arguments[0], item, file, f"{path}[{i}]") for i, item in enumerate(value)
        )
    if origin is not None:  # a mapping
        if not isinstance(value, dict):
            raise BoardError(f"{file}: {path} must be a table, not {value!r}")
        if arguments[1] is Any:
            return value
        return {
            key: _value(arguments[1], item, file, f"{path}.{key}") for key, item in value.items()
        }
    allowed = (int, float) if hint is float else (hint,)
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise BoardError(f"{file}: {path} must be {_NAMES[hint]}, not {value!r}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text"}


def _check(board: Board, file: str) -> None:
    """Rules that hold between fields."""

    def require(condition: bool, path: str, rule: str, value: object) -> None:
        if not condition:
            raise BoardError(f"{file}: {path} must be {rule}, not {value!r}")

    require(board.family in FAMILIES, "family", f"one of {', '.join(FAMILIES)}", board.family)
    require(board.clock_mhz > 0, "clock_mhz", "positive", board.clock_mhz)
    require(1 <= board.kernels <= 60, "kernels", "in 1..60", board.kernels)
    require(0 < board.budget <= 1, "budget", "above 0 and at most 1", board.budget)
    for need in NEEDS[board.family]:
        if not getattr(board, need):
            raise BoardError(f"{file}: field {need} is missing; family {board.family} needs it")
    _check_resources(board.resources, "resources", require)
    for i, region in enumerate(board.regions):
        _check_resources(region.resources, f"regions[{i}].resources", require)
    for key, total in board.resources.items():
        parts = sum(region.resources.get(key, 0) for region in board.regions)
        rule = f"the sum over all regions, {parts}"
        require(not board.regions or parts == total, f"resources.{key}", rule, total)
    regions = [region.name for region in board.regions]
    for i, bank in enumerate(board.banks):
        require(bank.size_mib > 0, f"banks[{i}].size_mib", "positive", bank.size_mib)
        require(bank.bits in (32, 64, 128, 256, 512), f"banks[{i}].bits", "a bus width", bank.bits)
        allowed = regions or [""]
        rule = f"one of {', '.join(regions)}" if regions else "left out"
        require(bank.region in allowed, f"banks[{i}].region", rule, bank.region)
    names = [bank.name for bank in board.banks]
    require(len(set(names)) == len(names), "banks", "named differently", names)
    for key, tool in board.tools.items():
        ordered = tool.takes(tool.oldest) and tool.takes(tool.newest)
        require(ordered, f"tools.{key}", "a range of versions", (tool.oldest, tool.newest))
    sites = [pin.site for pin in board.pins.values()]
    require(len(set(sites)) == len(sites), "pins", "on sites of their own", sites)


def _check_resources(
    resources: Mapping[str, int], path: str, require: Any, known: Iterable[str] = RESOURCES
) -> None:
    for key, value in resources.items():
        require(key in known, f"{path}.{key}", f"one of {', '.join(known)}", key)
        require(value > 0, f"{path}.{key}", "positive", value)
