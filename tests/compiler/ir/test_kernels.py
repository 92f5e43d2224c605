"""Weights by their non-zeros stand for the array that they were made of."""

import numpy as np
import pytest

from trencadis_compiler.ir.kernels import SPARSE, Kernels


def weights(*shape: int, density: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.where(rng.random(shape) < density, rng.integers(-128, 128, shape), 0).astype(np.int8)


def test_what_is_written_out_comes_back() -> None:
    array = weights(6, 4, 3, 2)
    kernels = Kernels.of(array)
    assert np.array_equal(kernels.dense(), array)
    assert (kernels.nonzeros, kernels.size, kernels.length) == (np.count_nonzero(array), 144, 24)
    kernel, place = np.nonzero(array.reshape(6, -1))
    order = np.random.default_rng(1).permutation(len(kernel))
    again = Kernels.from_coordinates(
        (6, 4, 3, 2), kernel[order], place[order], array.reshape(6, -1)[kernel, place][order]
    )
    assert np.array_equal(again.dense(), array)
    assert again.digest == kernels.digest != Kernels.of(weights(6, 4, 3, 2, density=0.5)).digest


def test_parts_and_choices() -> None:
    array = weights(6, 5, 2, 2)
    kernels = Kernels.of(array)
    assert np.array_equal(kernels.part((1, 4), (2, 5)).dense(), array[1:4, 2:5])
    assert kernels.part((0, 6), (0, 5)) is kernels
    assert np.array_equal(kernels.chosen([4, 4, 0]).dense(), array[[4, 4, 0]])


def test_channels_are_spread_and_added() -> None:
    array = np.array([[3, 0, -4], [100, 1, 20]], np.int8).reshape(2, 3, 1, 1)
    spread = Kernels.of(array).spread([2, 0, 2], 4)
    assert spread.dense().reshape(2, 4).tolist() == [[0, 0, -1, 0], [1, 0, 120, 0]]
    with pytest.raises(ValueError, match="more than eight bits"):
        Kernels.of(array + np.int8(8)).spread([0, 1, 0], 2)


@pytest.mark.parametrize("letters", ["C", "HWC", "CHW", "WC"])
def test_vectors_become_maps(letters: str) -> None:
    sizes = dict(zip(letters, (3, 4, 2), strict=False))
    array = weights(5, int(np.prod(list(sizes.values()))), 1, 1)
    found = Kernels.of(array).of_map(letters, list(sizes.values()))
    full = array.reshape(5, *sizes.values())
    for missing in sorted(set("CHW") - set(letters)):
        letters += missing
        full = full[..., None]
    expected = full.transpose(0, *(1 + letters.index(letter) for letter in "CHW"))
    assert np.array_equal(found.dense(), expected)


def test_groups() -> None:
    array = weights(6, 2, 3, 3)
    kernels = Kernels.of(array).ungrouped(3)
    expected = np.zeros((6, 6, 3, 3), np.int8)
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        expected[rows, rows] = array[rows]
    assert np.array_equal(kernels.dense(), expected)
    assert kernels.size == array.size
    filled = kernels.filled()
    assert filled.nonzeros == array.size
    assert np.array_equal(filled.dense() != 0, kernels.filled().dense() != 0)
    assert not (filled.dense() == 0)[expected != 0].any()


def test_signs() -> None:
    array = weights(3, 4, 1, 1)
    array[array == -128] = 5
    assert np.array_equal(
        Kernels.of(array).times(np.array([1, 0, -1])).dense(),
        array * np.array([1, 0, -1]).reshape(3, 1, 1, 1),
    )
    with pytest.raises(ValueError, match="negates"):
        Kernels.of(np.full((1, 1, 1, 1), -128, np.int8)).times(np.array([-1]))


@pytest.mark.parametrize("density", [0.4, SPARSE / 2, 0.0])
def test_products_are_exact(density: float) -> None:
    array = weights(40, 50, 1, 2, density=density)
    windows = np.random.default_rng(2).integers(-255, 256, (9, 100))
    products = Kernels.of(array).products(windows.astype(np.float64))
    assert np.array_equal(products, windows @ array.reshape(40, -1).T.astype(np.int64))
    totals = Kernels.of(array).totals(Kernels.of(array).values.astype(np.int64))
    assert np.array_equal(totals, array.reshape(40, -1).sum(axis=1, dtype=np.int64))
