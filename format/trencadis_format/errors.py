"""Common bases of the errors that a user may see: a mistake of theirs, or a failure of ours."""

__all__ = ["ContainerError", "FailureError", "FileError", "InputError", "UserError"]


class UserError(ValueError):
    """A user's mistake: exit status 2. One line: subject, rule, value, remedy."""

    def __str__(self) -> str:
        """The message, where names that a file brings break no lines."""
        return " ".join(super().__str__().splitlines())


class FailureError(RuntimeError):
    """A failure of ours, of a tool or of a device: exit status 1. One line."""


class FileError(UserError):
    """A file cannot be read or written. One line: file, rule, value, remedy."""


class ContainerError(FileError):
    """A file is not a usable compiled network. One line: file, rule, value, remedy."""


class InputError(UserError):
    """An input array does not fit the model. One line: input, rule, what came."""
