"""Model of `sequencer`: the issues of a layer whose walks have a fixed length."""

from collections.abc import Iterator, Mapping
from itertools import product

__all__ = ["layer_cycles", "layer_issues"]


def layer_issues(layer: Mapping[str, int], *, second: bool = False) -> Iterator[dict[str, int]]:
    """Everything a layer issues, in order.

    Parameters
    ----------
    layer : fields of `SEQUENCE`
        The layer.
    second : bool
        It reads its map's second buffer.

    Yields
    ------
    dict
        `address` (to be taken modulo the width of an address), `slot`, `index`, `weight_row`,
        `walk_first`; and `first`, `last`, `split`, `pool_first`, `pool_last`, `vector_end` of the
        step.
    """
    base = layer["address"] + layer["in_step"] * second
    slots, entries = layer["slots"] + 1, layer["entries"] + 1
    loops = ("out_h", "out_w", "passes", "pool_h", "pool_w")
    for row, column, turn, y, x in product(*(range(layer[loop] + 1) for loop in loops)):
        window = base + row * layer["pos_y"] + column * layer["pos_x"]
        element = window + y * layer["elem_y"] + x * layer["elem_x"]
        pool_last = (y, x) == (layer["pool_h"], layer["pool_w"])
        for slot, entry in product(range(slots), range(entries)):
            split = layer["paired"] and slot == slots // 2
            first = not layer["paired"] or slot <= slots // 2
            last = not layer["paired"] or slot > slots // 2
            weight_row = layer["weight_base"] + turn * layer["pass_rows"]
            yield {
                "address": element + entry * layer["entry_step"],
                "slot": layer["slot_base"] + slot,
                "index": entry,
                "weight_row": weight_row + slot * layer["slot_rows"],
                "walk_first": int(entry == 0),
                "first": int((slot, entry) == (0, 0)),
                "last": int(split or (slot, entry) == (slots - 1, entries - 1)),
                "split": int(split),
                "pool_first": int(first and (y, x) == (0, 0)),
                "pool_last": int(last and pool_last),
                "vector_end": int(last and pool_last and turn == layer["passes"]),
            }


def layer_cycles(layer: Mapping[str, int]) -> int:
    """Cycles from a layer's first issue to the end of its last step."""
    steps = 1
    for loop in ("out_h", "out_w", "passes", "pool_h", "pool_w"):
        steps *= layer[loop] + 1
    return steps * max(layer["interval"] + 1, (layer["slots"] + 1) * (layer["entries"] + 1))
