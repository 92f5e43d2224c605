"""Tcl as text: words quoted so that a Tcl interpreter reads back what was meant."""

import re

__all__ = ["command", "word"]

_PLAIN = re.compile(r"[\w./:+-]+")


def word(value: object) -> str:
    """One word of Tcl: as it is if that is safe, in braces otherwise.

    Raises
    ------
    ValueError
        If braces cannot hold it: it has a brace or a backslash.
    """
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    if any(character in text for character in "{}\\"):
        raise ValueError(f"{text!r} must have no braces and no backslash, to be a word of Tcl")
    return "{" + text + "}"


def command(name: str, *arguments: object) -> str:
    """A command and its arguments, each one word."""
    return " ".join([name, *(word(argument) for argument in arguments)])
