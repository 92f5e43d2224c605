import math

import pytest

from trencadis_boards import FLOWS, load_board


@pytest.mark.parametrize(
    ("name", "kind", "memory", "host"),
    [
        ("sim", "simulation", math.inf, math.inf),
        ("u250", "vitis", 4 * 19.2e9, 12e9),
        ("zu3eg", "zynq", 4.26e9, math.inf),
        ("ulx3s", "ecp5", math.inf, 1e5),
    ],
)
def test_bandwidths_are_data(name: str, kind: str, memory: float, host: float) -> None:
    board = load_board(name)
    assert board.flow.kind == kind
    assert type(board.flow) is FLOWS[kind]
    assert board.memory_bytes_per_s == memory
    assert board.flow.host_bytes_per_s == host
