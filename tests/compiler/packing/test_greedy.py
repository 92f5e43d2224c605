"""Both ways of greedy packing give the same tiles."""

import numpy as np
import pytest

from trencadis_compiler.ir.occupancy import Occupancy
from trencadis_compiler.packing.greedy import greedy, greedy_few
from trencadis_compiler.packing.greedy_many import greedy_many


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("kernels", "rows", "density"), [(70, 130, 0.2), (300, 64, 0.5)])
def test_integers_and_arrays_agree(kernels: int, rows: int, density: float, depth: int) -> None:
    rng = np.random.default_rng(kernels)
    occupancy = Occupancy.of(rng.random((kernels, rows)) < density)
    order = rng.permutation(kernels).tolist()
    few = greedy_few(occupancy, order, 5, depth)
    assert few == greedy_many(occupancy, order, 5, depth) == greedy(occupancy, order, 5, depth)
    assert sorted(kernel for tile in few for kernel in tile) == list(range(kernels))
    assert max(map(len, few)) <= 5
