"""The report as files: JSON under names that users of FINN know, and plots."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trencadis_compiler.errors import CompileError
from trencadis_compiler.place import Placement
from trencadis_hw.container import ContainerError, write_atomically

__all__ = ["write_report"]


def write_report(report: Mapping[str, Any], placement: Placement, folder: Path) -> list[Path]:
    """Write a report into a folder, which is made if it is not there.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ContainerError
        If a file cannot be written.
    CompileError
        If matplotlib is missing.
    """
    try:
        plots = {"cycles.png": _cycles_plot(report), "tiles.png": _tiles_plot(placement)}
    except ImportError as error:
        raise CompileError(
            f"{folder}: plots need the package matplotlib ({error}); install it with: "
            "pip install 'trencadis[compiler]'"
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ContainerError(f"{folder}: cannot be made: {error.strerror}") from error
    cycles = {layer["name"]: layer["cycles"] for layer in report["layers"]}
    slowest = max(cycles, key=lambda name: cycles[name])
    files: dict[str, bytes] = {
        "report.json": _json(report),
        "estimate_layer_cycles.json": _json(cycles),
        "estimate_network_performance.json": _json(
            {
                "cycles_per_word": report["cycles_per_word"],
                "cycles_are": report["cycles_are"],
                "max_cycles": cycles[slowest],
                "max_cycles_node_name": slowest,
                "estimated_throughput_fps": report["clock_mhz"] * 1e6 / report["cycles_per_word"],
                "clock_mhz": report["clock_mhz"],
            }
        ),
        **plots,
    }
    for name, data in files.items():
        write_atomically(folder / name, data)
    return [folder / name for name in files]


def _json(data: object) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()


def _cycles_plot(report: Mapping[str, Any]) -> bytes:
    """Cycles of every layer, of which useful multiplications would need the dark part."""
    from matplotlib.figure import Figure

    layers = report["layers"]
    names = [layer["name"] for layer in layers]
    cycles = [layer["cycles"] for layer in layers]
    ideal = [layer["cycles"] * layer["multiplier_use"] for layer in layers]
    figure = Figure(figsize=(7, 0.6 * len(layers) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, cycles, color="#b8c9d9", label="cycles")
    axes.barh(names, ideal, color="#2f5d8a", label="if every multiplier were in use")
    axes.invert_yaxis()
    axes.set_xlabel("cycles a word")
    axes.legend(loc="lower right")
    return _png(figure)


def _tiles_plot(placement: Placement) -> bytes:
    """How full the tiles of every layer are."""
    from matplotlib.figure import Figure

    layers = placement.layers
    figure = Figure(figsize=(7, 1.3 * len(layers) + 0.6), layout="constrained")
    for axes, placed in zip(figure.subplots(len(layers), squeeze=False)[:, 0], layers, strict=True):
        packing, weights = placed.plan.packing, placed.plan.layer.weights
        rows = weights[0].size * packing.depth
        filled = [
            sum(int((weights[kernel] != 0).sum()) for kernel in tile) / rows
            for tile in packing.tiles
        ]
        axes.bar(range(len(filled)), filled, width=1.0, color="#2f5d8a")
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.5, len(filled) - 0.5)
        axes.set_title(f"{placed.plan.layer.name}: part of each tile that is filled", fontsize=9)
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
