"""NumPy model of `emit`."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Destination, Emission

__all__ = ["host_pieces", "map_writes"]

Write = dict[str, int]


def map_writes(
    layer: Mapping[str, int],
    positions: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]],
    *,
    second: bool = False,
) -> list[Write]:
    """List writes of one map, in order.

    Parameters
    ----------
    layer : fields of `EMIT`
        The layer.
    positions : sequence of (int64 array, bool array), shape (channels,)
        Keys and survivors of every position, row by row.
    second : bool
        The map goes to its second buffer.

    Returns
    -------
    list of dict
        Fields of `lists.list_write_layout`, with `next`, and `value` and `index` of the entry. A
        write that is not enabled has no address and no entry.
    """
    where = {
        "next": int(layer["destination"] == Destination.NEXT),
        "map": layer["out_map"],
        "owned": int(layer["emission"] == Emission.OWNED),
        "base": layer["base"] + layer["size"] * second,
        "size": layer["size"],
    }
    writes: list[Write] = []
    for number, (keys, mask) in enumerate(positions):
        row, column = divmod(number, layer["width"] + 1)
        address = layer["address"] + row * layer["row_step"] + column * layer["pitch"]
        for owner, entries in _lists(layer, keys, mask):
            for count, (index, value) in enumerate(entries):
                if value == 0 and count == layer["pitch"]:
                    writes.append({**where, "enable": 0, "final": 0})
                    continue
                entry = {"address": address + count, "index": index, "value": value}
                writes.append({**where, "enable": 1, "final": 0, "owner": owner, **entry})
    writes.append({**where, "enable": 0, "final": 1})
    return writes


def _lists(
    layer: Mapping[str, int], keys: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Lists of a position: owner, and (index, value) of its entries; those of value 0 are ends."""
    values = keys - layer["zero"]
    survivors = [(int(i), int(values[i])) for i in np.flatnonzero(mask & (values != 0))]
    if layer["emission"] == Emission.LISTS:
        yield 0, survivors + [(0, 0)] * (layer["pitch"] - len(survivors))
    elif layer["emission"] == Emission.TERMINATED:
        yield 0, [*survivors, (0, 0)]
    else:
        for owner in range(layer["owners"] + 1):
            base = owner * layer["block"]
            own = [(i - base, value) for i, value in survivors if 0 <= i - base < layer["block"]]
            yield owner, [*own, (0, 0)]


def host_pieces(
    keys: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], requantisers: int
) -> list[int]:
    """Pieces of a vector for the host: `requantisers` bytes each, 0 where a key does not count."""
    filled = np.zeros(-(-len(keys) // requantisers) * requantisers, np.uint8)
    filled[: len(keys)] = np.where(mask, keys, 0)
    return [int.from_bytes(row.tobytes(), "little") for row in filled.reshape(-1, requantisers)]
