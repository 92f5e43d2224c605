import numpy as np
import pytest

from trencadis_train.data.archive import load_archive
from trencadis_train.data.npz import write_arrays
from trencadis_train.errors import TrainingError

NAMES = np.array(["no", "yes", "silence"])


def arrays(**changes):
    count = 60
    made = {
        "features": np.arange(count * 6, dtype=np.uint64).astype(np.uint8).reshape(count, 2, 3),
        "labels": np.arange(count, dtype=np.int16) % 3,
        "class_names": NAMES,
        "split": np.arange(count, dtype=np.uint8) // 3 % 3,
        "old": np.arange(count) % 2 == 0,
    }
    return {name: array for name, array in {**made, **changes}.items() if array is not None}


@pytest.fixture
def load(tmp_path):
    def write_and_load(changes=None, **keywords):
        path = tmp_path / "set.npz"
        write_arrays(path, arrays(**(changes or {})))
        return load_archive(path, **keywords)

    return write_and_load


def test_parts_follow_the_split(load):
    splits = load()
    assert splits.classes == ("no", "yes", "silence")
    assert [len(part) for _, part in splits.parts] == [21, 21, 18]
    assert splits.train.images[3].tolist() == arrays()["features"][9].tolist()
    assert splits.noise is None


def test_words_are_chosen_in_their_order(load):
    splits = load(words=("yes", "no"))
    assert splits.classes == ("yes", "no")
    assert splits.train.labels[:4].tolist() == [1, 0, 1, 0]
    assert len(splits.train) == 14


def test_a_class_can_serve_as_noise(load):
    splits = load(noise="silence")
    assert splits.classes == ("no", "yes")
    assert splits.noise is not None
    assert splits.noise.shape == (7, 2, 3)
    assert splits.noise[0].tolist() == arrays()["features"][2].tolist()


def test_examples_can_be_kept_by_an_array(load):
    assert len(load(keep="old").train) == 11


def test_without_a_split_a_tenth_validates_and_a_tenth_tests(load):
    splits = load({"split": None, "credit": np.array("me")}, noise="silence", words=("no", "yes"))
    assert [len(part) for _, part in splits.parts] == [32, 4, 4]
    assert splits.credit == "me"
    assert splits.noise is not None
    assert len(splits.noise) == 20


def test_images_is_another_name(load):
    changed = {"features": None, "images": arrays()["features"]}
    assert len(load(changed).train) == 21


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float32])
def test_tables_have_plain_names_and_classes_of_their_own(tmp_path, kind):
    rng = np.random.default_rng(1)
    table = rng.integers(0, 200, (50, 6)).astype(kind)
    table[:, 3] = 7
    path = tmp_path / "plain.npz"
    np.savez(path, X=table, y=np.array(["yes", "no"])[np.arange(50) % 2])
    splits = load_archive(path)
    assert splits.classes == ("no", "yes")
    assert [part.images.shape for _, part in splits.parts] == [(42, 1, 6), (4, 1, 6), (4, 1, 6)]
    if kind == np.uint8:
        assert splits.scaling is None
        assert all((part.images[:, 0, 3] == 7).all() for _, part in splits.parts)
        return
    scaling = splits.scaling
    assert scaling is not None
    assert scaling.deviation[3] == 1
    assert (splits.train.images[..., 3] == 128).all()
    assert splits.train.images[..., 0].mean() == pytest.approx(128, abs=0.5)
    assert splits.train.images[..., 0].std() == pytest.approx(40, rel=0.05)
    scaling.save(tmp_path / "out")
    with np.load(tmp_path / "out" / "inputs.npz") as saved:
        again = np.clip(np.rint(128 + 40 * (table - saved["mean"]) / saved["deviation"]), 0, 255)
    rows = {tuple(row) for row in again.astype(np.uint8).tolist()}
    assert {tuple(row) for row in splits.test.images[:, 0].tolist()} <= rows


@pytest.mark.parametrize(
    ("changes", "keywords", "message"),
    [
        ({"labels": None}, {}, "it has the arrays features, class_names, split, old; it needs"),
        ({"features": np.zeros((60, 2, 3))}, {}, "images must be bytes"),
        ({"features": np.uint8(3)}, {}, "labels must be integers, one per example"),
        ({"labels": np.zeros(60)}, {}, "labels must be integers, one per example, not float64"),
        ({"labels": np.zeros(59, int)}, {}, r"not int64 of shape \[59\]"),
        ({"labels": np.full(60, 3)}, {}, r"labels must be in 0\.\.2, one of 3 class_names, not 3"),
        ({"labels": np.full(60, -1)}, {}, r"labels must be in 0\.\.2"),
        ({"class_names": np.arange(3)}, {}, "class_names must be a list of text, not int64"),
        ({"class_names": np.array("a")}, {}, "class_names must be a list of text"),
        ({"split": np.zeros(60, int)}, {}, "the validation part of the data set is empty"),
        ({"class_names": NAMES[[0, 1, 0]]}, {}, "must be all different, but 'no' is there twice"),
        ({"split": np.arange(60) % 4}, {}, r"split must be 0 .* not 0\.\.3"),
        ({"split": np.zeros(60)}, {}, "'split' must be an integer array, .* it has float64"),
        ({}, {"words": ("maybe",)}, "it has no class 'maybe'; there are no, yes, silence"),
        ({}, {"noise": "hum"}, "it has no class 'hum'"),
        ({}, {"keep": "new"}, "'new' must be a boolean array, .* it has no such array"),
        ({}, {"keep": "split"}, "'split' must be a boolean array, .* it has uint8"),
        ({"split": np.ones(60, int)}, {"noise": "no"}, "class 'no' has no training examples"),
        ({"features": np.full((60, 2), "a")}, {}, "features must be numbers, not <U1"),
        ({"features": np.full((60, 2), np.nan)}, {}, "example 0, column 0, is nan; leave such"),
        (
            {"features": np.ones((60, 2)), "split": np.ones(60, int)},
            {},
            "the train part of the data set is empty",
        ),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_file(load, changes, keywords, message):
    with pytest.raises(TrainingError, match=rf"set\.npz: .*{message}"):
        load(changes, **keywords)
