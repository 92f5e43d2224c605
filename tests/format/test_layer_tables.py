import hashlib
import random
from collections.abc import Callable

import pytest

from trencadis_format.image import ABI_VERSION, BLOCK, HEADER
from trencadis_format.layer_tables import (
    EMIT,
    FEED,
    PROGRAM,
    REGION,
    REQUANTISE,
    SELECT,
    SEQUENCE,
    SERIALISE,
    SLOT,
    gather_record,
    scatter_record,
    weight_record,
)
from trencadis_format.records import Field, Record
from trencadis_format.registers import CONTROL, STATISTICS
from trencadis_hw.interface.layouts import layout_of

RECORDS = [
    PROGRAM,
    SEQUENCE,
    SERIALISE,
    SELECT,
    EMIT,
    SLOT,
    REGION,
    REQUANTISE,
    FEED,
    HEADER,
    BLOCK,
    CONTROL,
    STATISTICS,
    weight_record(2, 1),
    weight_record(8, 6),
    scatter_record(1),
    scatter_record(8),
    gather_record(1),
    gather_record(8),
]


def extremes(record: Record) -> list[dict[str, int]]:
    """All fields at their smallest, at their largest, and at random values."""
    generator = random.Random(record.name)
    draws: list[Callable[[Field], int]] = [lambda field: field.low, lambda field: field.high]
    draws += [lambda field: generator.randint(field.low, field.high)] * 5
    return [{field.name: draw(field) for field in record.fields} for draw in draws]


def test_the_version_changes_with_the_records() -> None:
    """Hardware and images must agree on the records; if this fails, raise `ABI_VERSION`."""
    fields = [
        (record.name, [(field.name, field.bits, field.signed) for field in record.fields])
        for record in RECORDS
    ]
    fingerprint = hashlib.sha256(repr(fields).encode()).hexdigest()[:16]
    assert (ABI_VERSION, fingerprint) == (2, "90663ff3dade8b26")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_unpack_is_inverse_of_pack(record: Record) -> None:
    for values in extremes(record):
        word = record.pack(**values)
        assert 0 <= word < 1 << record.bits
        assert record.unpack(word) == values


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_layout_has_the_same_bits(record: Record) -> None:
    layout = layout_of(record)
    assert layout.size == record.bits
    for values in extremes(record):
        assert layout.const({**values}).as_bits() == record.pack(**values)


@pytest.mark.parametrize("tiles", [2, 4])
def test_weights_are_stored_as_the_wide_operand(tiles: int) -> None:
    record = weight_record(tiles, 3)
    assert record.bits == tiles // 2 * (8 + 9) + tiles * 3
    assert [field.bits for field in record.fields if "weight" in field.name] == [8, 9] * (
        tiles // 2
    )
