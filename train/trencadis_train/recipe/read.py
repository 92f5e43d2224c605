"""Recipes read from TOML: what is unknown, of the wrong type or out of range is one line."""

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from trencadis_train.errors import TrainingError
from trencadis_train.recipe.checks import check_range, shown
from trencadis_train.recipe.tables import Recipe

__all__ = ["differences", "load_recipe", "parse_recipe"]

MAX_BYTES = 1 << 20
"""Size of a recipe's file at most."""

MAX_INTEGER = 1 << 40
"""Larger numbers than any field has a use for, and smaller than what overflows."""

_Table = TypeVar("_Table")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path : Path
        A TOML file.
    overrides : sequence of str
        Changes, like `training.epochs=3` or `layer.0.winners=8`; values are TOML.

    Raises
    ------
    TrainingError
        Naming the file and what is wrong with it.
    """
    data = _read(path)
    for override in overrides:
        _override(data, override)
    try:
        return parse_recipe(data)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from error


def parse_recipe(data: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data.

    Raises
    ------
    TrainingError
        Naming the field that is unknown, missing, of the wrong type or out of range.
    """
    return _parse(Recipe, data, "")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise TrainingError(f"{path}: a recipe must be a regular file; name one")
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise TrainingError(f"{path}: a recipe must have {MAX_BYTES} bytes at most")
    try:
        return tomllib.loads(text.decode())
    except RecursionError as error:
        raise TrainingError(f"{path}: not TOML: its tables or lists are nested too deep") from error
    except ValueError as error:  # wrong TOML or UTF-8, or thousands of digits
        raise TrainingError(f"{path}: not TOML: {error}") from error


def differences(theirs: Any, ours: Any, path: str = "") -> list[str]:
    """Names of the fields in which two recipes, as plain data, differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = list(dict.fromkeys([*theirs, *ours]))
        pairs = [(name, theirs.get(name), ours.get(name)) for name in names]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(theirs, ours, strict=True))]
    else:
        return [] if theirs == ours else [path]
    return [
        found
        for name, a, b in pairs
        for found in differences(a, b, f"{path}.{name}" if path else name)
    ]


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value
    if not equals or not all(names):
        raise TrainingError(f"a change must look like training.epochs=3, not {text!r}")
    place: Any = data
    for name in names[:-1]:
        if isinstance(place, list):
            place = place[_index(place, name, text)]
        else:
            place = place.setdefault(name, {})
        if not isinstance(place, (dict, list)):
            raise TrainingError(f"{text!r} changes a field of {name}, which has none")
    if isinstance(place, list):
        place[_index(place, names[-1], text)] = parsed
    else:
        place[names[-1]] = parsed


def _index(items: list[Any], name: str, text: str) -> int:
    if not name.isdecimal() or int(name) >= len(items):
        raise TrainingError(f"{text!r} must count entries from 0 to {len(items) - 1}, not {name!r}")
    return int(name)


def _parse(cls: type[_Table], data: object, path: str) -> _Table:
    where = path or "the recipe"
    if not isinstance(data, Mapping):
        raise TrainingError(f"{where} must be a table, not {shown(data)}")
    known = {entry.name: entry for entry in fields(cls)}  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise TrainingError(f"{where} has no field {name!r}; {hint}")
    missing = [
        name
        for name, entry in known.items()
        if name not in data
        and entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise TrainingError(f"{where} needs {', '.join(missing)}")
    hints = typing.get_type_hints(cls)
    values = {
        name: _convert(hints[name], value, f"{path}.{name}" if path else name)
        for name, value in data.items()
    }
    try:
        return cls(**values)
    except TrainingError as error:
        # Tables of a list all have the same name.
        raise TrainingError(f"{path}: {error}" if path[-1:].isdigit() else str(error)) from error


def _convert(kind: Any, value: Any, path: str) -> Any:
    """A value as the type of its field."""
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        one, several = typing.get_args(kind)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            (value,) = value  # the same recipe, so that either form resumes the other
        return _convert(several if isinstance(value, (list, tuple)) else one, value, path)
    if origin is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise TrainingError(f"{path} must be one of {', '.join(choices)}, not {shown(value)}")
        return value
    if origin is tuple:
        element, *rest = typing.get_args(kind)
        if not isinstance(value, (list, tuple)):
            raise TrainingError(f"{path} must be a list, not {shown(value)}")
        if rest != [...] and len(value) != 1 + len(rest):
            raise TrainingError(f"{path} must have {1 + len(rest)} entries, not {len(value)}")
        return tuple(_convert(element, item, f"{path}.{i}") for i, item in enumerate(value))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _parse(kind, value, path)
    accepted: Any = int | float if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
        raise TrainingError(f"{path} must be {names.get(kind, str(kind))}, not {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise TrainingError(f"{path} must be finite, not {shown(value)}")
    if kind is float:
        try:
            return float(value)
        except OverflowError as error:
            raise TrainingError(f"{path} must be finite, not {shown(value)}") from error
    if kind is int:
        check_range(path, value, -MAX_INTEGER, MAX_INTEGER)
    return value
