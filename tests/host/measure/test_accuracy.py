"""Counting what is classified well."""

from pathlib import Path

import numpy as np
import pytest

from trencadis_format.errors import InputError
from trencadis_host.measure.accuracy import Accuracy, accuracy_of, load_labels, scores_name


def scores(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_the_largest_score_wins_and_of_equal_ones_the_first() -> None:
    table = scores([1, 2, 2], [3, 1, 2], [2, 2, 2])
    assert accuracy_of(table, np.array([1, 0, 1]), "y") == Accuracy(3, 2, None)
    assert accuracy_of(table, np.array([2, 1, 0]), "y") == Accuracy(3, 1, None)


def test_top_5_is_counted_where_there_are_more_classes() -> None:
    rows = scores([6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1, 1, 1, 1, 1, 1])
    assert accuracy_of(rows, np.array([4, 5, 5]), "y") == Accuracy(3, 0, 1)
    assert accuracy_of(rows[:, :5], np.array([4, 4, 4]), "y") == Accuracy(3, 0, None)


def test_scores_that_are_not_numbers_win_nothing() -> None:
    rows = scores([1, np.nan], [0, 1], [np.nan, np.nan], [np.inf, 0])
    assert accuracy_of(rows, np.array([0, 1, 0, 0]), "y") == Accuracy(4, 2, None, 2)


def test_classes_themselves() -> None:
    assert accuracy_of(np.array([3, 1]), np.array([3, 2]), "y") == Accuracy(2, 1, None)
    assert accuracy_of(np.array([[3], [1]]), np.array([3, 1]), "y") == Accuracy(2, 2, None)


def test_further_axes_of_size_one() -> None:
    table = scores([1, 2], [2, 1])
    assert accuracy_of(table[:, :, None, None], np.array([1, 0]), "y") == Accuracy(2, 2, None)


def test_shares() -> None:
    assert Accuracy(8, 4, 6, 1).to_dict() == {
        "top1": 0.5, "top5": 0.75, "right": 4, "samples": 8, "not_numbers": 1,
    }  # fmt: skip
    assert Accuracy(8, 4, None).to_dict()["top5"] is None


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 4), "y has shape [3, 4], where scores of classes have [2, classes]"),
        ((2, 3, 4), "y has shape [2, 3, 4], where scores of classes have [2, classes]"),
        ((), "y has shape [], where"),
        ((2, 1), "y has one score for each sample, which is always the largest"),
        ((2, 0), "y has shape [2, 0], where"),
        ((2, 3), "y has scores of classes 0 to 2, but label 1 is 3; give the labels of this model"),
    ],
)
def test_outputs_that_are_no_scores(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        accuracy_of(np.zeros(shape, np.float32), np.array([0, 3]), "y")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 1.0]), "labels must be integers, one for each sample, not float64"),
        (np.array([True, False]), "labels must be integers, one for each sample, not bool"),
        (np.array([0, 1, 2]), "labels must have shape [2], one for each sample of the input, not"),
        (np.array([[0], [1]]), "labels must have shape [2], one for each sample of the input, not"),
        (np.array(1), "labels must have shape [2]"),
        (np.array([1, -1]), "labels must be from 0, but label 1 is -1"),
        (np.array([2**64 - 1, 0], np.uint64), "labels must be from 0, but label 0 is 184467440737"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    path = tmp_path / "y.npy"
    np.save(path, labels)
    with pytest.raises(InputError) as caught:
        load_labels(path, 2)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_labels_of_any_integers(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.array([7, 9], np.uint8))
    assert load_labels(tmp_path / "y.npy", 2).tolist() == [7, 9]


def test_which_output() -> None:
    assert scores_name(["a"], None, "m") == "a"
    assert scores_name(["a", "b"], "b", "m") == "b"
    for wanted, rule in ((None, "choose one by --scores NAME"), ("c", "none is 'c'")):
        with pytest.raises(InputError, match=rule):
            scores_name(["a", "b"], wanted, "m")
    with pytest.raises(InputError, match="none is 'c'"):
        scores_name(["a"], "c", "m")
