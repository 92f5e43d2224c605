import numpy as np
import pytest

from trencadis_train.data import datasets
from trencadis_train.data.datasets import open_data
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import DataSource


@pytest.fixture
def calls(monkeypatch):
    """Calls of loaders, instead of data."""
    made = []
    for name in ("load_digits", "load_archive", "load_idx", "load_speech_commands"):

        def record(*arguments, called=name, **keywords):
            made.append((called, [str(argument) for argument in arguments], keywords))

        monkeypatch.setattr(datasets, name, record)
    return made


def test_every_set_has_its_loader(calls, tmp_path):
    open_data(DataSource(set="digits"))
    open_data(DataSource(set="idx", path="a", validation=0.2))
    open_data(DataSource(set="npz", path="a", words=("x",), keep="k", noise="n"), "b")
    progress = print
    source = DataSource(set="speech-commands", path="a", words=("x", "y"))
    open_data(source, cache=tmp_path, progress=progress)
    assert calls == [
        ("load_digits", [], {}),
        ("load_idx", ["a"], {"validation": 0.2}),
        ("load_archive", ["b"], {"words": ("x",), "keep": "k", "noise": "n"}),
        (
            "load_speech_commands",
            ["a"],
            {"words": ("x", "y"), "cache": tmp_path, "progress": progress},
        ),
    ]


@pytest.mark.parametrize("name", ["idx", "npz", "speech-commands"])
def test_a_set_without_a_path_is_refused(name):
    with pytest.raises(TrainingError, match=f"data set '{name}' needs a path; give it with --data"):
        open_data(DataSource(set=name))


def test_words_of_an_archive_arrive(tmp_path):
    labels = np.arange(30) % 3
    path = tmp_path / "a.npz"
    np.savez(
        path,
        features=np.zeros((30, 2, 2), np.uint8),
        labels=labels,
        class_names=np.array(["a", "b", "c"]),
    )
    assert open_data(DataSource(set="npz", words=("c", "a")), str(path)).classes == ("c", "a")
