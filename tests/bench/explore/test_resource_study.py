"""The smallest engines of a small layer."""

import pytest

from trencadis_bench.explore.resource_study import smallest, study
from trencadis_bench.measure.scaling import Shape

SHAPE = Shape("3x3", 16, 16, 3, 4)


def test_engines_are_fast_enough_and_sparser_layers_take_less() -> None:
    found = study([SHAPE], ways=(2, 8), winners=(2, 8), position_cycles=16)
    assert [(r.ways, r.winners) for r in found] == [(2, 2), (2, 8), (8, 2), (8, 8)]
    assert all(r.cycles <= 16 + 1 for r in found)
    by = {(r.ways, r.winners): r for r in found}
    assert by[8, 2].lut < by[2, 8].lut
    assert by[2, 2].dsp <= by[2, 8].dsp
    # Work fits the multipliers: 16 kernels of 9 positions, `winners` activations, 1 in `ways`.
    for r in found:
        assert r.lanes * r.tiles * r.cycles >= 16 * 9 * r.winners / r.ways


@pytest.mark.parametrize("cycles", [1, 0.5])
def test_what_no_engine_is_fast_enough_for_is_left_out(cycles: float) -> None:
    assert smallest(SHAPE, 2, 16, cycles) is None
