"""Many records of one format, packed and unpacked at once."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trencadis_format.records import Record

__all__ = ["pack_rows", "unpack_rows"]


def pack_rows(record: Record, columns: Mapping[str, npt.NDArray[np.int64]]) -> list[int]:
    """Table rows as `record.pack` makes them.

    Parameters
    ----------
    record : Record
        The format; its fields have at most 63 bits.
    columns : mapping of str to int64 array, shape (rows,)
        Values of every field.

    Raises
    ------
    ValueError
        If a field has no column, a column no field, or a value does not fit its field.
    """
    if columns.keys() != {field.name for field in record.fields}:
        raise ValueError(f"{record.name} needs a column for each of its fields, and no others")
    rows = len(next(iter(columns.values())))
    bits = np.zeros((rows, record.bits), np.uint8)
    offset = 0
    for field in record.fields:
        values = columns[field.name]
        if values.min(initial=0) < field.low or values.max(initial=0) > field.high:
            wrong = next(int(value) for value in values if not field.low <= value <= field.high)
            raise ValueError(
                f"{record.name}.{field.name} must be in {field.low}..{field.high}, not {wrong}"
            )
        bits[:, offset : offset + field.bits] = (values[:, None] >> np.arange(field.bits)) & 1
        offset += field.bits
    packed = np.packbits(bits, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def unpack_rows(record: Record, rows: Sequence[int]) -> dict[str, npt.NDArray[np.int64]]:
    """Values of every field, shape (rows,): the inverse of `pack_rows`.

    Raises
    ------
    ValueError
        If a row has more bits than the record.
    """
    size = -(-record.bits // 8)
    try:
        data = b"".join(row.to_bytes(size, "little") for row in rows)
    except OverflowError as error:
        raise ValueError(f"a {record.name} record has {record.bits} bits, a row more") from error
    packed = np.frombuffer(data, np.uint8).reshape(len(rows), size)
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    if bits[:, record.bits :].any():
        raise ValueError(f"a {record.name} record has {record.bits} bits, a row more")
    values, offset = {}, 0
    for field in record.fields:
        found = bits[:, offset : offset + field.bits] @ (np.int64(1) << np.arange(field.bits))
        values[field.name] = found - ((found > field.high).astype(np.int64) << field.bits)
        offset += field.bits
    return values
