"""A search as a picture: errors against density, with the front."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from trencadis_format.files import write_atomically
from trencadis_train.search.search import Found, SearchPlan
from trencadis_train.training.plots import show_errors

__all__ = ["draw_found"]


def draw_found(path: Path, found: Sequence[Found], plan: SearchPlan) -> None:
    """Draw all trained trials, a colour a stage, and the thresholds.

    Parameters
    ----------
    path : Path
        A PNG file; it appears complete or not at all.
    found : sequence of Found
        Trials.
    plan : SearchPlan
        Plan that they belong to.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    trained = [trial for trial in found if trial.state == "complete"]
    for stage, epochs in enumerate(plan.epochs):
        places = [_place(trial) for trial in trained if trial.stage == stage]
        if places:
            axes.scatter(
                *zip(*places, strict=True),
                s=18,
                alpha=0.7,
                label=f"{epochs} epochs" if epochs != 1 else "1 epoch",
            )
    front = sorted(_place(trial) for trial in trained if trial.front)
    if front:
        axes.plot(*zip(*front, strict=True), "o-", mfc="none", color="black", label="front")
    axes.axhline(100 * (1 - plan.least_accuracy), color="grey", linestyle=":", label="thresholds")
    axes.axvline(100 * plan.most_density, color="grey", linestyle=":")
    axes.set_xlabel("weights that may be other than zero, %")
    axes.set_ylabel("wrong on validation, %")
    axes.set_title(f"{plan.name}: trials by their epochs; better is lower and further left")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    show_errors(axes)
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(path, picture.getvalue())


def _place(trial: Found) -> tuple[float, float]:
    assert trial.density is not None
    assert trial.accuracy is not None
    return 100 * trial.density, 100 * (1 - trial.accuracy)
