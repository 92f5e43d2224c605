import pytest

from trencadis_format.records import Field, FieldError, Record

NARROW = Record("NARROW", (Field("a", 2, "unsigned"), Field("b", 3, "signed", True)))


def test_first_field_is_lowest() -> None:
    assert NARROW.pack(a=1, b=-1) == 0b11101
    assert NARROW.pack(a=2, b=3) == 0b01110
    assert [NARROW.unpack(word)["b"] for word in range(0, 32, 4)] == [0, 1, 2, 3, -4, -3, -2, -1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": 4, "b": 0}, r"NARROW\.a must be in 0\.\.3, not 4"),
        ({"a": -1, "b": 0}, r"NARROW\.a must be in 0\.\.3, not -1"),
        ({"a": 0, "b": 4}, r"NARROW\.b must be in -4\.\.3, not 4"),
        ({"a": 0, "b": -5}, r"NARROW\.b must be in -4\.\.3, not -5"),
        ({"a": 0}, r"NARROW\.b needs a value"),
        ({"a": 0, "b": 0, "d": 0, "c": 0}, r"NARROW has no field c, d"),
    ],
)
def test_pack_refuses(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        NARROW.pack(**values)


def test_what_does_not_fit_is_told_from_what_is_missing() -> None:
    with pytest.raises(FieldError):
        NARROW.pack(a=4, b=0)
    with pytest.raises(ValueError, match="needs a value") as missing:
        NARROW.pack(a=0)
    assert not isinstance(missing.value, FieldError)


@pytest.mark.parametrize("word", [-1, 1 << 5])
def test_unpack_refuses(word: int) -> None:
    with pytest.raises(ValueError, match=r"^a NARROW record has 5 bits, not \d+$"):
        NARROW.unpack(word)


def test_fields_by_name() -> None:
    assert (NARROW["b"].bits, NARROW["b"].high) == (3, 3)
    with pytest.raises(KeyError, match="NARROW has no field c"):
        NARROW["c"]
