import pytest

from trencadis_format.closing import Closing


class Door(Closing):
    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_block_closes_what_it_opened() -> None:
    with Door() as door:
        assert not door.closed
    assert door.closed


def test_an_error_closes_it_too_and_goes_on() -> None:
    door = Door()
    with pytest.raises(KeyError), door:
        raise KeyError("of the block")
    assert door.closed
