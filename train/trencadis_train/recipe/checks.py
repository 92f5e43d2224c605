"""Checks of a recipe's fields: one line that names the field, its rule and its value."""

import math

from trencadis_train.errors import TrainingError

__all__ = ["check", "check_range", "shown"]

SHOWN = 80
"""Characters of a value that an error repeats."""


def check(condition: bool, subject: str, rule: str, value: object) -> None:
    """Refuse a value unless the condition holds.

    Raises
    ------
    TrainingError
        Naming subject, rule and value.
    """
    if not condition:
        raise TrainingError(f"{subject} must be {rule}, not {shown(value)}")


def check_range(subject: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a value outside `low`..`high`.

    Raises
    ------
    TrainingError
        Naming subject, range and value.
    """
    rule = f"at least {low}" if high == math.inf else f"in {low}..{high}"
    check(low <= value <= high, subject, rule, value)


def shown(value: object) -> str:
    """A value as an error repeats it: on one line, and cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # thousands of digits, thousands of brackets
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
