"""Errors of the judge."""

from trencadis_format.errors import UserError

__all__ = ["JudgeError", "UnsupportedOperatorError"]


class JudgeError(UserError):
    """A model or values that cannot be judged; one line that says what would help."""


class UnsupportedOperatorError(JudgeError):
    """An operator, or a form of it, that the evaluator does not compute."""
