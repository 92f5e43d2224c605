"""The report as files: a page to look at, and JSON under names that users of FINN know."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from trencadis_compiler.mapping.place import Placement
from trencadis_compiler.maps.place import MapPlacement
from trencadis_compiler.report.page.write import html_page
from trencadis_format.files import make_folder, write_atomically

__all__ = ["write_report"]


def write_report(
    report: Mapping[str, Any],
    placements: Sequence[Placement | MapPlacement],
    folder: Path,
    *,
    title: str,
    boards: Sequence[Mapping[str, Any]] = (),
    quantised: onnx.ModelProto | None = None,
) -> list[Path]:
    """Write a report into a folder, which is made if it is not there.

    The quantised copy of a float model, by which it is judged, is kept there as well.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    FileError
        If a file cannot be written.
    CompileError
        If Jinja2 is missing.
    """
    page = html_page(report, placements, title=title, boards=boards)
    make_folder(folder)
    cycles = {layer["name"]: layer["cycles"] for layer in report["layers"]}
    slowest = max(cycles, key=lambda name: cycles[name], default="")
    period = report["cycles_per_word"]
    files: dict[str, bytes] = {
        "report.json": _json(report),
        "estimate_layer_cycles.json": _json(cycles),
        "estimate_network_performance.json": _json(
            {
                "cycles_per_word": report["cycles_per_word"],
                "cycles_are": report["cycles_are"],
                "max_cycles": cycles.get(slowest, 0),
                "max_cycles_node_name": slowest,
                "estimated_throughput_fps": report["clock_mhz"] * 1e6 / period if period else None,
                "clock_mhz": report["clock_mhz"],
            }
        ),
        "index.html": page.encode(),
    }
    if quantised is not None:
        files["quantised.onnx"] = quantised.SerializeToString(deterministic=True)
    for name, data in files.items():
        write_atomically(folder / name, data)
    return [folder / name for name in files]


def _json(data: object) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()
