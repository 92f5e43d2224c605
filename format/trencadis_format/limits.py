"""Checks of configurations: limits of fields, and one line for a field that breaks a rule."""

import reprlib
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Limits", "check", "check_limits"]


class Limits(NamedTuple):
    """Smallest and largest value of a field."""

    low: int
    high: int


def check(condition: bool, subject: str, rule: str, value: object) -> None:
    """Refuse a field that breaks a rule.

    Raises
    ------
    ValueError
        If the condition does not hold.
    """
    if not condition:
        raise ValueError(f"{subject} must be {rule}, not {reprlib.repr(value)}")


def check_limits(config: object, limits: Mapping[str, Limits]) -> None:
    """Refuse a configuration of which a field is no integer, or out of its limits.

    Raises
    ------
    ValueError
        Naming the field, its limits and its value.
    """
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        subject = f"{type(config).__name__}.{name}"
        whole = type(value) is int and low <= value <= high
        check(whole, subject, f"an integer in {low}..{high}", value)
