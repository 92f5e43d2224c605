"""Curves of a training as a picture. The only module of the trainers that needs matplotlib."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trencadis_hw.container import write_atomically
from trencadis_train.metrics import EpochMetrics

__all__ = ["draw_curve"]


def draw_curve(path: Path, rows: Sequence[EpochMetrics], title: str) -> None:
    """Draw loss and accuracy over epochs; the integers' epochs follow those of real numbers.

    Parameters
    ----------
    path : Path
        A PNG file; it appears complete or not at all.
    rows : sequence of EpochMetrics
        In order.
    title : str
        Over the picture.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title)
    loss, accuracy = figure.subplots(1, 2)
    epochs = range(1, len(rows) + 1)
    trained = [(number, row) for number, row in zip(epochs, rows, strict=True) if row.epoch]
    places = [number for number, _ in trained]
    loss.plot(places, [row.loss for _, row in trained], label="training")
    loss.plot(epochs, [row.validation_loss for row in rows], label="validation")
    accuracy.plot(places, [100 * row.accuracy for _, row in trained], label="training")
    accuracy.plot(epochs, [100 * row.validation_accuracy for row in rows], label="validation")
    first = next(
        (number for number, row in zip(epochs, rows, strict=True) if row.phase != "float"), 0
    )
    for axes, label in ((loss, "loss"), (accuracy, "accuracy, %")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if first:
            axes.axvline(first - 0.5, color="grey", linestyle=":", label="integers")
        axes.legend()
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(path, picture.getvalue())
