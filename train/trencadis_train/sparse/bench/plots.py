"""Time and memory of large networks against their connections."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from trencadis_train.sparse.plots import save_figure

__all__ = ["draw_scale"]


def draw_scale(path: Path, parts: dict[str, dict[str, Any]]) -> None:
    """Draw CPU seconds of a step and peak memory against connections, both with logarithmic axes.

    Parameters
    ----------
    path : Path
        A PNG file.
    parts : mapping
        Results; those of `scale-...` without a window are drawn.
    """
    rows = sorted(
        (part for name, part in parts.items() if name.startswith("scale-") and not part["window"]),
        key=lambda part: part["connections"],
    )
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle("Sparse networks by size, measured: time of a training step, and memory")
    time, memory = figure.subplots(1, 2)
    connections = [part["connections"] for part in rows]
    seconds = [
        1e-9 * 16 * part["ns_per_connection_and_sample"] * part["connections"] for part in rows
    ]
    time.plot(connections, seconds, marker="o")
    time.set_ylabel("CPU seconds of a step of 16 samples")
    memory.plot(connections, [part["peak_bytes"] / 1e9 for part in rows], marker="o")
    memory.set_ylabel("peak memory, GB")
    for axes in (time, memory):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("connections")
        axes.grid(alpha=0.3)
    save_figure(path, figure)
