"""What the compiler says when it refuses a model."""

__all__ = ["CompileError"]


class CompileError(ValueError):
    """A model, or a file, that cannot be compiled. One line: subject, rule, value, remedy."""
