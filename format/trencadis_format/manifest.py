"""Records in JSON that comes from anywhere: every field is there, and of its type."""

import math
from dataclasses import fields
from typing import Any, TypeVar

from trencadis_format.config import KernelConfig

__all__ = ["has_type", "kernel_of", "list_of", "object_of", "record_of"]

_Record = TypeVar("_Record")


def kernel_of(value: object) -> KernelConfig:
    """A kernel configuration in which whole numbers are whole numbers."""
    kernel = object_of(value, "kernel")
    core = object_of(kernel.get("core"), "kernel.core")
    engines = [core["map"]] if core.get("map") is not None else core.get("engines")
    if not isinstance(engines, list):
        raise ValueError("its kernel.core.engines is missing or not a list")
    parts = [kernel, core, *(object_of(engine, "engine") for engine in engines)]
    for name, entry in ((name, entry) for part in parts for name, entry in part.items()):
        whole = isinstance(entry, bool) if name == "sparse_input" else has_type(entry, "int")
        if not whole and not isinstance(entry, (str, dict, list)):
            raise ValueError(f"its kernel has {name} {entry!r}")
    try:
        return KernelConfig.from_dict(kernel)
    except TypeError as error:  # a text where a number should be
        raise ValueError(f"its kernel cannot be read ({error})") from error


def object_of(value: object, what: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"its {what} is missing or not an object")
    return value


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}


def record_of(cls: type[_Record], value: object, what: str) -> _Record:
    """An instance of a dataclass of plain fields, each checked against its annotation."""
    data = object_of(value, what)
    names = {field.name: str(getattr(field.type, "__name__", field.type)) for field in fields(cls)}  # type: ignore[arg-type]
    if data.keys() != names.keys():
        raise ValueError(f"its {what} has the wrong fields")
    arguments: dict[str, Any] = {}
    real = ("scale", "scales", "offsets")
    for name, annotation in names.items():
        entry = data[name]
        if annotation.startswith("tuple"):
            element = "float" if name in real else "int"
            if not isinstance(entry, list):
                raise ValueError(f"{what}.{name} is not a list")
            if not all(
                has_type(item, element) or (item is None and name == "shape") for item in entry
            ):
                raise ValueError(f"{what}.{name} is not a list of {element}")
            arguments[name] = tuple(_float(item) if name in real else item for item in entry)
        else:
            if not has_type(entry, annotation):
                raise ValueError(f"{what}.{name} is not a {annotation}")
            arguments[name] = _float(entry) if name in real else entry
    return cls(**arguments)


def _float(value: float) -> float:
    """A float; a whole number that is too large for one becomes infinite, as it would in JSON."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def has_type(value: object, kind: str) -> bool:
    """Tell whether a value is a `str`, `int`, `float` or `bool`; truth values are no numbers."""
    if kind != "bool" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[kind])


def list_of(value: object, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise ValueError(f"its {what} is missing or not a list")
    return value
