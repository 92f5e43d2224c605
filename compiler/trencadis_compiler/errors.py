"""Errors with which the compiler refuses a model."""

from trencadis_format.errors import UserError

__all__ = ["CompileError", "Unsupported"]


class CompileError(UserError):
    """A model, or a file, that cannot be compiled. One line: subject, rule, value, remedy."""


class Unsupported(CompileError):
    """The overlay cannot do what a node asks for; the host can. One line: node, rule, remedy."""

    def __init__(self, node: object, reason: str) -> None:
        super().__init__(f"{node}: {reason}")
