"""Keys of a model's inputs: rounded half to even, clipped, in the map's order."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_format.errors import InputError
from trencadis_format.tensor_formats import InputFormat


def test_keys_are_rounded_half_to_even_and_clipped(overlay) -> None:
    values = [-0.25, 0.25, 0.75, 1.25, -0.75, 1e30, -1e30, 63.5, -64.0]
    keys = overlay.input.keys(np.array(values, np.float32).reshape(1, 1, 3, 3))
    assert keys.ravel().tolist() == [128, 128, 130, 130, 126, 255, 0, 255, 0]
    assert keys.dtype == np.uint8


@settings(deadline=None, max_examples=60)
@given(scale=st.floats(2**-20, 2**10, width=32), seed=st.integers(0, 1 << 16))
def test_keys_are_those_of_exact_arithmetic(scale, seed) -> None:
    form = InputFormat(
        name="x",
        dtype="float32",
        shape=(None, 50),
        axes="C",
        channels=50,
        rows=1,
        columns=1,
        scale=scale,
        zero_key=77,
        key_offset=0,
    )
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 60, (1, 50)) * scale).astype(np.float32)
    values[:, ::5] = np.float32(scale) * (np.rint(values[:, ::5] / scale) + 0.5)
    exact = [
        min(max(round(Fraction(float(value)) / Fraction(scale)) + 77, 0), 255)
        for value in values.ravel()
    ]
    assert form.keys(values).ravel().tolist() == exact


def test_integers_are_keys_already(overlay) -> None:
    form = replace(overlay.input, dtype="int8")
    values = np.array([-128, -1, 0, 1, 127, 5, 6, 7, 8], np.int8).reshape(1, 1, 3, 3)
    assert form.keys(values).ravel().tolist() == [0, 127, 128, 129, 255, 133, 134, 135, 136]


def test_axes_are_put_in_order(overlay) -> None:
    form = replace(
        overlay.input, shape=(None, 2, 3, 4), axes="HWC", rows=2, columns=3, channels=4, scale=1.0
    )
    values = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    assert np.array_equal(form.keys(values), values + 128)
    form = replace(form, shape=(None, 4, 2, 3), axes="CHW")
    assert np.array_equal(form.keys(values.transpose(0, 3, 1, 2)), values + 128)


def test_wrong_inputs_are_refused(overlay) -> None:
    with pytest.raises(
        InputError,
        match=r"^input 'x' must have shape \['N', 1, 3, 3\], not \[9\]; N is any number",
    ):
        overlay.input.keys(np.zeros(9, np.float32))
