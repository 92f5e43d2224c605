import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_format.image import Block, Target, pack_blocks, unpack_blocks

BLOCKS = st.lists(
    st.integers(0, 96).flatmap(
        lambda bits: st.builds(
            Block,
            target=st.sampled_from([target for target in Target if target != Target.END]),
            rows=st.lists(st.integers(0, (1 << bits) - 1), max_size=5 if bits else 0),
            row_bits=st.just(bits),
            engine=st.integers(0, 255),
            unit=st.integers(0, 255),
            start=st.integers(0, 1 << 16),
        )
    ),
    max_size=4,
)
END = Block(Target.END, [], 0)


@given(blocks=BLOCKS)
@settings(deadline=None, max_examples=100)
def test_blocks_survive_an_image(blocks: list[Block]) -> None:
    image = pack_blocks([*blocks, END])
    assert len(image) % 16 == 0
    result = list(unpack_blocks(image))
    assert len(result) == len(blocks) + 1
    for before, after in zip(blocks, result, strict=False):
        assert after.rows == before.rows
        assert after.row_bits == -(-before.row_bits // 32) * 32
        same = ("target", "engine", "unit", "start")
        assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


@given(blocks=BLOCKS, data=st.data())
@settings(deadline=None, max_examples=50)
def test_truncated_images_are_refused(blocks: list[Block], data: st.DataObject) -> None:
    image = pack_blocks([*blocks, END])
    length = data.draw(st.integers(0, len(image) - 1))
    with pytest.raises(ValueError, match=r"^device image ends at byte \d+ (without|inside)"):
        list(unpack_blocks(image[:length]))


@given(image=st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
def test_garbage_is_refused_by_one_error(image: bytes) -> None:
    with pytest.raises(ValueError, match=r"^device image "):
        list(unpack_blocks(image))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "device image ends at byte 0 without an END block"),
        (pack_blocks([END]) + bytes(4), "device image has 4 bytes after its END block"),
        (bytes(16), "device image has no block at byte 0"),
        (
            pack_blocks([Block(Target.SELECT, [1], 15)])[:18],
            "device image ends at byte 18 inside a block",
        ),
    ],
)
def test_images_are_refused(image: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        list(unpack_blocks(image))


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OverflowError):
        pack_blocks([Block(Target.SELECT, [1 << 32], 15)])
