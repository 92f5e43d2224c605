"""Tcl as text: words quoted so that a Tcl interpreter reads back what was meant."""

import re

__all__ = ["command", "query", "word"]

_PLAIN = re.compile(r"[A-Za-z0-9_./:+-]+")
_BRACED = re.compile(r"[^{}\\\x00-\x1f\x7f]*")
_ESCAPED = re.compile(r'["\\\[\]{}$\x00-\x1f\x7f]')


def word(value: object) -> str:
    r"""Quote a value as one word of Tcl, whatever is in it.

    It is left as it is if that is safe, or put in braces. Where it has braces, backslashes or
    control characters itself it is put in quotes, with these escaped: a word may stand inside the
    braces of a body, whose end is found by counting the braces that no backslash precedes.
    """
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    if _BRACED.fullmatch(text):
        return "{" + text + "}"
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return f"\\{character}" if character.isprintable() else f"\\u{ord(character):04x}"


def command(name: str, *arguments: object) -> str:
    """Write a command and its arguments, each one word."""
    return " ".join([name, *(word(argument) for argument in arguments)])


def query(name: str, *arguments: object) -> str:
    """Write a command whose result takes the place of a word."""
    return f"[{command(name, *arguments)}]"
