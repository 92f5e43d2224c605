import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_format.layer_tables import REGION, REQUANTISE, SEQUENCE, weight_record
from trencadis_format.rows import pack_rows, unpack_rows

RECORDS = [weight_record(2, 1), weight_record(16, 5), SEQUENCE, REQUANTISE]


@settings(deadline=None, max_examples=40)
@given(record=st.sampled_from(RECORDS), seed=st.integers(0, 1 << 16), rows=st.integers(0, 5))
def test_rows_are_packed_as_the_record_packs_them(record, seed, rows) -> None:
    rng = np.random.default_rng(seed)
    columns = {
        field.name: rng.integers(field.low, field.high, rows, endpoint=True)
        for field in record.fields
    }
    for field in record.fields:
        columns[field.name][:2] = [field.low, field.high][:rows]
    expected = [
        record.pack(**{name: int(column[row]) for name, column in columns.items()})
        for row in range(rows)
    ]
    assert pack_rows(record, columns) == expected
    unpacked = unpack_rows(record, expected)
    assert list(unpacked) == list(columns)
    assert all(np.array_equal(unpacked[name], columns[name]) for name in columns)


def test_rows_of_more_bits_are_refused() -> None:
    for row in (1 << REGION.bits, 1 << 64):
        with pytest.raises(ValueError, match=r"^a REGION record has \d+ bits, a row more$"):
            unpack_rows(REGION, [0, row])


def test_values_must_fit() -> None:
    record = REGION
    with pytest.raises(ValueError, match=r"^REGION\.low must be in 0\.\.16383, not 16384$"):
        pack_rows(record, {"low": np.array([1, 16384])})
    with pytest.raises(ValueError, match=r"^REGION needs a column for each of its fields"):
        pack_rows(record, {})
