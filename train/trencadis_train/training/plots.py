"""Curves of a training as a picture. The only module of the trainers that needs matplotlib."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from trencadis_format.files import write_atomically
from trencadis_train.training.metrics import EpochMetrics

__all__ = ["PICTURE", "draw_curve", "show_errors"]

PICTURE = "curves.png"
"""File of the curves."""

MAX_MARKED = 20
"""Fewer epochs are drawn as points on the line: one alone would be invisible."""


def draw_curve(path: Path, rows: Sequence[EpochMetrics], title: str) -> None:
    """Draw loss and error over epochs; the integers' epochs follow those of real numbers.

    Parameters
    ----------
    path : Path
        A PNG file; it appears complete or not at all.
    rows : sequence of EpochMetrics
        Rows, in order.
    title : str
        Over the picture.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title)
    loss, error = figure.subplots(1, 2)
    marker = ".-" if len(rows) < MAX_MARKED else "-"
    epochs = range(1, len(rows) + 1)
    trained = [(number, row) for number, row in zip(epochs, rows, strict=True) if row.epoch]
    places = [number for number, _ in trained]
    loss.plot(places, [row.loss for _, row in trained], marker, label="training")
    loss.plot(epochs, [row.validation_loss for row in rows], marker, label="validation")
    error.plot(places, [100 * (1 - row.accuracy) for _, row in trained], marker, label="training")
    error.plot(
        epochs, [100 * (1 - row.validation_accuracy) for row in rows], marker, label="validation"
    )
    show_errors(error)
    first = next(
        (number for number, row in zip(epochs, rows, strict=True) if row.phase != "float"), 0
    )
    for axes, label in ((loss, "cross-entropy and penalties"), (error, "wrong, %")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.margins(x=0.02)
        if first:
            axes.axvline(first - 0.5, color="grey", linestyle=":", label="integers from here")
        axes.legend()
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(path, picture.getvalue())


def show_errors(axes: Axes) -> None:
    """Make an axis of errors in per cent logarithmic down to 0.1: good ones differ by little."""
    axes.set_yscale("symlog", linthresh=0.1, linscale=0.3)
    axes.set_yticks([0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 100)
