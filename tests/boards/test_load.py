from pathlib import Path

import pytest

from trencadis_boards import BoardError, UnknownBoardError, board_names, load_board, read_board
from trencadis_hw.config import KernelConfig

SMALL = """
title = "a board"
family = "ecp5"
clock_mhz = 25
kernels = 1
part = { name = "LFE5U", device = "85k", package = "CABGA381", speed = "6" }
resources = { lut = 100, bram18 = 10 }
oscillator = { mhz = 25 }
link = { baud = 1000000, memory_kib = 64 }
pins = { clk = { site = "G2" }, rx = { site = "M1", options = { IO_TYPE = "LVCMOS33" } } }

[kernel]
cores = 1
"""
CARD = """
title = "a card"
family = "vitis"
clock_mhz = 250
kernels = 2
part = { name = "xcu" }
resources = { lut = 200 }
platform = { names = ["p"] }
tools = { vivado = { oldest = "2022.1", newest = "2024.2" } }
regions = [
    { name = "SLR0", resources = { lut = 100 } },
    { name = "SLR1", resources = { lut = 100 } },
]
banks = [
    { name = "DDR[0]", size_mib = 16, bits = 512, region = "SLR0" },
    { name = "DDR[1]", size_mib = 16, bits = 512, region = "SLR1" },
]

[kernel]
cores = 1
"""


@pytest.mark.parametrize("name", board_names())
def test_boards_are_usable(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    KernelConfig.from_dict(dict(board.kernel))
    if board.regions:
        assert len({board.bank_of(i).region for i in range(board.kernels)}) == min(
            board.kernels, len(board.regions)
        )


def test_the_boards_there_are() -> None:
    assert {"sim", "u250", "zu3eg", "ulx3s"} <= set(board_names())
    u250 = load_board("u250")
    assert u250.part is not None
    assert u250.part.name == "xcu250-figd2104-2L-e"
    assert u250.resources["dsp"] == 12288


@pytest.mark.parametrize(
    ("name", "near"), [("u25", "u250"), ("ulx3", "ulx3s"), ("ZU3EG", "zu3eg"), ("zu3eg ", "zu3eg")]
)
def test_unknown_board_gets_suggestions(name: str, near: str) -> None:
    with pytest.raises(UnknownBoardError, match=f"board '{name}' is not known; did you.*{near}"):
        load_board(name)


def test_nothing_like_any_board_lists_all() -> None:
    with pytest.raises(UnknownBoardError, match=" or ".join(board_names())):
        load_board("xyzzy")


def test_board_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL)
    board = load_board(str(path))
    assert (board.name, board.title) == ("mine", "a board")
    assert board.pins["rx"].options == {"IO_TYPE": "LVCMOS33"}
    other = tmp_path / "other.toml"
    with pytest.raises(BoardError) as caught:
        load_board(str(other))
    assert str(caught.value) == (
        f"{other}: cannot be read: No such file or directory; give the path of a board's "
        f"description, or one of {', '.join(board_names())}"
    )
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BoardError, match=r"mine\.toml: not TOML: it is not UTF-8 text$"):
        load_board(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clock_mhz", "clock_mzh", "field clock_mzh is not known; did you mean clock_mhz?"),
        ("baud", "bauds", "field link.bauds is not known; did you mean baud?"),
        ('site = "G2"', 'ball = "G2"', "field pins.clk.ball is not known"),
        ('title = "a board"', "", "field title is missing"),
        ("mhz = 25 }", "}", "field oscillator.mhz is missing"),
        ("clock_mhz = 25", 'clock_mhz = "fast"', "clock_mhz must be a number, not 'fast'"),
        ("kernels = 1", "kernels = 1.5", "kernels must be a whole number, not 1.5"),
        ("kernels = 1", "kernels = true", "kernels must be a whole number, not True"),
        ("kernels = 1", "kernels = 0", "kernels must be in 1..60, not 0"),
        ("clock_mhz = 25", "clock_mhz = -1", "clock_mhz must be positive, not -1"),
        ('"ecp5"', '"ice40"', "family must be one of simulation, vitis, zynq, ecp5"),
        ('"ecp5"', '"zynq"', "field banks is missing; family zynq needs it"),
        ("lut = 100", "slices = 100", "resources.slices must be one of lut"),
        ("lut = 100", "lut = 0", "resources.lut must be positive, not 0"),
        ('"M1"', '"G2"', "pins must be on sites of their own"),
        ("part = {", "part = [{", "not TOML"),
        ("title", 'name = "x"\ntitle', "name is taken from the file's name"),
        ("link = { baud = 1000000, memory_kib = 64 }", "link = 3", "link must be a table, not 3"),
        ("kernels = 1", "kernels = 1\nbudget = 1.5", "budget must be above 0 and at most 1"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    assert read_board(SMALL, "b", "b.toml")
    assert old in SMALL
    with pytest.raises(BoardError) as caught:
        read_board(SMALL.replace(old, new, 1), "b", "b.toml")
    assert str(caught.value).startswith("b.toml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lut = 200", "lut = 300", "resources.lut must be the sum over all regions, 200, not 300"),
        ('region = "SLR1"', 'region = "SLR2"', "banks[1].region must be one of SLR0, SLR1"),
        ('"DDR[1]"', '"DDR[0]"', "banks must be named differently"),
        ("bits = 512", "bits = 100", "banks[0].bits must be a bus width, not 100"),
        ("size_mib = 16", "size_mib = 0", "banks[0].size_mib must be positive, not 0"),
        ('"2024.2"', '"2021.1"', "tools.vivado must be a range of versions"),
        ('["p"]', '"p"', "platform.names must be a list, not 'p'"),
    ],
)
def test_mistakes_in_cards_are_named(old: str, new: str, message: str) -> None:
    assert read_board(CARD, "c", "c.toml").bank_of(3).name == "DDR[1]"
    assert old in CARD
    with pytest.raises(BoardError) as caught:
        read_board(CARD.replace(old, new, 1), "c", "c.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("2022.1", True),
        ("2022.1.2", True),
        ("2023.2", True),
        ("2024.2.1", True),
        ("2021.2", False),
        ("2024.3", False),
        ("2025.1", False),
        ("", False),
        ("x", False),
    ],
)
def test_range_of_versions(version: str, taken: bool) -> None:
    assert load_board("u250").tools["vivado"].takes(version) is taken
