"""Accuracy: how often the largest scores are those of the right classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.errors import InputError
from trencadis_format.files import load_array
from trencadis_host.measure.onnx_model import OnnxModel

__all__ = ["Accuracy", "accuracy_of", "load_labels", "model_accuracy", "scores_name"]

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]

TOP = 5


@dataclass(frozen=True)
class Accuracy:
    """Number of samples that are classified well.

    Attributes
    ----------
    samples : int
        Samples.
    right : int
        Samples whose class has the largest score. Of equal scores the first counts.
    among_five : int or None
        Samples whose class is among the five largest; None where there are no more than five.
    not_numbers : int
        Samples with a score that is not a number; they count as wrong.
    """

    samples: int
    right: int
    among_five: int | None
    not_numbers: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Shares and counts, JSON-ready."""
        top5 = None if self.among_five is None else self.among_five / self.samples
        return {
            "top1": self.right / self.samples,
            "top5": top5,
            "right": self.right,
            "samples": self.samples,
            "not_numbers": self.not_numbers,
        }


def load_labels(path: Path, samples: int) -> Labels:
    """Load the classes of samples: an .npy file with one integer, from 0, for each.

    Raises
    ------
    InputError
        If shape, type or number are others.
    """
    labels = load_array(path)
    if labels.dtype.kind not in "iu":
        raise InputError(
            f"{path}: labels must be integers, one for each sample, not {labels.dtype}; save them "
            "with .astype('int64')"
        )
    if labels.shape != (samples,):
        raise InputError(
            f"{path}: labels must have shape [{samples}], one for each sample of the input, not "
            f"{list(labels.shape)}"
        )
    outside = np.flatnonzero((labels < 0) | (labels > np.iinfo(np.int64).max))
    if outside.size:
        first = int(outside[0])
        raise InputError(f"{path}: labels must be from 0, but label {first} is {labels[first]}")
    return labels.astype(np.int64)


def scores_name(names: Sequence[str], wanted: str | None, what: str) -> str:
    """The output that has the scores.

    Parameters
    ----------
    names : sequence of str
        All outputs.
    wanted : str, optional
        The one that was asked for.
    what : str
        Whose outputs they are, for messages.

    Raises
    ------
    InputError
        If it is not there, or none was asked for and there are several.
    """
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is not None and wanted in names:
        return wanted
    rule = "none is" if wanted is not None else "choose one by"
    name = f" {wanted!r}" if wanted is not None else " --scores NAME"
    raise InputError(f"{what}: its outputs are {list(names)}; {rule}{name}")


def accuracy_of(scores: Array, labels: Labels, what: str) -> Accuracy:
    """Count samples that are classified well.

    Parameters
    ----------
    scores : array, shape (samples, classes, ...) or (samples, ...)
        Scores, further axes of size 1; or, as integers with all further axes of size 1, the
        classes themselves.
    labels : int64 array, shape (samples,)
        The right classes.
    what : str
        Whose output it is, for messages.

    Raises
    ------
    InputError
        If the output is neither, or there are fewer classes than labels name.
    """
    samples, shape = len(labels), list(scores.shape)
    if scores.shape[:1] == (samples,) and scores.size == samples and scores.dtype.kind in "iu":
        right = scores.reshape(samples).astype(np.int64) == labels
        return Accuracy(samples, int(np.count_nonzero(right)), None)
    classes = max(scores.shape[1:], default=1)
    if scores.shape[:1] != (samples,) or classes * samples != scores.size or not classes:
        raise InputError(
            f"{what} has shape {shape}, where scores of classes have [{samples}, classes]; "
            "--labels needs a classifier"
        )
    if scores.size == samples:
        raise InputError(
            f"{what} has one score for each sample, which is always the largest; --labels needs a "
            "classifier of two classes or more"
        )
    table = scores.reshape(samples, -1).astype(np.float64)
    if labels.max() >= classes:
        first = int(np.argmax(labels >= classes))
        raise InputError(
            f"{what} has scores of classes 0 to {classes - 1}, but label {first} is "
            f"{labels[first]}; give the labels of this model"
        )
    own = table[np.arange(samples), labels, None]
    before = np.arange(classes) < labels[:, None]
    rank = np.count_nonzero((table > own) | ((table == own) & before), axis=1)
    numbers = ~np.isnan(table).any(axis=1)
    return Accuracy(
        samples=samples,
        right=int(np.count_nonzero(numbers & (rank == 0))),
        among_five=int(np.count_nonzero(numbers & (rank < TOP))) if classes > TOP else None,
        not_numbers=int(np.count_nonzero(~numbers)),
    )


def model_accuracy(path: Path, feed: Mapping[str, Array], labels: Labels, scores: str) -> Accuracy:
    """The accuracy of an ONNX file on the same samples, by onnxruntime.

    Parameters
    ----------
    path : Path
        The file.
    feed : mapping of str to array
        The network's inputs by name.
    labels : int64 array, shape (samples,)
        The right classes.
    scores : str
        The network's output that was counted. The only one may be called otherwise in the file.

    Raises
    ------
    InputError
        If the file cannot be run on the inputs, or its output has no scores.
    """
    model = OnnxModel(path, list(feed))
    only = len(model.outputs) == 1
    name = scores_name(model.outputs, None if only else scores, str(path))
    output = model.run(feed, [name])[name]
    return accuracy_of(output, labels, f"{path}: output {name!r}")
