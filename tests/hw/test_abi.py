import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_hw import abi
from trencadis_hw.axi.lite import ADDRESS_BITS, ARGUMENTS
from trencadis_hw.layouts import layout_of

RECORDS = [
    abi.PROGRAM,
    abi.SEQUENCE,
    abi.SERIALISE,
    abi.SELECT,
    abi.EMIT,
    abi.SLOT,
    abi.REGION,
    abi.REQUANTISE,
    abi.FEED,
    abi.HEADER,
    abi.BLOCK,
    abi.CONTROL,
    abi.STATISTICS,
    abi.weight_record(2, 1),
    abi.weight_record(8, 6),
    abi.scatter_record(1),
    abi.scatter_record(8),
    abi.gather_record(1),
    abi.gather_record(8),
]
NARROW = abi.Record("NARROW", (abi.Field("a", 2, "unsigned"), abi.Field("b", 3, "signed", True)))


def extremes(record: abi.Record) -> list[dict[str, int]]:
    """All fields at their smallest, at their largest, and at random values."""
    generator = random.Random(record.name)
    draws: list[Callable[[abi.Field], int]] = [lambda field: field.low, lambda field: field.high]
    draws += [lambda field: generator.randint(field.low, field.high)] * 5
    return [{field.name: draw(field) for field in record.fields} for draw in draws]


def test_the_version_changes_with_the_records() -> None:
    """What hardware and images must agree on; if this fails, count `ABI_VERSION` up."""
    fields = [
        (record.name, [(field.name, field.bits, field.signed) for field in record.fields])
        for record in RECORDS
    ]
    fingerprint = hashlib.sha256(repr(fields).encode()).hexdigest()[:16]
    assert (abi.ABI_VERSION, fingerprint) == (2, "a98ac1d165d37ebe")


@pytest.mark.parametrize("name", abi.__all__)
def test_everything_public_exists(name: str) -> None:
    assert hasattr(abi, name)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_unpack_is_inverse_of_pack(record: abi.Record) -> None:
    for values in extremes(record):
        word = record.pack(**values)
        assert 0 <= word < 1 << record.bits
        assert record.unpack(word) == values


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_layout_has_the_same_bits(record: abi.Record) -> None:
    layout = layout_of(record)
    assert layout.size == record.bits
    for values in extremes(record):
        assert layout.const({**values}).as_bits() == record.pack(**values)


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


@pytest.mark.parametrize("word", [-1, 1 << 5])
def test_unpack_refuses(word: int) -> None:
    with pytest.raises(ValueError, match=r"^a NARROW record has 5 bits, not \d+$"):
        NARROW.unpack(word)


@pytest.mark.parametrize("tiles", [2, 4])
def test_weights_are_stored_as_the_wide_operand(tiles: int) -> None:
    record = abi.weight_record(tiles, 3)
    assert record.bits == tiles // 2 * (8 + 9) + tiles * 3
    assert [field.bits for field in record.fields if "weight" in field.name] == [8, 9] * (
        tiles // 2
    )


def test_argument_registers_do_not_overlap() -> None:
    sizes = dict.fromkeys(abi.Register, 32) | dict(ARGUMENTS.values())
    sizes[abi.Register.CONFIGURATION] = 64
    words = [register + i for register, bits in sizes.items() for i in range(0, bits // 8, 4)]
    assert len(words) == len(set(words))
    assert max(words) < 1 << ADDRESS_BITS
    assert all(word % 4 == 0 for word in words)


def test_statistics_fill_whole_beats_of_the_widest_bus() -> None:
    assert abi.STATISTICS.bits % 512 == 0


BLOCKS = st.lists(
    st.integers(0, 96).flatmap(
        lambda bits: st.builds(
            abi.Block,
            target=st.sampled_from([target for target in abi.Target if target != abi.Target.END]),
            rows=st.lists(st.integers(0, (1 << bits) - 1), max_size=5 if bits else 0),
            row_bits=st.just(bits),
            engine=st.integers(0, 255),
            unit=st.integers(0, 255),
            start=st.integers(0, 1 << 16),
        )
    ),
    max_size=4,
)
END = abi.Block(abi.Target.END, [], 0)


@given(blocks=BLOCKS)
@settings(deadline=None, max_examples=100)
def test_blocks_survive_an_image(blocks: list[abi.Block]) -> None:
    image = abi.pack_blocks([*blocks, END])
    assert len(image) % 16 == 0
    result = list(abi.unpack_blocks(image))
    assert len(result) == len(blocks) + 1
    for before, after in zip(blocks, result, strict=False):
        assert after.rows == before.rows
        assert after.row_bits == -(-before.row_bits // 32) * 32
        same = ("target", "engine", "unit", "start")
        assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


@given(blocks=BLOCKS, data=st.data())
@settings(deadline=None, max_examples=50)
def test_truncated_images_are_refused(blocks: list[abi.Block], data: st.DataObject) -> None:
    image = abi.pack_blocks([*blocks, END])
    length = data.draw(st.integers(0, len(image) - 1))
    with pytest.raises(ValueError, match=r"^device image ends at byte \d+ (without|inside)"):
        list(abi.unpack_blocks(image[:length]))


@given(image=st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
def test_garbage_is_refused_by_one_error(image: bytes) -> None:
    with pytest.raises(ValueError, match=r"^device image "):
        list(abi.unpack_blocks(image))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "device image ends at byte 0 without an END block"),
        (abi.pack_blocks([END]) + bytes(4), "device image has 4 bytes after its END block"),
        (bytes(16), "device image has no block at byte 0"),
        (
            abi.pack_blocks([abi.Block(abi.Target.SELECT, [1], 15)])[:18],
            "device image ends at byte 18 inside a block",
        ),
    ],
)
def test_images_are_refused(image: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        list(abi.unpack_blocks(image))


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OverflowError):
        abi.pack_blocks([abi.Block(abi.Target.SELECT, [1 << 32], 15)])
