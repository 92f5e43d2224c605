"""Pictures of trainings of the engine `sparse`: gradients, connections, neurons by layer."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trencadis_format.files import write_atomically
from trencadis_train.sparse.history import LayerMetrics

__all__ = ["HISTORY_PICTURE", "draw_history", "save_figure"]

HISTORY_PICTURE = "topology.png"

PANELS: tuple[tuple[str, Callable[[LayerMetrics], float]], ...] = (
    ("norm of the gradient", lambda line: line.gradient_norm),
    ("connections", lambda line: line.connections),
    ("connections changed, %", lambda line: 100 * line.changed / max(line.connections, 1)),
)


def draw_history(path: Path, lines: Sequence[LayerMetrics], title: str) -> None:
    """Draw the norm of the gradient, connections and their changes by layer over epochs.

    Parameters
    ----------
    path : Path
        A PNG file; it appears complete or not at all.
    lines : sequence of LayerMetrics
        Lines, in order.
    title : str
        Above the picture.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(PANELS))
    for axes, (label, value) in zip(panels, PANELS, strict=True):
        for layer in sorted({line.layer for line in lines}):
            own = [line for line in lines if line.layer == layer]
            axes.plot([line.epoch for line in own], [value(line) for line in own], label=f"{layer}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.margins(x=0.02)
    panels[0].set_yscale("symlog", linthresh=1e-4)
    panels[1].set_yscale("log")
    panels[2].set_ylim(bottom=0)
    if lines:
        panels[0].legend(title="layer")
    save_figure(path, figure)


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG; the file appears complete or not at all."""
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(path, picture.getvalue())
