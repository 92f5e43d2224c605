"""Data sets in one `.npz` file. NumPy only.

Arrays: `features` or `images`, uint8 (examples, rows, columns), or a table of numbers (examples,
features), also named `X`; `labels` or `y`, integers, or text without `class_names`; `class_names`,
text, one per class; without it the different labels are the classes; `split`, 0 train, 1
validation, 2 test (without it a tenth validates and a tenth tests, chosen at random); boolean
arrays that a recipe's `keep` can name; `credit`, text, optional.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_train.data.labelled import Labelled, Splits, stratified_parts
from trencadis_train.data.npz import read_arrays
from trencadis_train.data.tables import Scaling, checked_table, named
from trencadis_train.errors import TrainingError

__all__ = ["load_archive"]

PARTS = ("train", "validation", "test")

Arrays = dict[str, npt.NDArray[Any]]


def load_archive(
    path: Path, *, words: tuple[str, ...] = (), keep: str = "", noise: str = ""
) -> Splits:
    """Read a data set.

    Parameters
    ----------
    path : Path
        The file.
    words : tuple of str
        Classes to keep, in this order; all without it.
    keep : str
        A boolean array of the file; where it is false, examples are left out (but for noise).
    noise : str
        The class that serves as noise; its training examples are used.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, or not such a data set.
    """
    arrays = read_arrays(path)
    try:
        return _splits(arrays, words, keep, noise)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from error


def _splits(arrays: Arrays, words: tuple[str, ...], keep: str, noise: str) -> Splits:
    arrays = named(arrays)
    images = arrays.get("features", arrays.get("images"))
    labels, names = arrays.get("labels"), arrays.get("class_names")
    if images is None or labels is None or names is None:
        raise TrainingError(
            f"it has the arrays {', '.join(arrays) or 'of no name'}; it needs features, labels and "
            "class_names, or X and y"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise TrainingError(
            "labels must be integers, one per example, not "
            f"{labels.dtype} of shape {list(labels.shape)}"
        )
    if names.dtype.kind != "U" or names.ndim != 1 or not len(names):
        raise TrainingError(
            f"class_names must be a list of text, not {names.dtype} of shape {list(names.shape)}"
        )
    known = [str(name) for name in names]
    if len(set(known)) < len(known):
        twice = next(name for name in known if known.count(name) > 1)
        raise TrainingError(f"class_names must be all different, but {twice!r} is there twice")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(known):
        raise TrainingError(
            f"labels must be in 0..{len(known) - 1}, one of {len(known)} class_names, not "
            f"{labels.min()}..{labels.max()}"
        )
    classes = words or tuple(name for name in known if name != noise)
    for name in (*classes, noise):
        if name and name not in known:
            raise TrainingError(f"it has no class {name!r}; there are {', '.join(known)}")
    numbers = np.full(len(known), -1, np.int64)
    numbers[[known.index(name) for name in classes]] = np.arange(len(classes))
    classed = numbers[labels.astype(np.int64)]
    chosen = classed >= 0
    if keep:
        chosen &= _per_example(arrays, keep, "b", len(labels)).astype(bool)
    given = "split" in arrays
    split = _split(arrays, classed, chosen, len(classes))
    images, scaling = _bytes(images, chosen & (split == 0))
    whole = Labelled(images, classed)
    train, validation, test = (whole.where(chosen & (split == i)) for i in range(len(PARTS)))
    learnt = split == 0 if given else np.ones(len(labels), bool)
    clips = _noise(images[learnt], labels[learnt], known, noise) if noise else None
    credit = str(arrays.get("credit", ""))
    return Splits(train, validation, test, classes, clips, credit, scaling)


def _split(
    arrays: Arrays,
    classed: npt.NDArray[np.int64],
    chosen: npt.NDArray[np.bool_],
    classes: int,
) -> npt.NDArray[Any]:
    """Part of every example, by the file or at random."""
    if "split" not in arrays:
        split = np.full(len(classed), -1)
        split[chosen] = stratified_parts(classed[chosen], classes, validation=0.1, test=0.1)
        return split
    split = _per_example(arrays, "split", "iu", len(classed))
    if not np.isin(split, range(len(PARTS))).all():
        raise TrainingError(
            f"split must be 0 (train), 1 (validation) or 2 (test), not {split.min()}..{split.max()}"
        )
    return split


def _bytes(
    images: npt.NDArray[Any], learnt: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[Any], Scaling | None]:
    """Images, of a table, too; and how its numbers became bytes, if they were none."""
    if images.ndim != 2:
        return images, None
    if images.dtype == np.uint8:
        return images[:, None], None
    table = checked_table(images)
    if not learnt.any():
        raise TrainingError("the train part of the data set is empty")
    scaling = Scaling.of(table[learnt])
    return scaling.images(table), scaling


def _noise(
    images: npt.NDArray[Any], labels: npt.NDArray[Any], known: list[str], noise: str
) -> npt.NDArray[Any]:
    clips = images[labels == known.index(noise)]
    if not len(clips):
        raise TrainingError(f"class {noise!r} has no training examples that could serve as noise")
    return clips


def _per_example(arrays: Arrays, name: str, kinds: str, examples: int) -> npt.NDArray[Any]:
    array = arrays.get(name)
    if array is None or array.dtype.kind not in kinds or array.shape != (examples,):
        what = "a boolean" if kinds == "b" else "an integer"
        found = "no such array"
        if array is not None:
            found = f"{array.dtype} of shape {list(array.shape)}"
        raise TrainingError(f"{name!r} must be {what} array, one per example; it has {found}")
    return array
