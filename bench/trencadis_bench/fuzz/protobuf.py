"""Damage to the structure of ONNX files, field by field."""

from typing import Any

import numpy as np
import onnx

__all__ = ["damage_model"]

STRANGE_NUMBERS = (0, 1, -1, 2, 7, 100, 1 << 31, (1 << 62) - 1, -(1 << 31), -(1 << 63))
STRANGE_TEXT = ("", "x", "a\nb", "\u0000", "../x", "ai.onnx", "x" * 5000)
STRANGE_BYTES = (b"", b"\x00", b"\xff" * 7, b"\xfe\x80")


def damage_model(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Change one field of one message of a model, whatever it means."""
    messages = list(_messages(model))
    message = messages[int(rng.integers(len(messages)))]
    fields = message.ListFields()
    if not fields:
        return
    field, value = fields[int(rng.integers(len(fields)))]
    if hasattr(value, "append") or hasattr(value, "add"):
        if not len(value):
            return
        place = int(rng.integers(len(value)))
        match int(rng.integers(3)):
            case 0:
                del value[place]
            case 1 if hasattr(value, "add"):
                value.add().CopyFrom(value[place])
            case _ if not hasattr(value[place], "ListFields"):
                value[place] = _strange(value[place], rng)
        return
    if rng.random() < 0.3 or hasattr(value, "ListFields"):
        message.ClearField(field.name)
        return
    try:
        setattr(message, field.name, _strange(value, rng))
    except ValueError:
        message.ClearField(field.name)


def _messages(message: Any) -> Any:
    yield message
    for _, value in message.ListFields():
        if hasattr(value, "ListFields"):
            yield from _messages(value)
        elif hasattr(value, "add"):
            for item in value:
                yield from _messages(item)


def _strange(value: Any, rng: np.random.Generator) -> Any:
    choices: tuple[Any, ...]
    if isinstance(value, bytes):
        choices = (*STRANGE_BYTES, value[: len(value) // 2], value * 2)
    elif isinstance(value, str):
        choices = STRANGE_TEXT
    elif isinstance(value, float):
        choices = (0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-40)
    else:
        choices = (*STRANGE_NUMBERS, int(value) + 1)
    chosen = choices[int(rng.integers(len(choices)))]
    if isinstance(chosen, int) and not isinstance(chosen, bool):
        # Enumerations and 32-bit fields refuse what does not fit.
        return chosen if abs(chosen) < 1 << 31 or rng.random() < 0.5 else chosen % 1000
    return chosen
