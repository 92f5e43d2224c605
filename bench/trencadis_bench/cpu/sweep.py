"""Layers over densities: ours beside onnxruntime, and from which density on we are faster."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trencadis_bench.cpu.layers import LayerShape, Runner, layer_model, random_weights
from trencadis_bench.cpu.timing import rates
from trencadis_format.files import write_atomically
from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_host.devices.cpu.paths import Path as CpuPath

__all__ = ["LAYERS", "plot_sweep", "sweep"]

LAYERS = (
    LayerShape("CNN: 64 to 64, 5x5 on 14x14", 14, 64, 64, 5),
    LayerShape("MLP: 1600 to 1500", 1, 1600, 1500),
    LayerShape("ResNet: 256 to 256, 3x3 on 14x14", 14, 256, 256, 3),
    LayerShape("BERT: 768 to 3072, 121 tokens", 11, 768, 3072),
)
"""Times that networks of each kind spend, by what they are spent on."""

ZEROS = (0.0, 0.5, 0.75, 0.875, 0.95, 0.99)
"""Fractions of the weights."""

SAMPLES = 32


def sweep(path: CpuPath, *, seconds: float = 0.1) -> list[dict[str, Any]]:
    """Microseconds per sample of every layer at every density.

    Parameters
    ----------
    path : Path
        Instructions to use.
    seconds : float
        CPU seconds of a turn.

    Returns
    -------
    list of dict
        `layer`, `zeros`, `cpu`, `onnxruntime` (microseconds), `kernel`; in each layer's first entry
        `faster_from`, the smallest fraction of zeros from which ours is faster, or None.
    """
    rng = np.random.default_rng(0)
    found = []
    for shape in LAYERS:
        samples = 4 if shape.name.startswith("BERT") else SAMPLES
        entries = []
        for zeros in ZEROS:
            weights = random_weights(shape, 1 - zeros, rng)
            ours = Runner(shape, weights, path, samples)
            model = layer_model(shape, weights).SerializeToString()
            theirs = open_session(model, Mode.BASELINE, threads=1)
            maps = ours.samples.reshape(samples, shape.size, shape.size, shape.channels)
            inputs = np.ascontiguousarray(maps.transpose(0, 3, 1, 2))
            runs: dict[str, Callable[[], object]] = {
                "cpu": ours,
                "onnxruntime": lambda theirs=theirs, inputs=inputs: theirs.run(None, {"x": inputs}),
            }
            measured = rates(runs, repetitions=3, seconds=seconds)
            taken = {
                key: 1e6 / float(np.median(values)) / samples for key, values in measured.items()
            }
            entries.append({"layer": shape.name, "zeros": zeros, "kernel": ours.kernel, **taken})
        slower = [entry["zeros"] for entry in entries if entry["cpu"] > entry["onnxruntime"]]
        faster = [zeros for zeros in ZEROS if zeros > max(slower, default=-1.0)]
        entries[0]["faster_from"] = min(faster, default=None)
        found += entries
    return found


def plot_sweep(entries: list[dict[str, Any]], path: Path) -> None:
    """Write a plot of a sweep as PNG."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle("Layers by their zeros, measured: the device cpu beside onnxruntime (int8)")
    axes = figure.subplots(2, 2).ravel()
    for axis, shape in zip(axes, LAYERS, strict=True):
        rows = [entry for entry in entries if entry["layer"] == shape.name]
        zeros = [100 * row["zeros"] for row in rows]
        for key, mark in (("cpu", "o-"), ("onnxruntime", "s--")):
            axis.plot(zeros, [row[key] for row in rows], mark, label=key)
        for row in rows:
            axis.annotate(row["kernel"], (100 * row["zeros"], row["cpu"]), fontsize=7)
        axis.set_title(shape.name)
        axis.set_xlabel("zeros, %")
        axis.set_ylabel("microseconds per sample, one thread")
        axis.set_yscale("log")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())
