"""Damage to bytes and to trees of values."""

from typing import Any

import numpy as np
import tomli_w

__all__ = ["damage_bytes", "damage_tree", "strange", "to_toml"]

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 255, 256, 65536, 1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 32, 1 << 62, 1 << 63,
    10**40, 0.0, 0.5, -1.0, 1e300, 5e-324, float("inf"), float("nan"),
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    True, False, "", "a", "\x00", "../..", "/dev/zero", "a\nb", "}", "$(x)", "x" * 10_000,
    [], {}, [[]], [0] * 1000, {"a": {"b": {}}},
)  # fmt: skip

MAX_DEPTH = 700
"""Lists within lists."""


def damage_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    array = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not array:
            break
        place = int(rng.integers(len(array)))
        length = int(rng.choice([1, 1, 2, 4, 8, 64]))
        match int(rng.integers(7)):
            case 0:
                array[place] ^= 1 << int(rng.integers(8))
            case 1:
                array[place : place + length] = rng.bytes(length)
            case 2:
                array[place : place + length] = (
                    bytes([int(rng.choice([0, 255, 127, 128]))]) * length
                )
            case 3:
                del array[place : place + length]
            case 4:
                array[place:place] = array[place : place + length] or b"\x00"
            case 5:
                del array[place:]
            case _:
                other = int(rng.integers(len(array)))
                array[place : place + length] = array[other : other + length]
    return bytes(array)


def damage_tree(tree: Any, rng: np.random.Generator) -> Any:
    """Change one value of nested dictionaries and lists, in place; returns the tree."""
    places = list(_places(tree))
    if not places:
        return strange(tree, rng)
    holder, key = places[int(rng.integers(len(places)))]
    match int(rng.integers(6)):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 1:
            holder[f"{key}x"] = holder[key]
        case 2:
            other, name = places[int(rng.integers(len(places)))]
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = _copied(other[name])
        case _:
            holder[key] = strange(holder[key], rng)
    return tree


def _copied(value: Any, depth: int = 0) -> Any:
    if depth > 50:
        return None
    if isinstance(value, dict):
        return {key: _copied(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item, depth + 1) for item in value]
    return value


def _places(tree: Any, depth: int = 0) -> Any:
    """Holders and keys of all values."""
    if depth > 50:
        return
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield tree, key
            yield from _places(value, depth + 1)
    elif isinstance(tree, list):
        for key, value in enumerate(tree):
            yield tree, key
            yield from _places(value, depth + 1)


def to_toml(tree: Any) -> str:
    """A tree of values as TOML, or as near to it as it comes."""
    try:
        return tomli_w.dumps(tree) if isinstance(tree, dict) else str(tree)
    except RecursionError:
        return f"deep = {'[' * 1500}{']' * 1500}\n"
    except (TypeError, ValueError):
        return repr(tree)


def strange(value: Any, rng: np.random.Generator) -> Any:
    """Another value in place of one: near it, or far off."""
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.7:
        near = [value + 1, value - 1, -value, value * 2]
        choices = (*NUMBERS, *near)
        return choices[int(rng.integers(len(choices)))]
    if rng.random() < 0.03:
        nested: Any = 0
        for _ in range(int(rng.integers(1, MAX_DEPTH))):
            nested = [nested]
        return nested
    choices = (*NUMBERS, *OTHERS)
    return choices[int(rng.integers(len(choices)))]
