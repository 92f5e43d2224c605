import os
from pathlib import Path

import pytest

from trencadis_boards import (
    BoardError,
    Ecp5Flow,
    UnknownBoardError,
    board_names,
    load_board,
    read_board,
)

SMALL = """
title = "a board"
clock_mhz = 25
compute_units = 1
part = { name = "LFE5U" }
resources = { lut = 100, bram18 = 10 }

[flow]
kind = "ecp5"
platform = "ulx3s-85f"
link = { baud = 1000000, memory_kib = 64 }

[kernel.core]
engines = [{ lanes = 2, tiles = 2, kernels = 2, requantisers = 2, dense_values = 16 }]
"""
CARD = """
title = "a card"
clock_mhz = 250
compute_units = 2
part = { name = "xcu" }
resources = { lut = 200 }
flow = { kind = "vitis", platforms = ["p"], host_bytes_per_s = 1e9 }
tools = { vivado = { oldest = "2022.1", newest = "2024.2" } }
regions = [
    { name = "SLR0", resources = { lut = 100 } },
    { name = "SLR1", resources = { lut = 100 } },
]
banks = [
    { name = "DDR[0]", size_mib = 16, bits = 512, bytes_per_s = 2e9, region = "SLR0" },
    { name = "DDR[1]", size_mib = 16, bits = 512, bytes_per_s = 2e9, region = "SLR1" },
]

[kernel.core]
engines = [{ lanes = 2, tiles = 2, kernels = 2, requantisers = 2, dense_values = 16 }]
"""


@pytest.mark.parametrize("name", board_names())
def test_boards_are_usable(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.kernel.core.multipliers > 0
    if board.regions:
        assert len({board.bank_of(i).region for i in range(board.compute_units)}) == min(
            board.compute_units, len(board.regions)
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
    assert isinstance(board.flow, Ecp5Flow)
    assert board.flow.platform == "ulx3s-85f"
    other = tmp_path / "other.toml"
    with pytest.raises(BoardError) as caught:
        load_board(str(other))
    assert str(caught.value) == (
        f"{other}: cannot be read: No such file or directory; give the path of a board's "
        f"description, or one of {', '.join(board_names())}"
    )
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BoardError, match=r"mine\.toml: not text: byte 0 is not UTF-8; is it the "):
        load_board(str(path))


def test_a_board_is_a_regular_file_of_some_size(tmp_path: Path) -> None:
    fifo, large = tmp_path / "fifo.toml", tmp_path / "large.toml"
    os.mkfifo(fifo)
    with pytest.raises(BoardError, match=r"fifo\.toml: cannot be read: a FIFO, not a regular "):
        load_board(str(fifo))
    with large.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BoardError, match=r"large\.toml: 1099511627776 bytes, more than the "):
        load_board(str(large))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clock_mhz", "clock_mzh", "field clock_mzh is not known; did you mean clock_mhz?"),
        ("baud", "bauds", "field flow.link.bauds is not known; did you mean baud?"),
        ("link =", "pins = {}\nlink =", "field flow.pins is not known"),
        ('title = "a board"', "", "field title is missing"),
        ('"a board"', '"a\\nboard"', "title must be of printable characters in one line"),
        ('platform = "ulx3s-85f"', "", "field flow.platform is missing"),
        ("clock_mhz = 25", 'clock_mhz = "fast"', "clock_mhz must be a number, not 'fast'"),
        ("clock_mhz = 25", "clock_mhz = nan", "clock_mhz must be positive, not nan"),
        ("_units = 1", "_units = 1.5", "compute_units must be a whole number, not 1.5"),
        ("_units = 1", "_units = true", "compute_units must be a whole number, not True"),
        ("_units = 1", "_units = 0", "compute_units must be in 1..60, not 0"),
        ("_units = 1", f"_units = {1 << 63}", "compute_units must have at most 64 bits, not 64"),
        ("_units = 1", f"_units = {'9' * 5000}", "an integer has too many digits"),
        ("clock_mhz = 25", "clock_mhz = -1", "clock_mhz must be positive, not -1"),
        ('"ecp5"', '"ice40"', "flow.kind must be one of simulation, vitis, zynq, ecp5"),
        ('kind = "ecp5"', "", "flow.kind must be one of simulation, vitis, zynq, ecp5, not None"),
        ('"ecp5"', '"zynq"', "field flow.platform is not known; known are processor"),
        ("resources = { lut = 100, bram18 = 10 }", "", "field resources is missing; flow ecp5"),
        ("lut = 100", "slices = 100", "resources.slices must be one of lut"),
        ("lut = 100", "lut = 0", "resources.lut must be positive, not 0"),
        ("part = {", "part = [{", "not TOML"),
        ("title", 'name = "x"\ntitle', "name is taken from the file's name"),
        ("{ baud = 1000000, memory_kib = 64 }", "3", "flow.link must be a table, not 3"),
        ("_units = 1", "_units = 1\nbudget = 1.5", "budget must be above 0 and at most 1"),
        ("_units = 1", f"_units = {'[' * 3000}{']' * 3000}", "nested too deeply"),
        ("engines = [{", "engines = 3 #", "[kernel]: core.engines must be a list of tables, not 3"),
        ("engines = [{", "engines = [3] #", "[kernel]: core.engines[0] must be a table, not 3"),
        ("lanes = 2,", "", "[kernel]: EngineConfig.lanes is missing"),
        ("lanes = 2", "lanes = true", "[kernel]: EngineConfig.lanes must be an integer in 1..255"),
        ("lanes = 2", "lane = 2", "[kernel]: EngineConfig has no field lane"),
        ("[kernel.core]\nengines", "[kernel]\ncore", "[kernel]: core must be a table, not [{"),
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
        ('["p"]', '"p"', "flow.platforms must be a list, not 'p'"),
        ('["p"]', "[]", "flow.platforms must be one or more, not ()"),
        ('"DDR[0]"', '"DDR[0]\\n[vivado]"', "banks[0].name must be of printable characters"),
        ("bytes_per_s = 1e9", "bytes_per_s = inf", "flow.host_bytes_per_s must be positive"),
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
