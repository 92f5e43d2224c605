"""Samples whose classes are known, run through a network and the models that it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.table import Table
from rich.text import Text

from trencadis_format.errors import InputError
from trencadis_format.tensor_formats import TensorFormat
from trencadis_host.measure.accuracy import (
    Accuracy,
    accuracy_of,
    load_labels,
    model_accuracy,
    scores_name,
)

__all__ = ["LabelOptions", "Labelled", "accuracy_table", "label_samples"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LabelOptions:
    """Options of a command line about labels.

    Attributes
    ----------
    labels : Path or None
        The classes of the samples.
    scores : str or None
        The output that has the scores.
    models : mapping of str to Path or None
        ONNX files to count beside the network, by what they are called.
    """

    labels: Path | None = None
    scores: str | None = None
    models: Mapping[str, Path | None] | None = None


@dataclass(frozen=True)
class Labelled:
    """Labels, and what models on onnxruntime make of the samples.

    Attributes
    ----------
    labels : int64 array, shape (samples,)
        The right classes.
    scores : str
        The network's output that has the scores.
    beside : mapping of str to Accuracy
        The models' accuracies by what the models are called.
    """

    labels: npt.NDArray[np.int64]
    scores: str
    beside: Mapping[str, Accuracy]

    def accuracies(self, image: Path, outputs: Mapping[str, Array]) -> dict[str, Accuracy]:
        """The accuracy of a compiled network, then those beside it.

        Raises
        ------
        InputError
            If the output is no scores of classes.
        """
        what = f"{image}: output {self.scores!r}"
        return {"image": accuracy_of(outputs[self.scores], self.labels, what), **self.beside}


def label_samples(
    options: LabelOptions,
    image: Path,
    outputs: Sequence[TensorFormat],
    feed: Mapping[str, Array],
) -> Labelled | None:
    """Load labels, and count the models beside a network; None if nothing was asked for.

    Parameters
    ----------
    options : LabelOptions
        What was asked for.
    image : Path
        The compiled network.
    outputs : sequence of TensorFormat
        Its outputs.
    feed : mapping of str to array
        Its inputs by name.

    Raises
    ------
    InputError
        If labels or models do not fit the network and its inputs.
    """
    models = {name: path for name, path in (options.models or {}).items() if path is not None}
    if options.labels is None:
        given = [f"--{name}" for name in models] + ["--scores"] * (options.scores is not None)
        if given:
            raise InputError(f"{given[0]} is for counting classes: give --labels y.npy, too")
        return None
    scores = scores_name([form.name for form in outputs], options.scores, str(image))
    first = next(iter(feed.values()), None)
    labels = load_labels(options.labels, len(first) if first is not None and first.ndim else 1)
    (form,) = (form for form in outputs if form.name == scores)
    if None not in form.shape[1:]:  # what can be said before anything is computed
        sizes = [size for size in form.shape[1:] if size is not None]
        declared = np.zeros((len(labels), *sizes), form.dtype)
        accuracy_of(declared, labels, f"{image}: output {scores!r}")
    beside = {name: model_accuracy(path, feed, labels, scores) for name, path in models.items()}
    return Labelled(labels, scores, beside)


def accuracy_table(accuracies: Mapping[str, Accuracy]) -> Table:
    """A row for each model; top-5 only where there are more classes."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model")
    five = any(accuracy.among_five is not None for accuracy in accuracies.values())
    wrong = any(accuracy.not_numbers for accuracy in accuracies.values())
    headings = ["top-1", *["top-5"] * five, "right", "samples", *["not numbers"] * wrong]
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, accuracy in accuracies.items():
        cells = [f"{accuracy.right / accuracy.samples:.2%}"]
        if five:
            top5 = accuracy.among_five
            cells.append("" if top5 is None else f"{top5 / accuracy.samples:.2%}")
        cells += [f"{accuracy.right:,}", f"{accuracy.samples:,}"]
        table.add_row(Text(name), *cells, *[f"{accuracy.not_numbers:,}"] * wrong)
    return table
