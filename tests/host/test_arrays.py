from pathlib import Path

import numpy as np
import pytest

from trencadis_format.errors import InputError
from trencadis_host.arrays import load_feed, save_outputs


def test_one_input_is_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6))
    feed = load_feed(tmp_path / "x.npy", ["x"])
    assert list(feed) == ["x"]
    assert np.array_equal(feed["x"], np.arange(6))


def test_several_inputs_are_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "feed.npz", a=np.arange(3), b=np.ones(2))
    feed = load_feed(tmp_path / "feed.npz", ["a", "b"])
    assert np.array_equal(feed["a"], np.arange(3))
    assert np.array_equal(feed["b"], np.ones(2))


def test_an_array_is_not_several_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6))
    with pytest.raises(InputError, match=r"the model has inputs \['a', 'b'\]; give an .npz file"):
        load_feed(tmp_path / "x.npy", ["a", "b"])


def test_objects_in_archives_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "feed.npz", a=np.array([{}], object))
    with pytest.raises(InputError, match="not an archive of arrays"):
        load_feed(tmp_path / "feed.npz", ["a"])


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "feed.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(InputError, match="not an archive of arrays"):
        load_feed(tmp_path / "feed.npz", ["a"])


def test_outputs_are_read_back(tmp_path: Path) -> None:
    outputs = {"y": np.arange(4), "file": np.ones((2, 2))}
    save_outputs(tmp_path / "y.npz", outputs)
    again = load_feed(tmp_path / "y.npz", ["y", "file"])
    assert all(np.array_equal(again[name], outputs[name]) for name in outputs)
    save_outputs(tmp_path / "y.npy", {"y": np.arange(4)})
    assert np.array_equal(np.load(tmp_path / "y.npy"), np.arange(4))
    with pytest.raises(InputError, match=r"give an \.npz file"):
        save_outputs(tmp_path / "z.npy", outputs)


@pytest.mark.parametrize("name", ["y.npy", "y.npz"])
def test_equal_outputs_are_equal_files(tmp_path: Path, name: str) -> None:
    array = np.arange(6.0).reshape(2, 3)
    files = []
    for outputs in (array, np.asfortranarray(array)):
        save_outputs(tmp_path / name, {"y": outputs})
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
