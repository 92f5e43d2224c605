import numpy as np
import pytest

from trencadis_compiler.ir.occupancy import Occupancy


def masks(kernels: int, rows: int, density: float) -> np.ndarray:
    return np.random.default_rng(kernels + rows).random((kernels, rows)) < density


@pytest.mark.parametrize(("kernels", "rows"), [(1, 1), (5, 64), (7, 65), (20, 700), (3, 1100)])
@pytest.mark.parametrize("density", [0, 0.02, 0.3, 1])
def test_forms_agree_with_the_mask(kernels: int, rows: int, density: float) -> None:
    mask = masks(kernels, rows, density)
    occupancy = Occupancy.of(mask)
    assert (occupancy.kernels, occupancy.rows) == (kernels, rows)
    assert occupancy.nonzeros == mask.sum()
    assert occupancy.sizes.tolist() == mask.sum(axis=1).tolist()
    assert occupancy.most_per_row == mask.sum(axis=0).max()
    bits = np.unpackbits(occupancy.masks.view(np.uint8), axis=1, bitorder="little")
    assert (bits[:, :rows] == mask).all()
    assert not bits[:, rows:].any()
    common = mask.astype(np.int64) @ mask.T.astype(np.int64) > 0
    np.fill_diagonal(common, False)
    assert (occupancy.collide == common).all()
    for kernel in range(kernels):
        assert occupancy.rows_of(kernel).tolist() == np.flatnonzero(mask[kernel]).tolist()


def test_coordinates_may_come_in_any_order() -> None:
    mask = masks(30, 50, 0.1)
    kernel, row = np.nonzero(mask)
    order = np.random.default_rng(0).permutation(len(kernel))
    found = Occupancy.from_coordinates(30, 50, kernel[order], row[order])
    assert found.starts.tolist() == Occupancy.of(mask).starts.tolist()
    assert found.indices.tolist() == Occupancy.of(mask).indices.tolist()


def test_a_part_keeps_the_order_asked_for() -> None:
    mask = masks(30, 50, 0.1)
    kernels = np.array([7, 0, 29, 3])
    assert (Occupancy.of(mask).part(kernels).masks == Occupancy.of(mask[kernels]).masks).all()
