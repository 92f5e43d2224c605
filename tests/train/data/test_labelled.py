import numpy as np
import pytest

from trencadis_train.data.labelled import Labelled, Splits
from trencadis_train.errors import TrainingError


def labelled(count, classes=2, shape=(3, 4)):
    return Labelled(np.zeros((count, *shape), np.uint8), np.arange(count) % classes)


def test_examples_are_chosen_in_order():
    whole = Labelled(np.arange(6, dtype=np.uint8).reshape(6, 1, 1), np.arange(6))
    assert whole.where(np.array([4, 1])).labels.tolist() == [4, 1]
    assert whole.where(np.arange(6) > 3).images.ravel().tolist() == [4, 5]
    assert len(whole) == 6


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 4)), np.zeros(2, int), "images must be bytes of shape"),
        (np.zeros((2, 3), np.uint8), np.zeros(2, int), r"not uint8 of shape \[2, 3\]"),
        (
            np.zeros((2, 3, 4), np.uint8),
            np.zeros(3, int),
            r"labels must be one per image, not \[3\]",
        ),
    ],
)
def test_other_arrays_are_refused(images, labels, message):
    with pytest.raises(TrainingError, match=message):
        Labelled(images, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": labelled(0)}, "the test part of the data set is empty"),
        ({"classes": ("a",)}, r"labels of the train part are in 0\.\.1, but there are 1 classes"),
        (
            {"validation": labelled(2, shape=(3, 3))},
            r"images of the validation part are \[3, 3\], those of the train part \[3, 4\]",
        ),
        ({"noise": np.zeros((1, 4, 3), np.uint8)}, "noise must be bytes of shape"),
        ({"noise": np.zeros((1, 3, 4))}, "noise must be bytes of shape"),
        ({"noise": np.zeros((3, 4), np.uint8)}, "noise must be bytes of shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    parts = {"train": labelled(4), "validation": labelled(2), "test": labelled(2)}
    with pytest.raises(TrainingError, match=message):
        Splits(**{**parts, "classes": ("a", "b"), **changes})


def test_stratified_parts_are_disjoint_and_have_the_same_shares():
    labels = np.repeat([0, 1, 2], [100, 50, 20])
    images = np.arange(170, dtype=np.uint8).reshape(170, 1, 1)
    splits = Splits.stratified(images, labels, ("a", "b", "c"), validation=0.1, test=0.2)
    for name, counts in (("test", [20, 10, 4]), ("validation", [10, 5, 2])):
        assert np.bincount(dict(splits.parts)[name].labels).tolist() == counts
    everything = np.concatenate([part.images.ravel() for _, part in splits.parts])
    assert sorted(everything) == list(range(170))
    again = Splits.stratified(images, labels, ("a", "b", "c"), validation=0.1, test=0.2)
    other = Splits.stratified(images, labels, ("a", "b", "c"), validation=0.1, test=0.2, seed=1)
    assert (splits.train.images == again.train.images).all()
    assert (splits.train.images != other.train.images).any()


def test_stratified_splits_refuse_labels_that_are_no_classes():
    images = np.zeros((4, 1, 1), np.uint8)
    with pytest.raises(TrainingError, match=r"labels must be in 0\.\.1, not -1\.\.2"):
        Splits.stratified(images, np.array([-1, 0, 1, 2]), ("a", "b"), validation=0.5, test=0.25)
