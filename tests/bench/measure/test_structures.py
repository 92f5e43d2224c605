import numpy as np
import pytest

pytest.importorskip("onnx")

from trencadis_bench.measure.structures import STRUCTURES, measure_structure
from trencadis_train.sparsity.masks import complementary_mask


def test_complementary_masks_pack_and_halve_the_cycles() -> None:
    rng = np.random.default_rng(1)
    dense = measure_structure(np.ones((128, 256), bool), rng)
    half = measure_structure(complementary_mask(128, 256, 2, rng=rng), rng)
    assert (dense["packing_efficiency"], half["packing_efficiency"]) == (1.0, 1.0)
    assert (dense["nonzeros"], half["nonzeros"]) == (32768, 16384)
    assert dense["cycles"] == 2 * half["cycles"]


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("m", [2, 4, 8])
def test_structures_have_the_same_density(name: str, m: int) -> None:
    mask = STRUCTURES[name](m, np.random.default_rng(m))
    assert mask.sum() * m == mask.size
