import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trencadis_hw.arrays import load_array
from trencadis_hw.container import InputError


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint8", "int64", ">f4", "bool"])
def test_arrays_come_back(tmp_path, dtype) -> None:
    path = tmp_path / "x.npy"
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4)).astype(dtype)
    np.save(path, array)
    loaded = load_array(path)
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)
    assert not isinstance(loaded, np.memmap)


def huge() -> bytes:
    """80 GB by its header."""
    return saved(np.zeros((10, 10), np.float64)).replace(
        b"'shape': (10, 10), }          ", b"'shape': (100000, 100000), }  "
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an array of numbers"),
        (b"some text\n", "not an array of numbers"),
        (saved(np.zeros(100))[:-1], "not an array of numbers"),
        (huge(), "not an array of numbers"),
        (saved(np.array(["text"])), "an array of <U4, not of numbers"),
        (saved(np.zeros(2, np.complex64)), "an array of complex64, not of numbers"),
        (saved(np.zeros(2, "i4,f4")), "not of numbers"),
    ],
    ids=["empty", "text", "truncated", "huge", "strings", "complex", "records"],
)
def test_other_files(tmp_path, data, message) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        load_array(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_pickles_are_not_loaded(tmp_path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"an": "object"}], object), allow_pickle=True)
    with pytest.raises(
        InputError, match=r"x\.npy: holds Python objects, which are not loaded; save numbers$"
    ):
        load_array(path)


def test_several_arrays(tmp_path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(
        InputError,
        match=r"not an array of numbers \(it is a zip archive, as \.npz files are\); give an \.npy",
    ):
        load_array(path)


def test_not_a_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none.npy", tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="cannot be read: "):
            load_array(path)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files(tmp_path, data) -> None:
    damaged = bytearray(saved(np.arange(6.0).reshape(2, 3)))
    place = st.integers(0, len(damaged) - 1)
    for index, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=5)):
        damaged[index] = value
    path = tmp_path / "x.npy"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        loaded = load_array(path)
    except InputError:
        with pytest.raises(InputError, match=r"^.*$"):
            load_array(path)
    else:
        assert loaded.nbytes <= len(damaged)
