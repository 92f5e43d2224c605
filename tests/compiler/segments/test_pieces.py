"""The report of a segment in pieces."""

from dataclasses import replace

import pytest
from tests.fixtures.networks import LayerSpec, network, random_network

from trencadis_boards import load_board
from trencadis_compiler.cutting.plan_cut import plan_cut
from trencadis_compiler.segments.pieces import cut_report

SPEC = network((16, 24, 24), LayerSpec(16, (3, 3), padding=(1, 1, 1, 1)))


@pytest.mark.parametrize("lanes", [1, 2])
def test_multipliers_of_all_batch_lanes_count(lanes: int) -> None:
    board = load_board("sim")
    kernel = replace(board.kernel, core=replace(board.kernel.core, batch_lanes=lanes))
    board = replace(board, kernel=kernel)
    cut = plan_cut(random_network(SPEC, 4), kernel)
    (row,) = cut_report(cut, board)["layers"]
    engine = kernel.core.engines[row["engine"]]
    products = row["cycles"] * lanes * engine.multipliers
    assert row["pieces"] > 1
    assert row["multiplier_use"] == row["useful_products"] / products
