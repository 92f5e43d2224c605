"""Dataclasses from tables of TOML: every field known, and of its declared type."""

import difflib
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from trencadis_boards.board import BoardError
from trencadis_format.config import KernelConfig

__all__ = ["parse_table"]

_Value = TypeVar("_Value")
_NAMES = {int: "a whole number", float: "a number", str: "text"}
MAX_INTEGER = 1 << 63


def parse_table(cls: type[_Value], data: object, file: str, path: str = "") -> _Value:
    """Make a dataclass of a table.

    A field that is one of several dataclasses takes the one whose `kind` the table's key `kind`
    names.

    Parameters
    ----------
    cls : type
        The dataclass.
    data : object
        The table.
    file, path : str
        File, and path of the table in it: named in errors.

    Raises
    ------
    BoardError
        If the table lacks a field, has an unknown one, or one of another type.
    """
    assert is_dataclass(cls)
    table = _table(data, file, path)
    hints = {name: hint for name, hint in typing.get_type_hints(cls).items() if _is_field(hint)}
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
            help_ = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(hints))}"
            raise BoardError(f"{file}: field {_join(path, key)} is not known; {help_}")
    for entry in fields(cls):
        if entry.name not in table and entry.default is entry.default_factory is MISSING:
            raise BoardError(f"{file}: field {_join(path, entry.name)} is missing")
    return cls(
        **{key: _value(hints[key], value, file, _join(path, key)) for key, value in table.items()}
    )


def _is_field(hint: Any) -> bool:
    return typing.get_origin(hint) is not typing.ClassVar


def _join(path: str, key: str) -> str:
    shown = key if key.isprintable() else repr(key)
    return f"{path}.{shown}" if path else shown


def _table(data: object, file: str, path: str) -> Mapping[str, object]:
    if not isinstance(data, dict):
        raise BoardError(f"{file}: {path} must be a table, not {reprlib.repr(data)}")
    return data


def _value(hint: Any, value: object, file: str, path: str) -> Any:
    """Check that a value is of its declared type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        return _union([of for of in arguments if of is not types.NoneType], value, file, path)
    if hint is KernelConfig:
        try:
            return KernelConfig.from_dict(dict(_table(value, file, path)))
        except ValueError as error:
            raise BoardError(f"{file}: [{path}]: {error}") from error
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return parse_table(hint, value, file, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise BoardError(f"{file}: {path} must be a list, not {reprlib.repr(value)}")
        return tuple(
            _value(arguments[0], item, file, f"{path}[{i}]") for i, item in enumerate(value)
        )
    if origin is not None:  # a mapping
        return {
            key: _value(arguments[1], item, file, _join(path, key))
            for key, item in _table(value, file, path).items()
        }
    allowed = (int, float) if hint is float else (hint,)
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise BoardError(f"{file}: {path} must be {_NAMES[hint]}, not {reprlib.repr(value)}")
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise BoardError(f"{file}: {path} must have at most 64 bits, not {value.bit_length()}")
    return value


def _union(choices: list[Any], value: object, file: str, path: str) -> Any:
    """Check a value that may be of several types: the only one, or the one that it names."""
    if len(choices) == 1:
        return _value(choices[0], value, file, path)
    table = dict(_table(value, file, path))
    kinds = {choice.kind: choice for choice in choices}
    kind = table.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise BoardError(
            f"{file}: {_join(path, 'kind')} must be one of {', '.join(kinds)}, not "
            f"{reprlib.repr(kind)}"
        )
    return parse_table(kinds[kind], table, file, path)
