"""Data sets in one `.npz` file. NumPy only.

Arrays: `features` or `images`, uint8 (examples, rows, columns); `labels`, integers; `class_names`,
text, one a class; `split`, 0 train, 1 validation, 2 test (without it a tenth validates and a tenth
tests, chosen at random); boolean arrays that a recipe's `keep` can name; `credit`, text, optional.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.labelled import Labelled, Splits

__all__ = ["load_archive"]

PARTS = ("train", "validation", "test")


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
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if file[name].dtype != object}
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        text = " ".join(str(error).split())
        raise TrainingError(
            f"{path}: not an .npz file, or damaged ({text}); make it again"
        ) from error
    try:
        return _splits(arrays, words, keep, noise)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from error


def _splits(
    arrays: dict[str, npt.NDArray[np.generic]], words: tuple[str, ...], keep: str, noise: str
) -> Splits:
    images = arrays.get("features", arrays.get("images"))
    labels, names = arrays.get("labels"), arrays.get("class_names")
    if images is None or labels is None or names is None:
        raise TrainingError(
            f"it has the arrays {', '.join(arrays)}; it needs features, labels and class_names"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise TrainingError(
            f"labels must be integers, one for each of the {len(images)} examples, not "
            f"{labels.dtype} of shape {list(labels.shape)}"
        )
    known = [str(name) for name in names]
    classes = words or tuple(name for name in known if name != noise)
    for name in (*classes, noise):
        if name and name not in known:
            raise TrainingError(f"it has no class {name!r}; there are {', '.join(known)}")
    numbers = np.full(max(len(known), int(labels.max(initial=0)) + 1), -1, np.int64)
    numbers[[known.index(name) for name in classes]] = np.arange(len(classes))
    classed = numbers[labels]
    chosen = classed >= 0
    if keep:
        kept = arrays.get(keep)
        if kept is None or kept.dtype != np.bool_ or kept.shape != labels.shape:
            raise TrainingError(
                f"it has no boolean array {keep!r}, one an example, to keep examples by"
            )
        chosen &= kept.astype(bool)
    whole = Labelled(images.astype(images.dtype, copy=False), classed)  # type: ignore[arg-type]
    split = arrays.get("split")
    if split is None:
        return Splits.stratified(
            whole.images[chosen], classed[chosen], classes, validation=0.1, test=0.1
        )
    parts = {name: whole.where(chosen & (split == i)) for i, name in enumerate(PARTS)}
    clips = None
    if noise:
        clips = whole.images[(labels == known.index(noise)) & (split == 0)]
        if not len(clips):
            raise TrainingError(
                f"class {noise!r} has no training examples that could serve as noise"
            )
    return Splits(**parts, classes=classes, noise=clips, credit=str(arrays.get("credit", "")))
