import gzip
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trencadis_train.data.idx import FASHION, FASHION_BEGINS, load_idx, read_idx
from trencadis_train.errors import TrainingError


def idx(array):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_set(folder, test_labels=None, suffix=""):
    labels = {"train": np.arange(100) % 10, "t10k": np.arange(20) % 10}
    if test_labels is not None:
        labels["t10k"] = np.array(test_labels)
    pack = gzip.compress if suffix else bytes
    for name, numbers in labels.items():
        images = np.arange(len(numbers) * 6).reshape(-1, 2, 3) % 251
        (folder / f"{name}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(numbers)))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_four_files_are_a_data_set(tmp_path, suffix):
    write_set(tmp_path, suffix=suffix)
    splits = load_idx(tmp_path, validation=0.2)
    assert splits.classes == tuple("0123456789")
    assert [len(part) for _, part in splits.parts] == [80, 20, 20]
    assert np.bincount(splits.validation.labels).tolist() == [2] * 10
    assert splits.test.images[1].tolist() == [[6, 7, 8], [9, 10, 11]]
    firsts = [
        int(image[0, 0]) for part in (splits.train, splits.validation) for image in part.images
    ]
    assert sorted(firsts) == sorted(6 * i % 251 for i in range(100))


def test_fashion_mnist_is_known_by_its_labels(tmp_path):
    write_set(tmp_path, test_labels=[*FASHION_BEGINS, 3])
    assert load_idx(tmp_path).classes == FASHION


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 4), (0, 2)])
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_arrays_come_back(tmp_path, shape, name):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = tmp_path / name
    path.write_bytes(gzip.compress(idx(array)) if path.suffix else idx(array))
    assert read_idx(path).tolist() == array.tolist()
    assert read_idx(path).shape == shape


def outcome(path):
    try:
        return read_idx(path)
    except TrainingError as error:
        return str(error)


WHOLE = idx(np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an idx file, it begins with b''; get it again"),
        (b"\x1f\x8b\x08\x00aaaa", "not an idx file, it begins with b'"),
        (b"\0\0\x0d\x01" + bytes(8), "an idx file of unsigned bytes has type 8, this has 13"),
        (b"\0\0\x08\x00", "an idx file has 1 to 4 axes, this has 0"),
        (b"\0\0\x08\x05" + bytes(20), "an idx file has 1 to 4 axes, this has 5"),
        (WHOLE[:9], "cut off in its header"),
        (WHOLE[:-1], "damaged: its header tells of 12 bytes, there are 11"),
        (WHOLE + b"a", "damaged: its header tells of 12 bytes, there are more"),
        (b"\0\0\x08\x02" + b"\xff" * 8, r"it claims shape \[4294967295, 4294967295\]"),
        (
            b"\0\0\x08\x03" + b"\xff" * 8 + bytes(4),
            r"it claims shape \[4294967295, 4294967295, 0\]",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(TrainingError, match=f"a: .*{message}"):
        read_idx(tmp_path / "a")


@pytest.mark.parametrize(
    "data",
    [b"", b"plain", gzip.compress(WHOLE)[:-9], gzip.compress(WHOLE)[:-4] + b"aaaa"],
    ids=["empty", "not packed", "truncated", "wrong size"],
)
def test_damaged_packed_files_are_refused(tmp_path, data):
    (tmp_path / "a.gz").write_bytes(data)
    with pytest.raises(TrainingError, match=r"a\.gz: (damaged|not an idx file)"):
        read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "t10k-labels-idx1-ubyte").unlink(), "there is no t10k-labels-idx1-ubyte"),
        (
            lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(5))),
            r"the train files: labels must be one per image, not \[5\]",
        ),
        (
            lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros((100, 1)))),
            "the train files: labels must have one axis, not 2",
        ),
        (
            lambda f: (f / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((20, 3, 3)))),
            r"images of the test part are \[3, 3\], those of the train part \[2, 3\]",
        ),
        (
            lambda f: (f / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((100, 6)))),
            "the train files: images must be bytes of shape",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, spoil, message):
    write_set(tmp_path)
    spoil(tmp_path)
    with pytest.raises(TrainingError, match=message):
        load_idx(tmp_path)


@settings(deadline=None, max_examples=200)
@given(raw=st.binary(max_size=40), start=st.sampled_from([0, 3, 4, 8, 12]), packed=st.booleans())
@example(raw=b"\xff" * 30, start=4, packed=True)
def test_any_bytes_give_an_array_or_one_clear_line(tmp_path_factory, raw, start, packed):
    data = WHOLE[:start] + raw
    folder = tmp_path_factory.getbasetemp()
    path = folder / ("fuzz.gz" if packed else "fuzz")
    path.write_bytes(gzip.compress(data)[: len(raw) + 20] if packed else data)
    found = outcome(path)
    if isinstance(found, str):
        assert found.startswith(f"{path}: ")
        assert "\n" not in found
    else:
        assert found.dtype == np.uint8
