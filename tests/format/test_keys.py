import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trencadis_format.keys import BLOCK, integer_keys, real_keys


def plainly(array: npt.NDArray[np.floating], scale: float, zero: int) -> npt.NDArray[np.uint8]:
    exact = np.rint(array.astype(np.float64) / scale) + zero
    return np.clip(exact, 0, 255).astype(np.uint8)


def scales() -> st.SearchStrategy[float]:
    return st.floats(2.0**-100, 2.0**100, width=32)


@settings(deadline=None)
@given(
    array=arrays.arrays(
        np.float32,
        arrays.array_shapes(max_dims=2, max_side=40),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    ),
    scale=scales(),
    zero=st.integers(0, 255),
)
def test_any_numbers(array: npt.NDArray[np.float32], scale: float, zero: int) -> None:
    assert np.array_equal(real_keys(array, scale, zero), plainly(array, scale, zero))


@settings(deadline=None, max_examples=200)
@given(scale=scales(), zero=st.integers(0, 255), seed=st.integers(0, 1 << 20))
def test_numbers_at_ties_and_next_to_them(scale: float, zero: int, seed: int) -> None:
    halves = np.random.default_rng(seed).integers(-600, 600, 500) / 2
    numbers = (halves * scale).astype(np.float32)
    numbers = np.concatenate(
        [numbers, np.nextafter(numbers, np.float32(np.inf)), np.nextafter(numbers, -np.float32(1))]
    )
    assert np.array_equal(real_keys(numbers, scale, zero), plainly(numbers, scale, zero))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_sizes_around_blocks(dtype: type[np.floating], size: int) -> None:
    numbers = np.random.default_rng(size).normal(0, 50, size).astype(dtype)
    assert np.array_equal(real_keys(numbers, 0.375, 100), plainly(numbers, 0.375, 100))


@pytest.mark.parametrize("scale", [2.0**-149, 2.0**-126, 2.0**127])
def test_scales_without_a_reciprocal(scale: float) -> None:
    numbers = np.array([0, scale, 3 * scale / 2, -scale, 1, -1, 1e38], np.float32)
    assert np.array_equal(real_keys(numbers, scale, 7), plainly(numbers, scale, 7))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_no_number_is_refused(bad: float, dtype: type[np.floating]) -> None:
    numbers = np.zeros(BLOCK + 3, dtype)
    numbers[-2] = bad
    with pytest.raises(ValueError, match="not finite"):
        real_keys(numbers, 0.5, 0)


def test_other_layouts_in_memory() -> None:
    numbers = np.random.default_rng(1).normal(0, 50, (7, 6, 5)).astype(np.float32)
    turned = numbers.transpose(2, 0, 1)[::2]
    assert np.array_equal(real_keys(turned, 0.375, 100), plainly(turned, 0.375, 100))


@pytest.mark.parametrize(("dtype", "offset"), [(np.int8, 128), (np.uint8, 0)])
def test_integers(dtype: type[np.integer], offset: int) -> None:
    numbers = np.arange(256).astype(np.uint8).view(dtype).reshape(16, 16)
    expected = (numbers.astype(np.int16) + offset).astype(np.uint8)
    assert np.array_equal(integer_keys(numbers, offset), expected)
    assert np.array_equal(integer_keys(numbers.T, offset), expected.T)
