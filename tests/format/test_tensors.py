from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_format import tensors as packing
from trencadis_format.errors import InputError
from trencadis_format.models.feed_lists import unpack_entries
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import InputFormat
from trencadis_format.tensors import pack_inputs
from trencadis_host.measure.benchmark import random_batch

FORMATS = {
    "float32": {"dtype": "float32", "key_offset": 0},
    "int8": {"dtype": "int8", "key_offset": 128},
    "uint8": {"dtype": "uint8", "key_offset": 0},
}


def map_format(rows: int, dtype: str) -> InputFormat:
    """Two channels of `rows` rows and three columns, channels first."""
    return InputFormat(
        name="x",
        shape=(None, 2, rows, 3),
        axes="CHW",
        channels=2,
        rows=rows,
        columns=3,
        scale=0.5,
        zero_key=100,
        **FORMATS[dtype],
    )


def batch(form: InputFormat, samples: int) -> npt.NDArray[Any]:
    numbers = np.random.default_rng(samples).integers(-128, 128, (samples, 2, form.rows, 3))
    if form.dtype == "float32":
        return (numbers * 0.75).astype(np.float32)
    return numbers.astype(np.int8).view(form.dtype)


def plainly(overlay: Overlay, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """One value at a time: keys, channels last, then padding."""
    form = overlay.input
    samples = np.zeros((len(array), overlay.input_bytes), np.uint8)
    for sample, channel, row, column in np.ndindex(*array.shape):
        value = array[sample, channel, row, column]
        if form.dtype == "float32":
            key = min(max(round(float(value) / 0.5) + 100, 0), 255)
        else:
            key = int(value) + form.key_offset
        samples[sample, (row * 3 + column) * 2 + channel] = key
    return samples


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPoolExecutor]:
    """Three threads, that get parts of a few words."""
    monkeypatch.setattr(packing, "PART_VALUES", 50)
    with ThreadPoolExecutor(3) as pool:
        yield pool


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("dtype", FORMATS)
def test_samples_are_keys_and_padding(overlay, pool, samples, rows, dtype) -> None:
    packed = replace(overlay, input=map_format(rows, dtype))
    # Two rows are half a beat too short.
    assert packed.input_bytes == (16 if rows == 2 else 24)
    array = batch(packed.input, samples)
    expected = plainly(packed, array)
    assert np.array_equal(pack_inputs(packed, array, pool), expected)
    assert np.array_equal(pack_inputs(packed, array), expected)


@pytest.mark.parametrize("dtype", FORMATS)
def test_samples_are_not_the_callers_memory(overlay, dtype) -> None:
    packed = replace(
        overlay, input=replace(map_format(4, dtype), axes="HWC", shape=(None, 4, 3, 2))
    )
    array = batch(map_format(4, dtype), 5).reshape(5, 4, 3, 2)
    samples = pack_inputs(packed, array)
    before = samples.copy()
    array[:] = 1
    assert np.array_equal(samples, before)


def test_the_place_of_a_bad_number_is_that_of_the_whole_batch(overlay, pool) -> None:
    packed = replace(overlay, input=map_format(2, "float32"))
    array = batch(packed.input, 40)
    array[33, 1, 0, 2] = np.nan
    with pytest.raises(InputError, match=r"is nan at \[33, 1, 0, 2\]"):
        pack_inputs(packed, array, pool)


@pytest.mark.parametrize("array", [np.float32(3), np.zeros((0, 2, 2, 3), np.float32)])
def test_what_is_no_batch_is_refused(overlay, pool, array) -> None:
    packed = replace(overlay, input=map_format(2, "float32"))
    with pytest.raises(InputError):
        pack_inputs(packed, array, pool)


def sparse_overlay(overlay: Overlay, dtype: str, nonzeros: int) -> Overlay:
    form = replace(map_format(4, dtype), shape=(None, 12, 4, 3), channels=12, nonzeros=nonzeros)
    return replace(overlay, input=form)


@pytest.mark.parametrize("samples", [1, 2, 23])
@pytest.mark.parametrize("dtype", FORMATS)
def test_sparse_samples_have_what_is_not_zero(overlay, pool, samples, dtype) -> None:
    packed = sparse_overlay(overlay, dtype, 3)
    assert packed.input_bytes == 12 * 3 * 4
    array = random_batch(packed.input, samples, seed=samples)
    array[0, :, 1, 1] = 0 if dtype == "float32" else 100 - packed.input.key_offset
    keys = packed.input.keys(array)
    assert (keys != 100).sum(axis=3).max() == 3
    result = pack_inputs(packed, array)
    values = unpack_entries(result.view("<u4"), (12, 12), 100)
    assert np.array_equal(values, keys.reshape(samples, 12, 12).astype(np.int64) - 100)
    assert not values[0, 4].any()
    assert np.array_equal(pack_inputs(packed, array, pool), result)


def test_too_many_values_that_are_not_zero(overlay, pool) -> None:
    packed = sparse_overlay(overlay, "int8", 3)
    array = random_batch(packed.input, 30)
    array[17, :, 2, 1] = 1
    for executor in (None, pool):
        with pytest.raises(
            InputError,
            match=r"^input 'x' may have 3 values that are not zero at a position, but sample 17 "
            r"has 12 at row 2, column 1; compile the model with a larger --input-nonzeros, ",
        ):
            pack_inputs(packed, array, executor)
