import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_train.data.npz import read_arrays, write_arrays
from trencadis_train.errors import TrainingError

ARRAYS = {
    "bytes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "text": np.array(["one", "eleven"]),
    "scalar": np.array("credit"),
    "empty": np.zeros((0, 5), np.float32),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.npz"
    write_arrays(path, ARRAYS)
    return path


def test_arrays_come_back(whole):
    arrays = read_arrays(whole)
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].tolist() == array.tolist()
        assert arrays[name].shape == array.shape


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_are_read_but_for_objects(tmp_path, save):
    save(tmp_path / "theirs.npz", some=np.asfortranarray(np.eye(3)), objects=np.array([{}]))
    arrays = read_arrays(tmp_path / "theirs.npz")
    assert arrays.keys() == {"some"}
    assert arrays["some"].tolist() == np.eye(3).tolist()


def test_nothing_but_the_file_is_left(whole):
    assert [path.name for path in whole.parent.iterdir()] == ["whole.npz"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"none\.npz: cannot be read: No such file"):
        read_arrays(tmp_path / "none.npz")
    with pytest.raises(TrainingError, match="cannot be read: Is a directory"):
        read_arrays(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "other.npz"
    path.write_bytes(data)
    with pytest.raises(TrainingError, match=r"other\.npz: not an \.npz file, or damaged"):
        read_arrays(path)


def outcome(path):
    try:
        return read_arrays(path)
    except TrainingError as error:
        return str(error)


def member(name: str, data: bytes, path, **keywords):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data, **keywords)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 99)}",
        "{'descr': 'evil', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '|u1'}",
        "(((((",
        "{" * 300,
    ],
)
def test_false_headers_are_refused(tmp_path, header):
    text = header.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"abc"
    member("bad.npy", data, tmp_path / "bad.npz")
    with pytest.raises(TrainingError, match=r"not an \.npz file, or damaged"):
        read_arrays(tmp_path / "bad.npz")


def test_what_unpacks_to_far_more_than_it_can_be_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    member("bomb.npy", b"\x93NUMPY\x01\x00", path)
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(TrainingError, match=r"bomb\.npy claims 2147483648 bytes"):
        read_arrays(path)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damage_is_refused_or_harmless(tmp_path_factory, data):
    buffer = io.BytesIO()
    np.savez(buffer, features=np.arange(60, dtype=np.uint8).reshape(3, 4, 5), labels=np.arange(3))
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))]
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(raw)
    found = outcome(path)
    assert isinstance(found, dict) or "\n" not in found
